"""Makes the small font beside this file: `python build_font.py NotoColorEmoji.ttf`.

Wants fontTools, which nothing else here does.
"""

import sys
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

from kerasdiffusion.datasets import STARTER
from kerasdiffusion.datasets.emoji import find

NAMES = (*STARTER, "black cat")


def ligatures(font: TTFont) -> dict[tuple[str, ...], str]:
    """Sequences of glyphs to the one that stands for them."""
    found = {}
    for lookup in font["GSUB"].table.LookupList.Lookup:
        for table in lookup.SubTable:
            table = getattr(table, "ExtSubTable", table)
            for first, rest in getattr(table, "ligatures", {}).items():
                found |= {(first, *each.Component): each.LigGlyph for each in rest}
    return found


def main(source: str) -> None:
    font = TTFont(source)
    characters, whole = font.getBestCmap(), ligatures(font)
    wanted = [find(name).emoji for name in NAMES]
    glyphs = [
        whole.get(tuple(characters[ord(c)] for c in each if ord(c) in characters))
        for each in wanted
    ]
    options = subset.Options(
        layout_closure=False, layout_features=["*"], name_IDs=["*"], drop_tables=[]
    )
    cutter = subset.Subsetter(options)
    cutter.populate(text="".join(wanted), glyphs=[each for each in glyphs if each])
    cutter.subset(font)
    font.save(Path(__file__).with_name("NotoColorEmoji-starter.ttf"))


if __name__ == "__main__":
    main(sys.argv[1])
