"""Folders that take their name in one step, beside what else is in them.

The new one is written under a hidden name (`whole.part_beside`). What the old one holds
of other people is linked into it, then the two are exchanged (`renameat2` of Linux,
`renamex_np` of macOS), and the old one is removed. Where a system cannot exchange, two
renames do it, and who comes next puts back what was moved away: `recover`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from kerasdiffusion.storage.whole import (
    NO_LINKS,
    clear_leftovers,
    is_taken,
    part_beside,
    sync,
)

_AT_FDCWD, _EXCHANGE, _SWAP = -100, 2, 2
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def whole_folder(
    path: str | os.PathLike,
    overwrite: bool,
    is_ours: Callable[[Path], bool],
    is_replaced: Callable[[str], bool],
) -> Iterator[Path]:
    """What is written into the folder that this gives takes the name, whole or not.

    Args:
        path: Where the folder goes; its parent must exist.
        overwrite: Whether one of its kind that is there may be replaced.
        is_ours: Whether a folder is of that kind.
        is_replaced: Whether a file of it, by its path with slashes, is part of what is
            replaced. All other files stay.

    Yields:
        A folder that exists, beside the path.

    Raises:
        FileExistsError: If something is there, and `overwrite` is off or it is none of
            ours; what is there is as it was.
        OSError: If the disk is full, for example; likewise.

    Example:

    >>> def has_index(folder):
    ...     return (folder / "model_index.json").is_file()
    >>> with whole_folder("model", False, has_index, lambda path: True) as folder:
    ...     _ = (folder / "model_index.json").write_text("{}")
    """
    path = Path(path)
    is_taken(path)  # a name that no folder can have is refused
    if path.is_symlink():
        path = path.resolve()
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"The folder to save in must exist. Received: {path.parent}"
        )
    recover(path)
    clear_leftovers(path.parent)
    _check_place(path, overwrite, is_ours)
    part = part_beside(path)
    part.mkdir()
    try:
        yield part
        _sync_all(part)
        while not _took_free_name(part, path):
            _check_place(path, overwrite, is_ours)
            _carry(path, part, is_replaced)
            shutil.copymode(path, part)
            if _exchanged(part, path):
                _rescue(part, path, is_replaced)
                break
            _take_name_by_two_renames(part, path, is_replaced)
            break
        sync(path.parent)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OSError(
            error.errno,
            "The disk is full: nothing was saved, and what was there is as it was. "
            f"Received: {path}",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def recover(path: str | os.PathLike) -> None:
    """Puts back a folder that a save which was killed had moved away.

    Args:
        path: The folder's own name.
    """
    path = Path(path)
    old = _moved_away(path)
    if not os.path.lexists(old):
        return
    if not os.path.lexists(path):
        with contextlib.suppress(OSError):
            os.rename(old, path)
    elif path.is_dir():
        shutil.rmtree(old, ignore_errors=True)


def _moved_away(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _check_place(path: Path, overwrite: bool, is_ours: Callable) -> None:
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise FileExistsError(
            f"A folder is to be saved, and a file has its name. Received: {path}"
        )
    if not any(path.iterdir()):
        return
    if not overwrite:
        raise FileExistsError(
            f"There is something already; pass overwrite=True to replace it. "
            f"Received: {path}"
        )
    if not is_ours(path):
        first = ", ".join(sorted(entry.name for entry in path.iterdir())[:3])
        raise FileExistsError(
            "overwrite=True replaces a model, and this folder holds something else "
            f"({first}): choose a name that is free. Received: {path}"
        )


def _took_free_name(part: Path, path: Path) -> bool:
    """Whether the name was free, or an empty folder's, and is the part's now."""
    try:
        if os.name == "nt" and path.is_dir():
            path.rmdir()
        os.rename(part, path)
        return True
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        return False


def _take_name_by_two_renames(part: Path, path: Path, is_replaced: Callable) -> None:
    old = _moved_away(path)
    os.rename(path, old)
    try:
        os.rename(part, path)
    except BaseException:
        if not os.path.lexists(path):
            os.rename(old, path)
        raise
    _rescue(old, path, is_replaced)
    shutil.rmtree(old, ignore_errors=True)


def _exchanged(first: Path, second: Path) -> bool:
    """Gives two folders each other's name in one step, if the system can."""
    names = os.fsencode(first), os.fsencode(second)
    library = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    if sys.platform.startswith("linux") and hasattr(library, "renameat2"):
        ways = _AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE
        return library.renameat2(*ways) == 0
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        return library.renamex_np(*names, _SWAP) == 0
    return False


def _carry(old: Path, new: Path, is_replaced: Callable, inside: str = "") -> None:
    """Links what stays of the old folder into the new one."""
    for entry in os.scandir(old):
        name, target = inside + entry.name, new / entry.name
        if entry.is_dir(follow_symlinks=False):
            there = target.is_dir()
            empty = not any(os.scandir(entry.path))
            if not there:
                target.mkdir()
            _carry(Path(entry.path), target, is_replaced, f"{name}/")
            if not there and not empty and not any(os.scandir(target)):
                target.rmdir()  # all in it is replaced
            elif not there:
                shutil.copystat(entry.path, target)
        elif not is_replaced(name):
            _link(entry, target)


def _link(entry: os.DirEntry, target: Path) -> None:
    if os.path.lexists(target):
        if _is_same(entry.path, target):
            return
        target.unlink()  # of an older state of the old folder
    if entry.is_symlink():
        os.symlink(os.readlink(entry.path), target)
        return
    try:
        os.link(entry.path, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        shutil.copy2(entry.path, target)


def _rescue(old: Path, new: Path, is_replaced: Callable, inside: str = "") -> None:
    """Moves what came into the old folder after `_carry` had looked."""
    for entry in os.scandir(old):
        name, target = inside + entry.name, new / entry.name
        if entry.is_dir(follow_symlinks=False):
            if target.is_dir():
                _rescue(Path(entry.path), target, is_replaced, f"{name}/")
            elif not _all_replaced(Path(entry.path), is_replaced, f"{name}/"):
                os.rename(entry.path, target)
        elif not is_replaced(name) and not os.path.lexists(target):
            os.rename(entry.path, target)


def _all_replaced(folder: Path, is_replaced: Callable, inside: str) -> bool:
    files = [path for path in folder.rglob("*") if path.is_symlink() or path.is_file()]
    names = (inside + path.relative_to(folder).as_posix() for path in files)
    return all(map(is_replaced, names))


def _is_same(first, second) -> bool:
    first, second = os.lstat(first), os.lstat(second)
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def _sync_all(folder: Path) -> None:
    for root, _, names in os.walk(folder):
        for name in names:
            sync(os.path.join(root, name))
        sync(root)
