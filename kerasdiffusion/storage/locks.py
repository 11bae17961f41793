"""A folder that one process works in at a time."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

NAME = ".lock"
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


@contextlib.contextmanager
def locked(folder: str | os.PathLike, what: str) -> Iterator[None]:
    """Keeps other processes out of a folder that are as polite.

    The lock is the system's: it ends with the process, however that ends. Where a file
    system has none, nobody is kept out.

    Args:
        folder: The folder, which must exist.
        what: Who works there, as a sentence begins: "A training run".

    Raises:
        BlockingIOError: If another process is at work there.

    Example:

    >>> os.makedirs("runs/emoji")
    >>> with locked("runs/emoji", "A training run"):
    ...     pass
    """
    path = Path(folder) / NAME
    handle = _open(path)
    try:
        if not _lock(handle):
            raise BlockingIOError(
                f"{what} needs its folder for itself; another process is at work in "
                f"it: wait for its end, or choose another folder. Received: {folder}"
            )
        yield
    except BaseException:
        os.close(handle)
        raise
    else:
        # Ahead of letting go, so that nobody holds a lock on a file without a name.
        if os.name != "nt":
            with contextlib.suppress(OSError):
                path.unlink()
        os.close(handle)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)


def _lock(handle: int) -> bool:
    """Whether the lock is had, or there are none here."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _TAKEN
    except ImportError:
        pass
    return True
