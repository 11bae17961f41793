"""Files of other people, read: regular ones alone, and never more than a limit."""

from __future__ import annotations

import json
import os
import re
import stat
from typing import BinaryIO

from kerasdiffusion.storage.bounds import (
    BOUNDS,
    Bound,
    check_bound,
    shown,
    shown_path,
)

_BLOCK = 2**20
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}
# Numbers that Python would read as another, or as infinity, or for minutes.
_ODD_NUMBER = re.compile(r"[0-9.]{300}|[eE]\+?[0-9]{3}")


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Opens a file to read: no folder, device, pipe or socket.

    A link that ends in a regular file is one. What a path stands for is asked of the
    opened file, so that nobody can exchange it between the question and the reading.

    Args:
        path: The file.

    Returns:
        An open binary file, unbuffered.

    Raises:
        OSError: If there is none, or it may not be read; the subclass that says which.
        ValueError: If it is no regular file, or the path is none that a system has.

    Example:

    >>> with open_regular("config.json") as file:
    ...     file.read(1)
    b'{'
    """
    ways = os.O_RDONLY
    for name in ("O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"):
        ways |= getattr(os, name, 0)
    try:
        # Asked once ahead, since opening some devices does something.
        _check_regular(os.stat(path), path)
        handle = os.open(path, ways)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise type(error)(
            f"There must be a file that can be read: {reason}. "
            f"Received: {shown_path(path)}"
        ) from error
    except (UnicodeError, ValueError) as error:
        if "Received" in str(error):
            raise
        raise ValueError(
            f"A file must have a name that a file can have ({error}). "
            f"Received: {shown(os.fspath(path))}"
        ) from error
    try:
        _check_regular(os.fstat(handle), path)
        return open(handle, "rb", buffering=0)
    except BaseException:
        os.close(handle)
        raise


def _check_regular(found: os.stat_result, path) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "none")
        raise ValueError(f"A file must be a regular file. Received: {path} ({kind})")


def read_bounded(path: str | os.PathLike, bound: str | Bound) -> bytes:
    """All bytes of a regular file, if they are not too many.

    Args:
        path: The file.
        bound: The limit, or its name in `BOUNDS`.

    Returns:
        The bytes. A file that grows meanwhile is read as far as the limit goes.

    Raises:
        OSError: As `open_regular`.
        ValueError: If it has more, or is no regular file.

    Example:

    >>> read_bounded("config.json", "json")
    b'{"sample_size": 64}'
    """
    most, unit, what = BOUNDS[bound] if isinstance(bound, str) else bound
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        blocks, count = [], 0
        try:
            # Of some files (in /proc) the size is stated as 0.
            while size <= most and count <= most:
                block = file.read(_BLOCK)
                if not block:
                    break
                blocks.append(block)
                count += len(block)
        except OSError as error:
            raise type(error)(
                f"The file could not be read: {error.strerror}. Received: {path}"
            ) from error
    if max(size, count) > most:
        raise ValueError(
            f"{what} has at most {most} {unit}. Received: {max(size, count)} in {path}"
        )
    return b"".join(blocks)


def decode_utf8(content: bytes, where: object) -> str:
    """Text of bytes; a byte order mark is left out.

    Args:
        content: UTF-8.
        where: Whose, for the message.

    Raises:
        ValueError: If it is not UTF-8.

    Example:

    >>> decode_utf8(b"apple", "prompts.txt")
    'apple'
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"A text must be UTF-8 ({error.reason} at byte {error.start}). "
            f"Received: {where}"
        ) from error


def read_text(path: str | os.PathLike, bound: str | Bound) -> str:
    """The text of a regular file.

    Args:
        path: The file, in UTF-8.
        bound: As in `read_bounded`.

    Raises:
        OSError: As `open_regular`.
        ValueError: As `read_bounded` and `decode_utf8`.

    Example:

    >>> read_text("config.json", "json")
    '{"sample_size": 64}'
    """
    return decode_utf8(read_bounded(path, bound), path)


def read_json(path: str | os.PathLike, bound: str | Bound = "json") -> object:
    """The value in a JSON file.

    Args:
        path: The file.
        bound: The limit of its bytes, as in `read_bounded`.

    Returns:
        What `parse_json` gives.

    Raises:
        OSError: As `open_regular`.
        ValueError: As `read_bounded` and `parse_json`.

    Example:

    >>> read_json("config.json")["sample_size"]
    64
    """
    return parse_json(read_bounded(path, bound), path, bound)


def parse_json(text: str | bytes, where: object, bound: str | Bound = "json") -> object:
    """The value of a JSON text, of bounded length, depth and numbers.

    Args:
        text: The text, or its bytes in UTF-8, UTF-16 or UTF-32.
        where: The file or the place that it is from, for messages.
        bound: The limit of its length.

    Returns:
        A dict, list, str, int, float, bool or `None`.

    Raises:
        ValueError: If it is not JSON, too long, nested too deep, of too many parts,
            states a name twice, or has a number of too many digits or beyond float64.

    Example:

    >>> parse_json('{"steps": 20}', "--options")
    {'steps': 20}
    """
    most, unit, what = BOUNDS[bound] if isinstance(bound, str) else bound
    where = shown(where) if isinstance(where, str) else where
    if len(text) > most:
        raise ValueError(
            f"{what} has at most {most} {unit}. Received: {len(text)} in {where}"
        )
    try:
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text))
        text = text.removeprefix("\ufeff")
        check_bound("json_values", text.count("[") + text.count("{"), where)
        numbers = {}
        if _ODD_NUMBER.search(text):
            numbers = {"parse_int": _integer, "parse_float": _number}
        value = json.loads(text, object_pairs_hook=_unique, **numbers)
    except _NoJSON as error:
        raise ValueError(f"{error} Received: {where}") from None
    except RecursionError:
        depth = BOUNDS["json_depth"]
        raise ValueError(
            f"{depth.what} has at most {depth.most} {depth.unit}. Received: more in "
            f"{where}"
        ) from None
    except ValueError as error:
        if "Received" in str(error):
            raise
        raise ValueError(f"A text must be JSON ({error}). Received: {where}") from error
    check_bound("json_depth", _depth(value), where)
    return value


class _NoJSON(ValueError):
    """The rule that a JSON text breaks."""


def _unique(pairs: list) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise _NoJSON(f"A JSON object states each name once, {shown(twice)} not twice.")
    return found


def _integer(text: str) -> int:
    _check_digits(text)
    return int(text)


def _number(text: str) -> float:
    _check_digits(text)
    value = float(text)
    if value in (float("inf"), -float("inf")):
        raise _NoJSON(f"A number must fit float64, unlike {shown(text)}.")
    return value


def _check_digits(text: str) -> None:
    most, unit, what = BOUNDS["json_digits"]
    if len(text) > most:
        raise _NoJSON(f"{what} has at most {most} {unit}, not {len(text)}.")


def _depth(value) -> int:
    """Levels of lists and objects, without recursion."""
    depth, level = 0, [value]
    while level := [each for each in level if type(each) in (dict, list)]:
        depth += 1
        level = [
            child
            for each in level
            for child in (each.values() if type(each) is dict else each)
        ]
    return depth
