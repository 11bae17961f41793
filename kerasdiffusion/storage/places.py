"""Where a user's files are: homes and caches, odd ones included."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from kerasdiffusion.storage.bounds import shown


def expand_user(path: str | os.PathLike) -> Path:
    """A path whose `~` or `~name` in front is the home of a user.

    Args:
        path: Any path.

    Raises:
        ValueError: If nobody has that name, or the home is not known.

    Example:

    >>> expand_user("models/mine")
    PosixPath('models/mine')
    """
    try:
        found = Path(path).expanduser()
    except (RuntimeError, ValueError):
        found = Path("~")
    # (Of a user without a name and HOME, Python leaves it, or fails.)
    if str(path).startswith("~") and str(found).startswith("~"):
        raise ValueError(
            "A path that begins with ~ must be in the home of a user who is known "
            f"here; write ./~ for a folder of that name. Received: "
            f"{shown(os.fspath(path))}"
        )
    return found


def refused(path: str | os.PathLike, error: Exception) -> str:
    """One sentence for a path that a system refused.

    Args:
        path: The path.
        error: What it raised.
    """
    if "Received: " in str(error):
        return str(error)
    reason = getattr(error, "strerror", None) or error
    return (
        f"A path must be one that a file can have ({reason}). "
        f"Received: {shown(os.fspath(path))}"
    )


def user_caches() -> Path | None:
    """The folder for what may be made again; `None` where the user has no home.

    Reference:
        XDG Base Directory Specification 0.8: a relative `XDG_CACHE_HOME` is ignored.
    """
    return _of_user("XDG_CACHE_HOME", "Library/Caches", ".cache")


def user_data() -> Path | None:
    """The folder for what a user wants to keep; `None` where there is no home.

    Reference:
        As for `user_caches`: `XDG_DATA_HOME`.
    """
    return _of_user("XDG_DATA_HOME", "Library/Application Support", ".local/share")


def _of_user(variable: str, on_macs: str, elsewhere: str) -> Path | None:
    """A folder by a variable, or in the user's home."""
    for name in (variable, *(("LOCALAPPDATA",) * (sys.platform == "win32"))):
        if os.path.isabs(os.environ.get(name, "")):
            return Path(os.environ[name])
    try:
        home = expand_user("~")
    except ValueError:
        return None
    if not home.is_absolute():
        return None
    return home / (on_macs if sys.platform == "darwin" else elsewhere)


def is_private(folder: Path) -> bool:
    """Whether a folder is the user's, and nobody else can exchange it or write to it.

    Its parents are asked too: who may write to one of them can put another folder in
    its place, unless it is one like `/tmp`, where everyone's are their own.

    Args:
        folder: A folder that is there.
    """
    if not hasattr(os, "getuid"):
        return os.access(folder, os.W_OK)
    try:
        folder = Path(os.path.abspath(folder))
        places = {folder, *folder.parents, folder.resolve(), *folder.resolve().parents}
        if folder.stat().st_uid != os.getuid() or not os.access(
            folder, os.W_OK | os.X_OK
        ):
            return False
        return all(map(_is_kept, places))
    except OSError:
        return False


def make_private(folder: Path) -> bool:
    """Makes a folder, its parents too, that nobody else may look into.

    Args:
        folder: The folder; one that is there stays as it is.

    Returns:
        Whether it is there and `is_private`.
    """
    try:
        for place in (*reversed(folder.parents), folder):
            if not place.exists():
                place.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return False
    return is_private(folder)


def _is_kept(place: Path) -> bool:
    """Whether only the user and the system may rename what is in a folder."""
    found = place.stat()
    if found.st_uid not in (0, os.getuid()):
        return False
    if found.st_mode & stat.S_ISVTX:
        return True
    if found.st_mode & stat.S_IWOTH:
        return False
    return not found.st_mode & stat.S_IWGRP or _is_own_group(found.st_gid)


def _is_own_group(number: int) -> bool:
    """Whether a group is one user's own, as many systems make one for each."""
    import grp
    import pwd

    try:
        name, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(number)
    except KeyError:
        return False
    return group.gr_name == name and set(group.gr_mem) <= {name}
