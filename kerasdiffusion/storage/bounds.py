"""How much a reader takes: one table of all limits, and the error that states them.

A limit is far above what any known file or request has, and far below what would fill
the memory or keep a processor busy for minutes.
"""

from __future__ import annotations

import reprlib
from typing import NamedTuple


class Bound(NamedTuple):
    """A limit.

    Attributes:
        most: What is still taken.
        unit: What is counted.
        what: Whose limit it is, as a sentence begins: "A JSON text".
    """

    most: int
    unit: str
    what: str


#: Every limit of every reader. `docs/safety.md` shows this table.
BOUNDS: dict[str, Bound] = {
    "json": Bound(16 * 2**20, "bytes", "A JSON text"),
    "json_depth": Bound(100, "levels of nesting", "A JSON text"),
    "json_values": Bound(2**20, "lists and objects", "A JSON text"),
    "captions": Bound(2**28, "bytes", "A table of captions"),
    "caption": Bound(2**16, "bytes", "A picture's caption"),
    "log": Bound(2**26, "bytes", "A training log"),
    "trace": Bound(2**30, "bytes", "A kept trace"),
    "request": Bound(256 * 2**20, "bytes", "A request"),
    "picture_text": Bound(16 * 2**20, "characters", "The text in a picture"),
    "comment": Bound(2**20, "bytes", "The comment in a GIF or an MP4"),
    "video_boxes": Bound(10_000, "boxes in one", "An MP4"),
    "graph_nodes": Bound(10_000, "nodes", "ComfyUI's graph"),
    "json_digits": Bound(300, "digits", "A number of a JSON text"),
    "picture_lists": Bound(9, "lists in each other", "Pictures"),
    "prompt_characters": Bound(2**16, "characters", "A prompt"),
    "prompt_brackets": Bound(200, "brackets open at once", "A prompt"),
    "prompt_branches": Bound(64, "parts that AND joins", "A prompt"),
    "prompt_chunks": Bound(100, "chunks of tokens", "A prompt"),
    "prompt_stages": Bound(2**12, "chunks of tokens", "A prompt with all its stages"),
    "prompt_entities": Bound(64, "HTML entities within each other", "A prompt"),
    "prompt_marks": Bound(64, "combining marks in a row", "A prompt"),
    "prompt_weight": Bound(10**6, "times", "A weight or a share in a prompt"),
    "train_steps": Bound(10**5, "training steps", "A noise schedule"),
    "levels": Bound(16, "levels", "A network"),
    "layers": Bound(100, "layers of a kind in a row", "A network"),
    "channels": Bound(2**16, "channels", "A layer"),
    "tokens": Bound(2**14, "tokens in a prompt", "A text encoder"),
    "vocabulary": Bound(2**21, "tokens", "A vocabulary"),
    "latents": Bound(2**12, "latents on a side", "A picture by default"),
    "hdf5_depth": Bound(64, "groups within groups", "An HDF5 file"),
    "hdf5_items": Bound(200_000, "groups and arrays", "An HDF5 file"),
    "styles": Bound(2**22, "bytes", "A file of styles"),
    "yaml": Bound(2**18, "bytes", "A YAML text"),
    "server_body": Bound(64 * 2**20, "bytes", "What a server is sent at once"),
    "server_pixels": Bound(2**22, "pixels", "A picture of a server"),
    "server_pictures": Bound(64, "pictures", "A request to a server"),
    "server_adapters": Bound(64, "adapters", "A request to a server"),
    # CLIP's files are about 1 MB.
    "tokenizer": Bound(2**26, "bytes", "A file of a tokenizer"),
    "added_tokens": Bound(2**16, "added tokens", "A tokenizer"),
}


def check_bound(name: str, value: int | float, where: object) -> None:
    """Refuses what is over a limit.

    Args:
        name: The limit's, in `BOUNDS`.
        value: What was counted.
        where: The file, key or argument that has it, for the message.

    Raises:
        ValueError: If the value is over the limit, or is no number (NaN).

    Example:

    >>> check_bound("json", 2, "config.json")
    """
    most, unit, what = BOUNDS[name]
    if not value <= most:
        raise ValueError(
            f"{what} has at most {most} {unit}. Received: {shown(value)} in "
            f"{shown(where) if isinstance(where, str) else where}"
        )


def shown_path(path: object) -> str:
    """A path, as it is where it is short, for a message.

    Args:
        path: The path.

    Example:

    >>> shown_path("models/mine")
    'models/mine'
    """
    text = str(path)
    return text if len(text) <= 400 and text.isprintable() else shown(text)


class _Shown(reprlib.Repr):
    """Numbers of thousands of digits are not written out at all."""

    def repr_int(self, x, level):
        if x.bit_length() > 1000:
            return f"an integer of {x.bit_length()} bits"
        return super().repr_int(x, level)


def shown(value: object, most: int = 200) -> str:
    """What was received, short enough for a message, on one line.

    Args:
        value: Anything.
        most: Characters of the answer, about.

    Returns:
        Its `repr`, cut in the middle where it is long.

    Example:

    >>> shown("a" * 10**6, 13)
    "'aaaa...aaaa'"
    """
    short = _Shown()
    short.maxstring = short.maxother = short.maxlong = most
    short.maxlevel = 3
    try:
        text = short.repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} that is nested too deep"
    if len(text) > most:
        half = (most - 3) // 2
        text = f"{text[:half]}...{text[-half:]}"
    return text
