"""Cells of a row as values of a request's fields."""

from __future__ import annotations

import io
import math
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path

from kerasdiffusion.batch.rows import Rows
from kerasdiffusion.requests.as_json import is_writable
from kerasdiffusion.requests.fields import Field
from kerasdiffusion.requests.kinds import Whole, near
from kerasdiffusion.requests.objects import Controls, Picture, Seed
from kerasdiffusion.requests.request import FIELDS
from kerasdiffusion.requests.several import Size
from kerasdiffusion.storage.bounds import shown
from kerasdiffusion.storage.reading import parse_json

#: Columns beside the fields of a request.
NAME, TASK = "name", "task"
SIZES = ("size", "width", "height")
#: Fields by the names that columns may have: their own, and their flags'.
COLUMNS: dict[str, Field] = {
    **{
        each.asked.flag.name.replace("-", "_"): each
        for each in FIELDS.values()
        if is_writable(each) and each.asked.flag and each.asked.flag.name
    },
    **{name: each for name, each in FIELDS.items() if is_writable(each)},
}
#: Whole numbers up to here are the same as floats.
_EXACT = 2**53


def check_known(names, keep: Sequence[str], what: str) -> None:
    """That names are columns, or kept.

    Raises:
        ValueError: If one is not; with those that are like it.
    """
    known = {NAME, TASK, *SIZES, *COLUMNS, *keep}
    for name in names:
        if name not in known:
            raise ValueError(
                f"{what.capitalize()} must be a field of a request, or named as one "
                f"that is kept (--keep, `keep`).{near(name, sorted(known))} "
                f"Received: {shown(name)}"
            )


def values_of(row: Mapping, rows: Rows, keep: Sequence[str]) -> dict:
    """A row's fields by the request's names, and its task and size."""
    values: dict = {}
    for column, value in row.items():
        if column in (NAME, TASK, *SIZES):
            if column != NAME:
                values[column] = value
            continue
        own = COLUMNS.get(column)
        if own is None:
            if column not in keep:
                check_known([column], keep, "a column")
            continue
        if own.name in values:
            raise ValueError(f"`{own.name}` must be given once. Received: {column} too")
        values[own.name] = _value(own, value, rows)
    return values


def _value(own: Field, value, rows: Rows):
    """A cell as `Request` takes it."""
    kind = own.asked.kind
    if isinstance(kind, Controls):
        return _controls(value, own.name)
    if rows.is_text:
        value = kind.parse(value)
    elif isinstance(kind, (Whole, Seed)) and isinstance(value, float):
        if value.is_integer() and abs(value) <= _EXACT:
            value = int(value)  # as tables with gaps have whole numbers
    if isinstance(kind, Picture):
        return _picture(value, own.name, rows)
    return kind.from_json(value, own.name)


def _controls(value, name: str):
    if isinstance(value, str):
        value = parse_json(value, name)
    is_json = isinstance(value, (Mapping, list)) and "picture" in str(value)[:10_000]
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    is_json = is_json and isinstance(first, Mapping)
    return Controls().from_json(value, name) if is_json else value


def _picture(value, name: str, rows: Rows):
    """A picture: a path beside the table, bytes of a file, or what JSON has."""
    if isinstance(value, list):
        return [_picture(each, name, rows) for each in value]
    if isinstance(value, Mapping) and "bytes" in value:  # as `datasets` has them
        value = value["bytes"] or value.get("path")
    if isinstance(value, str):
        return _of_name(value, name, rows)
    if isinstance(value, bytes):
        return _of_bytes(value, name)
    return Picture().from_json(value, name)


def _of_name(value: str, name: str, rows: Rows):
    """A picture by its path, from the table's folder, be that on a disk or not."""
    if rows.folder is None:
        return str(Path.cwd() / value)
    if rows.folder.is_on_disk:
        return str(rows.folder.path / value)
    content = rows.folder.read(value)
    if content is None:
        raise FileNotFoundError(
            f"`{name}` must be a picture below the table's own place. "
            f"Received: {shown(value)} in {rows.folder}"
        )
    return _of_bytes(content, name)


def _of_bytes(content: bytes, name: str):
    from PIL import Image

    from kerasdiffusion.pictures.formats import FORMATS
    from kerasdiffusion.pictures.read import upright

    Image.init()
    known = [each for each in FORMATS if each in Image.OPEN]
    try:
        with Image.open(io.BytesIO(content), formats=known) as image:
            image.load()
            return upright(image).copy()
    except Exception as error:  # what Pillow's readers raise is of many types
        raise ValueError(
            f"`{name}` must be a picture that Pillow reads. "
            f"Received: {len(content)} bytes ({line(error)[:100]})"
        ) from None


def size_of(values: dict, constants: Mapping) -> tuple[int, int] | None:
    """Height and width that a row asks for; taken out of its values."""
    size, width, height = (values.pop(each, None) for each in SIZES)
    if width is not None or height is not None:
        if width is None or height is None or size not in (None, constants.get("size")):
            raise ValueError(
                "A row must have `size`, or `width` and `height`. "
                f"Received: size={size}, width={width}, height={height}"
            )
        size = Size().read(f"{_whole(width)}x{_whole(height)}")
    elif isinstance(size, (tuple, list)):
        size = Size().check(size, "size")
    elif size is not None:
        size = Size().read(str(_whole(size)))
    return None if size is None else tuple(size)


def _whole(value):
    """A whole number that a table with gaps has as a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def plain(value):
    """A value as JSON has it."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, Mapping):
        return {str(each): plain(own) for each, own in value.items()}
    try:
        return operator.index(value)
    except TypeError:
        return str(value)


def line(error: Exception) -> str:
    """An error for the index: one line, whatever it quotes."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) and not text:
        text = "There must be enough memory for what is asked."
    return text[:2000] or type(error).__name__
