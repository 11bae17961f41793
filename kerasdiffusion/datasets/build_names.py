"""Writes `assets/emoji_names.json`: the table of objects, from Unicode's own files.

Run once, where Debian's `unicode-data` and `unicode-cldr-core` are installed:
`python -m kerasdiffusion.datasets.build_names`.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from xml.etree import ElementTree

EMOJI_TEST = Path("/usr/share/unicode/emoji/emoji-test.txt")
ANNOTATIONS = (
    Path("/usr/share/unicode/cldr/common/annotations/en.xml"),
    Path("/usr/share/unicode/cldr/common/annotationsDerived/en.xml"),
)
TABLE = Path(__file__).parent.parent / "assets" / "emoji_names.json"

LICENSE = (
    "Copyright (c) 1991-2022 Unicode, Inc. All rights reserved. Distributed under "
    "the Terms of Use in https://www.unicode.org/copyright.html. Permission is "
    "hereby granted, free of charge, to any person obtaining a copy of the Unicode "
    'data files and any associated documentation (the "Data Files") or Unicode '
    'software and any associated documentation (the "Software") to deal in the '
    "Data Files or Software without restriction, including without limitation the "
    "rights to use, copy, modify, merge, publish, distribute, and/or sell copies of "
    "the Data Files or Software, and to permit persons to whom the Data Files or "
    "Software are furnished to do so, provided that either (a) this copyright and "
    "permission notice appear with all copies of the Data Files or Software, or (b) "
    "this copyright and permission notice appear in associated Documentation. THE "
    'DATA FILES AND SOFTWARE ARE PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, '
    "EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF "
    "MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT OF THIRD "
    "PARTY RIGHTS. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR HOLDERS INCLUDED IN "
    "THIS NOTICE BE LIABLE FOR ANY CLAIM, OR ANY SPECIAL INDIRECT OR CONSEQUENTIAL "
    "DAMAGES, OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, "
    "WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING "
    "OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THE DATA FILES OR "
    "SOFTWARE. Except as contained in this notice, the name of a copyright holder "
    "shall not be used in advertising or otherwise to promote the sale, use or other "
    "dealings in these Data Files or Software without prior written authorization "
    "of the copyright holder."
)

# Signs, flags and people in pairs: pictograms of a concept, not of a thing.
LEFT_OUT_GROUPS = {"Component", "Symbols", "Flags"}
LEFT_OUT_SUBGROUPS = {"family", "country-flag", "subdivision-flag"}


def is_repeat(emoji: str, name: str, known: set[str]) -> bool:
    """Whether an emoji is a skin tone, a clock face or a gendered repeat."""
    plain = emoji.replace("\ufe0f", "")
    if any("\U0001f3fb" <= c <= "\U0001f3ff" for c in plain):
        return True
    if name.endswith(("o’clock", "-thirty")):
        return True
    if "\u200d" not in plain:
        return False
    if plain.endswith(("\u200d\u2640", "\u200d\u2642")):
        return True
    neutral = "\U0001f9d1" + plain[1:]
    return plain[0] in "\U0001f468\U0001f469" and neutral in known


def read_annotations() -> dict[str, tuple[str, list[str]]]:
    """CLDR's short name and keywords by emoji (without variation selectors)."""
    names: dict[str, str] = {}
    keywords: dict[str, list[str]] = {}
    for path in ANNOTATIONS:
        for node in ElementTree.parse(path).iter("annotation"):
            emoji = node.get("cp").replace("\ufe0f", "")
            if node.get("type") == "tts":
                names[emoji] = node.text
            else:
                keywords[emoji] = [word.strip() for word in node.text.split("|")]
    return {e: (name, keywords.get(e, [])) for e, name in names.items()}


def build() -> dict:
    """The table as it is written."""
    line = re.compile(r"^([0-9A-F ]+?)\s*; fully-qualified\s*# \S+ E[\d.]+ (.+)$")
    annotations = read_annotations()
    rows, group, subgroup = [], "", ""
    for text in EMOJI_TEST.read_text(encoding="utf-8").splitlines():
        if text.startswith("# group: "):
            group = text[len("# group: ") :]
        elif text.startswith("# subgroup: "):
            subgroup = text[len("# subgroup: ") :]
        elif match := line.match(text):
            emoji = "".join(chr(int(code, 16)) for code in match[1].split())
            rows.append((emoji, match[2], group, subgroup))
    known = {row[0].replace("\ufe0f", "") for row in rows}
    kept = []
    for emoji, name, group, subgroup in rows:
        if group in LEFT_OUT_GROUPS or subgroup in LEFT_OUT_SUBGROUPS:
            continue
        if is_repeat(emoji, name, known):
            continue
        # Emoji newer than CLDR 41 have a name in emoji-test.txt alone.
        short, keywords = annotations.get(emoji.replace("\ufe0f", ""), (name, []))
        kept.append([emoji, short, subgroup, [k for k in keywords if k != short]])
    return {
        "source": "Unicode CLDR 41 annotations/en.xml (names, keywords); "
        "Unicode Emoji 15.0 emoji-test.txt (selection, order, subgroups)",
        "license": LICENSE,
        "columns": ["emoji", "name", "group", "keywords"],
        "emoji": kept,
    }


def main() -> None:
    """Write the table, one emoji a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=TABLE)
    output = parser.parse_args().output
    table = build()
    rows = table.pop("emoji")
    head = json.dumps(table, ensure_ascii=False, indent=0)[:-2]
    body = ",\n".join(
        json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows
    )
    text = f'{head},\n"emoji": [\n{body}\n]\n}}\n'
    output.write_text(text, encoding="utf-8")
    print(f"{len(rows)} emoji, {len(text.encode())} bytes: {output}")


if __name__ == "__main__":
    main()
