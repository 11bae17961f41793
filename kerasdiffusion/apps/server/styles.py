"""Styles: words around a prompt, by name; some of our own, and those of a file.

Reference:
    `modules/styles.py` of AUTOMATIC1111/stable-diffusion-webui, 1.10.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.requests.kinds import near
from kerasdiffusion.storage.bounds import BOUNDS, check_bound, shown
from kerasdiffusion.storage.reading import read_bounded

#: Where in a style's words the prompt stands.
PLACE = "{prompt}"


class Style(NamedTuple):
    """Words around a prompt.

    Args:
        prompt: Them, with the prompt at `PLACE`; behind it, where there is none.
        negative_prompt: The same around what to keep away from.
    """

    prompt: str
    negative_prompt: str = ""


#: Those that are always there.
OWN = {
    "Photograph": Style(
        "photograph of {prompt}, natural light, fine detail, sharp focus",
        "drawing, painting, blurry, oversaturated",
    ),
    "Film": Style(
        "film still of {prompt}, 35 mm, grain, shallow depth of field",
        "drawing, text, watermark",
    ),
    "Watercolour": Style(
        "watercolour of {prompt}, wet paper, soft edges",
        "photograph, sharp lines",
    ),
    "Oil": Style(
        "oil painting of {prompt}, thick brush strokes, canvas",
        "photograph, flat colours",
    ),
    "Ink": Style(
        "ink drawing of {prompt}, black lines on white paper",
        "colour, photograph",
    ),
    "Sticker": Style(
        "{prompt}, sticker, thick outline, flat colours, plain background",
        "photograph, shadows, texture",
    ),
    "Pixels": Style(
        "pixel art of {prompt}, few colours", "photograph, blurry, gradients"
    ),
    "Clay": Style("{prompt} made of clay, studio light, soft shadows", "drawing, text"),
    "Isometric": Style(
        "isometric model of {prompt}, plain background", "photograph, text"
    ),
}


class Styles:
    """The styles that may be named; a file's are read anew where it has changed.

    Args:
        file: A table with the columns `name`, `prompt` and `negative_prompt`, as the
            web UI writes `styles.csv`; there need be none.
        must_be: Whether it is an error that there is no such file.

    Raises:
        OSError: If there must be a file and is none.
        ValueError: If it is no such table.

    Example:

    >>> Styles().around("a cat", "", ["Ink"])
    ('ink drawing of a cat, black lines on white paper', 'colour, photograph')
    """

    def __init__(self, file: str | os.PathLike | None = None, must_be: bool = False):
        self._file = None if file is None else Path(file)
        self._found: dict[str, Style] = {}
        self._seen: tuple | None = None
        if self._file is not None and self._file.exists():
            self._read()
        elif must_be:
            read_styles(self._file)  # says so

    def all(self) -> dict[str, Style]:
        """Every style by its name: our own, and the file's, which may replace them.

        Raises:
            Refused: If the file has become none.
        """
        try:
            if self._file is None or not self._file.exists():
                self._found, self._seen = {}, None
            else:
                self._read()
        except (OSError, ValueError) as error:
            message = str(error).replace(str(self._file), self._file.name)
            raise Refused(500, f"The styles cannot be read: {message}") from None
        return OWN | self._found

    def around(
        self, prompt: str, negative: str, names: Sequence[str]
    ) -> tuple[str, str]:
        """A prompt and a negative prompt with styles around them, in their order.

        Raises:
            Refused: If there is no such style.
            ValueError: If a prompt becomes too long.
        """
        if not names:
            return prompt, negative
        known = self.all()
        for name in names:
            if name not in known:
                raise Refused(
                    404,
                    f"A style must be one of {', '.join(list(known)[:50])}."
                    f"{near(name, list(known))} Received: {shown(name)}",
                    "styles",
                )
            style = known[name]
            prompt = _merged(style.prompt, prompt)
            negative = _merged(style.negative_prompt, negative)
        return prompt, negative

    def _read(self) -> None:
        there = self._file.stat()
        seen = there.st_mtime_ns, there.st_size, there.st_ino
        if seen != self._seen:
            self._found, self._seen = read_styles(self._file), seen


def read_styles(file: str | os.PathLike) -> Mapping[str, Style]:
    """The styles of a file by name; rows that begin with `#` are remarks.

    Args:
        file: As of `Styles`. The oldest files have `text` for `prompt`, and no other.

    Raises:
        OSError: If there is none, or it may not be read.
        ValueError: If it is no such table.
    """
    content = read_bounded(file, "styles")
    try:
        text = content.decode("utf-8-sig")
        rows = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
        columns = rows.fieldnames or ()
        words = "prompt" if "prompt" in columns else "text"
        if "name" not in columns or words not in columns:
            raise ValueError(f"it has the columns {', '.join(map(str, columns))}")
        found = {}
        for row in rows:
            name = row["name"] or ""
            if name and not name.startswith("#"):
                found[name] = Style(row[words] or "", row.get("negative_prompt") or "")
    except (ValueError, csv.Error) as error:
        raise ValueError(
            "A file of styles must be a table in UTF-8, with commas between the "
            "columns name, prompt and negative_prompt. "
            f"Received: {file} ({shown(str(error))})"
        ) from None
    return found


def _merged(words: str, prompt: str) -> str:
    """A style's words and a prompt."""
    if PLACE in words:
        length = len(words) + words.count(PLACE) * len(prompt)
        check_bound("prompt_characters", length, "a prompt with its styles")
        return words.replace(PLACE, prompt)
    return ", ".join(filter(None, (prompt.strip(), words.strip())))


#: What JSON must be that names styles.
SCHEMA = {"type": "array", "items": {"type": "string"}}


def names_of(given) -> list[str]:
    """The names in a field of JSON.

    Raises:
        Refused: If it is no list of names.
    """
    given = [] if given is None else given
    if not isinstance(given, list) or not all(isinstance(x, str) for x in given):
        rule = "`styles` must be a list of names."
        raise Refused(422, f"{rule} Received: {shown(given, 60)}", "styles")
    most = BOUNDS["server_pictures"].most
    if len(given) > most:
        raise Refused(422, f"`styles` must be at most {most} names.", "styles")
    return given
