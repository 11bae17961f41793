"""A folder of pictures to teach: what is fit, what is said of it, what is left out."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import reduce
from math import gcd
from pathlib import Path

import numpy as np

from kerasdiffusion.datasets.captioned import (
    EXTENSIONS,
    TABLES,
    Captioned,
    mask_of,
    read_captions,
    read_table,
)
from kerasdiffusion.pictures.read import (
    from_pil,
    open_picture,
    read_masks,
    read_pictures,
)
from kerasdiffusion.storage.places import expand_user

_NEEDS_CAPTION = (
    "Every picture needs a caption: a text beside it (cat.txt for cat.jpg), a line in "
    "metadata.jsonl or captions.csv, a folder named as 10_sks dog, or one for all that "
    "have none (--instance-prompt, `instance_prompt`)"
)


@dataclass(frozen=True)
class Picture:
    """A picture to teach.

    Args:
        path: Its file.
        caption: What is said of it.
        size: Its height and width, upright.
        repeats: How often it is shown in an epoch.
        mask: The file whose white says what is learnt: a mask, or itself where that is
            what it has of alpha; `None` for all of it.
        is_class: Whether it shows what is known already, and must not be forgotten.
        name: Of the folder that it is in, as kohya's are named, or "".
    """

    path: Path
    caption: str
    size: tuple[int, int]
    repeats: int = 1
    mask: Path | None = None
    is_class: bool = False
    name: str = ""


@dataclass(frozen=True)
class Folder:
    """What is in a folder.

    Args:
        pictures: What is fit.
        left_out: What is not, and why.
        notes: What else a user should know, a sentence each.
    """

    pictures: tuple[Picture, ...]
    left_out: tuple[tuple[Path, str], ...] = ()
    notes: tuple[str, ...] = ()


def read_folder(
    path: str | os.PathLike,
    instance_prompt: str | None = None,
    *,
    alpha_mask: bool = False,
    class_prompt: str | None = None,
) -> Folder:
    """Looks through a folder; every picture is read once, to see that it can be.

    Args:
        path: The folder. Captions are in a form of `datasets.captioned`; of several
            forms, the first there counts, and where they differ a note says so. Or a
            table that names files and their captions.
        instance_prompt: The caption of pictures that have none of their own.
        alpha_mask: Whether what is transparent is not learnt.
        class_prompt: If given, the pictures are those of a class folder, and this is
            the caption of all that have none.

    Returns:
        A `Folder`, in the order of tables and names.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If nothing in it is fit, a picture has no caption, or a table of
            captions cannot be read.

    Example:

    ```python
    for picture in read_folder("dog", "a photo of sks dog").pictures:
        print(picture.path, picture.caption)
    ```
    """
    path = expand_user(path)
    if not path.is_dir() and not path.is_file():
        raise FileNotFoundError(
            "There must be a folder of pictures to teach, or a table of them "
            f"({', '.join(TABLES)}). Received: {path}"
        )
    found = read_captions(path) if path.is_dir() else read_table(path)
    for_all = instance_prompt if class_prompt is None else class_prompt
    pictures, left_out, notes, bare = [], [], [], []
    for name, table in found.missing:
        left_out.append((table.parent / name, f"{table.name} names it; it is missing"))
    for each in found.pictures:
        try:
            picture = _look_at(each, alpha_mask)
        except (ValueError, OSError) as error:
            left_out.append((each.file, _reason(error)))
            continue
        caption = each.caption or for_all or each.name
        if not caption:
            bare.append(each.file)
        if len(set(each.said.values())) > 1:
            first, *others = each.said
            notes.append(
                f"{each.file} has captions that differ; {first} counts, not "
                f"{', '.join(others)}."
            )
        is_class = class_prompt is not None
        pictures.append(replace(picture, caption=caption, is_class=is_class))
    if not pictures:
        why = "; ".join(f"{file}: {reason}" for file, reason in left_out[:3])
        raise ValueError(
            f"The {'folder' if path.is_dir() else 'table'} must hold pictures that can "
            f"be read ({', '.join(EXTENSIONS)}). "
            f"Received: {path}{f' ({why})' if why else ', which has none'}"
        )
    if bare:
        raise ValueError(
            f"{_NEEDS_CAPTION}. Received: {len(bare)} without, such as {bare[0]}"
        )
    if found.bare:
        notes.append(
            f"{len(found.bare)} texts have no picture beside them, such as "
            f"{found.bare[0]}."
        )
    return Folder(_in_lowest_terms(pictures), tuple(left_out), tuple(notes))


def _look_at(each: Captioned, alpha_mask: bool) -> Picture:
    """A picture, read once."""
    found = open_picture(each.file, from_pil)
    mask = mask_of(each.file)
    if mask is not None:
        try:
            read_masks(mask, found.shape[:2])
        except (ValueError, OSError) as error:
            raise ValueError(f"its mask {mask.name}: {_reason(error)}") from error
    elif alpha_mask and found.shape[-1] == 4:
        if not found[..., 3].any():
            raise ValueError("all of it is transparent")
        mask = each.file
    return Picture(each.file, "", found.shape[:2], each.repeats, mask, name=each.name)


def _reason(error: Exception) -> str:
    """Why a picture is left out, without naming it again."""
    text = " ".join(str(error).split())
    return text.removesuffix(".") or type(error).__name__


def _in_lowest_terms(pictures: list[Picture]) -> tuple[Picture, ...]:
    """Repeats that all have in common only make an epoch longer."""
    common = reduce(gcd, (each.repeats for each in pictures))
    return tuple(replace(each, repeats=each.repeats // common) for each in pictures)


def read_pixels(picture: Picture) -> tuple[np.ndarray, np.ndarray | None]:
    """A picture's pixels and its mask, as they are in the files.

    What is transparent is laid over white, as everywhere in this library.

    Args:
        picture: What is read.

    Returns:
        uint8 `(height, width, 3)`; and float32 `(height, width)` from 0 to 1, of which
        1 is learnt, or `None`.

    Raises:
        ValueError: If a file can no longer be read.
    """
    (pixels,) = read_pictures(picture.path)
    if picture.mask is None:
        return pixels, None
    if picture.mask == picture.path:
        alpha = open_picture(picture.path, from_pil)[..., 3]
        return pixels, alpha.astype("float32") / 255.0
    (mask,) = read_masks(picture.mask, pixels.shape[:2])
    return pixels, mask
