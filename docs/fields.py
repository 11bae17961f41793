"""The table of a request's fields, from their declarations: `python docs/fields.py`."""

from __future__ import annotations

from pathlib import Path

from kerasdiffusion.apps.flags import flag_of
from kerasdiffusion.requests.fields import TASKS
from kerasdiffusion.requests.request import FIELDS

PAGE = Path(__file__).with_name("requests.md")
BEGIN, END = "<!-- fields -->\n", "<!-- end of fields -->"


def table() -> str:
    """The rows, as Markdown."""
    rows = [
        "| field | what it is | default | flag | in a picture's text | tasks |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, field in FIELDS.items():
        own = field.asked
        default = field.default
        if own.defaults:
            default = ", ".join(
                f"{each} ({task})" for task, each in own.defaults.items()
            )
        tasks = "all" if own.tasks == TASKS else ", ".join(own.tasks)
        cells = (
            f"`{name}`",
            field.text_for(own.tasks[0]).replace("|", "\\|"),
            "" if default is None else f"`{default}`",
            "" if own.flag is None else f"`{flag_of(name)}`",
            own.label or "",
            tasks,
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def page() -> str:
    """The page with the table as it should be."""
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
