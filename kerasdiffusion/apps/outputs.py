"""Where a command writes: asked ahead of painting."""

from __future__ import annotations

import os
import re
from pathlib import Path

from kerasdiffusion.presets.named import PRESETS
from kerasdiffusion.storage.places import expand_user
from kerasdiffusion.storage.whole import part_beside

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
OTHER_FORMATS = {".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}


def is_file(path: Path) -> bool:
    """Whether a path is that of a picture, and not a folder for several."""
    return path.suffix.lower() == ".png" and not path.is_dir()


def check(path: Path) -> None:
    """Makes the folder of pictures to come, and tries to write there.

    Raises:
        ValueError: If the path has another ending, or is no name of a file.
        NotADirectoryError: If it is in a file.
        PermissionError: If nothing may be written there.
        OSError: If nothing can be.
    """
    check_name(path)
    if path.suffix.lower() in OTHER_FORMATS and not path.is_dir():
        raise ValueError(
            f"--output must be a file that ends in .png, or a folder. Received: {path}"
        )
    check_writable(path.parent if is_file(path) else path, path)
    check_name(path)  # now that its folder is there


def check_writable(folder: Path, path: Path) -> None:
    """Makes a folder, and tries to write a file into it.

    Args:
        folder: The folder.
        path: What was asked for, for messages.
    """
    for place in (folder, *folder.parents):
        if place.exists():
            if not place.is_dir():
                raise NotADirectoryError(
                    f"--output must be in a folder. Received: {path}"
                )
            break
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = part_beside(folder / "picture.png")
        with open(probe, "xb"):
            pass
        probe.unlink()
    except OSError as error:
        raise type(error)(
            f"--output must be where you may write ({error.strerror}). Received: {path}"
        ) from error


def place(text: str) -> str | Path:
    """A path, or a URL as it is: `s3://bucket/pictures`."""
    return text if _URL.match(text) else Path(text)


def check_name(path: str | Path) -> None:
    """That a file may have this name; a URL is asked for when it is used.

    Raises:
        ValueError: If not.
    """
    if isinstance(path, str):
        return
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"--output must be a name that a file can have ({reason}). "
            f"Received: {str(path)[:200]}"
        ) from error


def name_of(preset: str) -> str:
    """A preset's or a hub model's name; of a path, what it ends in."""
    if preset in PRESETS or "://" in preset:
        return preset.partition("://")[2] or preset
    path = expand_user(preset).resolve()
    return path.name if path.is_dir() else path.stem
