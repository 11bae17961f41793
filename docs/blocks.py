"""The code blocks of the pages: read, run, and their pictures kept.

`python docs/blocks.py` runs every page and lays what its blocks painted into
`docs/pictures/`; the tests run the same blocks elsewhere.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parent
_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>[^\n]+) -->\n)?```python\n(?P<code>.*?)^```$",
    re.M | re.S,
)


class Block(NamedTuple):
    """A block of Python.

    Args:
        line: Where its code begins in the page, from 1.
        code: The code.
        why_not: Why it is not run; `None` where it is.
    """

    line: int
    code: str
    why_not: str | None


def pages() -> list[Path]:
    """Every page with Markdown, the README first."""
    own = (page for page in DOCS.rglob("*.md") if "_build" not in page.parts)
    return [DOCS.parent / "README.md", *sorted(own)]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in their order."""
    text = page.read_text("utf-8")
    return [
        Block(text.count("\n", 0, found.start("code")) + 1, found["code"], found["why"])
        for found in _BLOCK.finditer(text)
    ]


#: How a reason begins of a block that can be run, with patience.
LONG = "takes a minute"


_STEPS = re.compile(r"\bnum_steps=(\d+)")


def run(page: Path, long: bool = False, most_steps: int | None = None) -> None:
    """Runs a page's blocks one after the other, with the same names, in this folder.

    Args:
        page: The page.
        long: Whether those are run as well that take a minute.
        most_steps: How many steps a block may ask for by number; `None` for as many as
            it says.
    """
    names = {"__name__": "__main__"}
    for block in blocks(page):
        if block.why_not is None or long and block.why_not.startswith(LONG):
            # Padded, so that a traceback has the page's own line.
            code = "\n" * (block.line - 1) + block.code
            if most_steps is not None:
                code = _STEPS.sub(
                    lambda said: f"num_steps={min(int(said[1]), most_steps)}", code
                )
            exec(compile(code, str(page), "exec"), names)  # noqa: S102


def paint(page: Path) -> list[str]:
    """Runs a page and keeps what it painted; returns the pictures' names."""
    before, text = os.getcwd(), page.read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            run(page)
            shown = [name for name in os.listdir() if f"pictures/{name})" in text]
            for name in shown:
                shutil.copyfile(name, DOCS / "pictures" / name)
        finally:
            os.chdir(before)
    return shown


if __name__ == "__main__":
    (DOCS / "pictures").mkdir(exist_ok=True)
    for each in [DOCS / name for name in sys.argv[1:]] or pages():
        print(each.relative_to(DOCS.parent), *paint(each))
