"""The comment in a GIF or an MP4 file: read from its blocks alone, never from pixels.

A GIF has a comment extension ahead of its first frame, an MP4 iTunes' `©cmt` in its
head: the boxes moov, udta, meta, ilst (ISO/IEC 14496-12 and Apple's "QuickTime File
Format"; GIF89a, 24).
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import BinaryIO

from kerasdiffusion.storage.bounds import check_bound
from kerasdiffusion.storage.reading import open_regular

#: Where an MP4's comment is: boxes in boxes; behind the third comes its version.
_WAY = (b"moov", b"udta", b"meta", b"ilst", b"\xa9cmt", b"data")
_VERSIONED, _UTF8 = b"meta", 1
_EXTENSION, _COMMENT = 0x21, 0xFE


def read_comment(path: str | os.PathLike) -> str | None:
    """The comment of a GIF or an MP4 file; `None` if it is neither.

    Args:
        path: Any regular file.

    Returns:
        The text, which may be empty.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the comment is longer than `storage.bounds` says, or the file is
            no regular file.

    Example:

    >>> frames = np.zeros((2, 16, 16, 3), "uint8")
    >>> path = save_animation(frames, "dark.gif", parameters={"prompt": "night"})
    >>> read_comment(path)
    'night\\n'
    """
    with open_regular(path) as raw, io.BufferedReader(raw) as file:
        start = file.read(12)
        if start[:6] in (b"GIF87a", b"GIF89a"):
            return _text(gif_comment(file, path))
        if start[4:8] == b"ftyp":
            return _text(_mp4_comment(file, path))
    return None


def gif_comment(file: BinaryIO, where: object) -> bytes:
    """The comments of a GIF ahead of its first frame, in lines.

    Args:
        file: A GIF.
        where: What it is, for messages.

    Raises:
        ValueError: If they are too long.
    """
    file.seek(10)
    flags = file.read(3)[:1]
    if flags and flags[0] & 0x80:
        file.seek(3 * 2 ** ((flags[0] & 7) + 1), os.SEEK_CUR)
    found, length = [], 0
    while (block := file.read(1)) and block[0] == _EXTENSION:
        kept, label = [], file.read(1)
        while (size := file.read(1)) > b"\0":
            data = file.read(size[0])
            if label == bytes([_COMMENT]):
                length += len(data)
                check_bound("comment", length, where)
                kept.append(data)
        if size and label == bytes([_COMMENT]):  # not of a file that is cut short
            found.append(b"".join(kept))
    return b"\n".join(found)


def _mp4_comment(file: BinaryIO, where) -> bytes:
    file.seek(0, os.SEEK_END)
    start, end = 0, file.tell()
    for name in _WAY:
        for kind, begin, stop in _boxes(file, start, end, where):
            if kind == name:
                start, end = begin + 4 * (name == _VERSIONED), stop
                break
        else:
            return b""
    file.seek(start)
    kind = file.read(8)  # of the data, and its language
    check_bound("comment", end - file.tell(), where)
    text = file.read(max(0, end - file.tell()))
    return text if kind[:4] == _UTF8.to_bytes(4, "big") else b""


def _boxes(file: BinaryIO, start: int, end: int, where) -> Iterator[tuple]:
    """The name, the begin and the end of what is in each box between two places."""
    count = 0
    while start + 8 <= end:
        count += 1
        check_bound("video_boxes", count, where)
        file.seek(start)
        size, kind = int.from_bytes(file.read(4), "big"), file.read(4)
        begin = start + 8
        if size == 1:
            size, begin = int.from_bytes(file.read(8), "big"), begin + 8
        stop = start + size if size else end
        if not begin <= stop <= end:
            return
        yield kind, begin, stop
        start = stop


def _text(content: bytes) -> str:
    return content.decode("utf-8", errors="replace")
