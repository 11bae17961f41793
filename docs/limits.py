"""Writes the table of all limits into `safety.md`: `python docs/limits.py`."""

from __future__ import annotations

import sys
from pathlib import Path

PAGE = Path(__file__).with_name("safety.md")
BEGIN, END = "<!-- limits -->\n", "<!-- end of limits -->"


def table() -> str:
    """The table of `storage.bounds.BOUNDS`, as Markdown."""
    from kerasdiffusion.storage.bounds import BOUNDS

    rows = sorted((what, unit, most) for most, unit, what in BOUNDS.values())
    lines = ["| what | at most |", "| --- | --- |"]
    lines += [f"| {what} | {_number(most)} {unit} |" for what, unit, most in rows]
    return "\n".join(lines) + "\n"


def _number(most: int) -> str:
    return f"{most:,}"


def current(page: str) -> str:
    """The page with the table as it is now."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    PAGE.write_text(current(PAGE.read_text("utf-8")), "utf-8")
