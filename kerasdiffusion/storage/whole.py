"""Files that are whole under their name, or are not there.

A file is written beside its place under a name that tells whose it is, reaches the
disk, and takes its name in one step. A process that was killed leaves its part behind:
the next one that writes to that folder sees that the owner is gone, and clears it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import itertools
import os
import platform
import re
import shutil
import sys
import time
from pathlib import Path

from kerasdiffusion.storage.bounds import shown

_PART = re.compile(r"\..*\.([0-9a-f]{8})-([0-9]+)-([0-9]+)-[0-9]+\.part(\..+)?", re.S)
_OWNER = re.compile(r"([0-9a-f]{8})-([0-9]+)-([0-9]+)")
_NAME_BYTES = 120
#: Seconds after which a part of another machine, which cannot be asked, is left over.
STALE = 24 * 3600
_NUMBERS = itertools.count()
#: What a file system says that knows no hard links.
NO_LINKS = {
    errno.EPERM,
    errno.EACCES,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.ENOTSUP,
    errno.EMLINK,
    errno.EXDEV,
    errno.EINVAL,
}


class whole_file:  # named as the functions of contextlib, as which it is used
    """A context manager: what is written to the path that it gives takes its name.

    On success the part is synced and renamed; on any exception, `KeyboardInterrupt`
    included, it is removed and what was there stays as it was.

    Args:
        path: Where the file goes; its folder must exist.
        overwrite: Whether a file of this name is replaced.
        next_free: In place of refusing a name that is taken, put `-2`, `-3` and so on
            behind it until one is free. Two writers never get the same one.
        ending: What the part's name must end in, for writers that look at it.

    Attributes:
        path: Where the file went, after the block.

    Raises:
        FileExistsError: If the name is taken, and neither `overwrite` nor `next_free`
            is on: ahead of the block where it can be seen, else at its end.

    Example:

    >>> with whole_file("apple.txt", overwrite=True) as part:
    ...     _ = part.write_text("red")
    """

    def __init__(
        self,
        path: str | os.PathLike,
        overwrite: bool = False,
        *,
        next_free: bool = False,
        ending: str = "",
    ):
        self.path, self.overwrite, self.next_free = Path(path), overwrite, next_free
        self._ending, self._part = ending, None

    def __enter__(self) -> Path:
        taken = is_taken(self.path)
        if taken and not (self.overwrite or self.next_free):
            raise _exists(self.path)
        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"The folder to write to must exist. Received: {self.path}"
            )
        clear_leftovers(self.path.parent)
        self._part = part_beside(self.path, self._ending)
        return self._part

    def __exit__(self, kind, error, traceback) -> None:
        try:
            if kind is None:
                sync(self._part)
                self.path = self._take()
                sync(self.path.parent)
        finally:
            with contextlib.suppress(OSError):
                self._part.unlink(missing_ok=True)

    def _take(self) -> Path:
        if self.overwrite:
            os.replace(self._part, self.path)
            return self.path
        target, number = self.path, 1
        while not _claimed(self._part, target):
            if not self.next_free:
                raise _exists(self.path)
            number += 1
            target = self.path.with_name(f"{self.path.stem}-{number}{self.path.suffix}")
        return target


def write_whole(
    path: str | os.PathLike,
    content: bytes | memoryview | str,
    overwrite: bool = False,
    *,
    next_free: bool = False,
) -> Path:
    """Writes a file that is whole under its name, or not there.

    Args:
        path: Where it goes; its folder must exist.
        content: Bytes, or text, which becomes UTF-8.
        overwrite: As in `whole_file`.
        next_free: As in `whole_file`.

    Returns:
        The path of the file that was written.

    Raises:
        FileExistsError: As `whole_file`.

    Example:

    >>> write_whole("apple.txt", "red", overwrite=True)
    PosixPath('apple.txt')
    """
    if isinstance(content, str):
        content = content.encode("utf-8")
    file = whole_file(path, overwrite, next_free=next_free)
    with file as part, open(part, "xb") as out:
        out.write(content)
    return file.path


def part_beside(path: str | os.PathLike, ending: str = "") -> Path:
    """A name beside a path that nobody else has, and that tells whose it is.

    For a file or a folder; who writes one renames or removes it. After the process has
    ended, `clear_leftovers` does.

    Args:
        path: What the part is to become.
        ending: What the name must end in.

    Example:

    >>> part_beside("models/mine").parent
    PosixPath('models')
    """
    path = Path(path)
    name = path.name.encode("utf-8", "replace")[-_NAME_BYTES:].decode("utf-8", "ignore")
    return path.with_name(f".{name}.{owner()}-{next(_NUMBERS)}.part{ending}")


def owner() -> str:
    """This process among all of all machines, in letters that a file's name may have.

    Example:

    >>> is_gone(owner())
    False
    """
    return f"{_machine()}-{os.getpid()}-{_start(os.getpid()) or 0}"


def is_gone(other: str) -> bool | None:
    """Whether an `owner` has ended; `None` where that cannot be told.

    Args:
        other: What it said of itself.
    """
    found = _OWNER.fullmatch(other)
    if found is None or found[1] != _machine():
        return None
    alive = is_alive(int(found[2]), int(found[3]))
    return None if alive is None else not alive


def clear_leftovers(folder: str | os.PathLike) -> list[Path]:
    """Removes the parts in a folder whose owners have ended.

    Args:
        folder: Where to look; folders in it are not looked into.

    Returns:
        What was removed.

    Example:

    >>> clear_leftovers("models")
    []
    """
    removed = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = entry.name.endswith(".part") or ".part." in entry.name
            match = match and _PART.fullmatch(entry.name)
            if not match or not _is_left(match, entry):
                continue
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)
                removed.append(Path(entry.path))
    return removed


def sync(path: str | os.PathLike) -> None:
    """Has a file, or the names in a folder, reach the disk.

    Args:
        path: The file or folder.

    Raises:
        OSError: If a file's content cannot be written out (a full disk).

    Example:

    >>> sync(".")
    """
    folder = os.path.isdir(path)
    if folder and os.name == "nt":
        return  # Windows opens no folders
    try:
        # (Windows flushes only what is open to be written.)
        handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    except PermissionError:
        if folder:
            return
        raise
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems have nothing to sync.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):
            raise
    finally:
        os.close(handle)


def is_taken(path: Path) -> bool:
    """Whether a name is; one that no file can have is refused."""
    try:
        os.lstat(path)
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise type(error)(
            "A file must have a name that a file can have "
            f"({getattr(error, 'strerror', None) or error}). "
            f"Received: {shown(os.fspath(path))}"
        ) from error


def _exists(path: Path) -> FileExistsError:
    return FileExistsError(
        f"There is something already, which is not written over. Received: {path}"
    )


def _claimed(part: Path, target: Path) -> bool:
    """Gives the part its name if that is free, in one step."""
    try:
        if os.name == "nt":
            os.rename(part, target)  # which refuses a name that is taken there
        else:
            os.link(part, target)
        return True
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
    # A file system without hard links: the name is claimed first.
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        return False
    try:
        os.replace(part, target)
    except BaseException:
        with contextlib.suppress(OSError):
            target.unlink()
        raise
    return True


def _is_left(match: re.Match, entry: os.DirEntry) -> bool:
    """Whether nobody works at a part any more."""
    machine, pid, start = match[1], int(match[2]), int(match[3])
    alive = None
    if machine == _machine():
        alive = is_alive(pid, start)
    if alive is None:
        with contextlib.suppress(OSError):
            return time.time() - entry.stat(follow_symlinks=False).st_mtime > STALE
        return False
    return not alive


def is_alive(pid: int, start: int) -> bool | None:
    """Whether a process runs that began then; `None` where that cannot be told.

    Args:
        pid: Its number, on this machine.
        start: When it began, in the system's ticks; 0 if that was not known.
    """
    if start and sys.platform.startswith("linux"):
        return _start(pid) == start
    if os.name != "posix":
        return True if pid == os.getpid() else None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _start(pid: int) -> int | None:
    """When a process began, in the system's ticks; `None` where it is not known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        # The name before may hold anything, but no bracket comes after its last.
        state, *fields = stat.rpartition(b")")[2].split()
        return None if state in (b"Z", b"X") else int(fields[18])
    except (OSError, ValueError, IndexError):
        return None


@functools.lru_cache
def _machine() -> str:
    """Eight letters for where a process number means something: system and container.

    Its boot is not in it: what began before it has another start.
    """
    known = [platform.node()]
    with contextlib.suppress(OSError):
        known.append(os.readlink("/proc/self/ns/pid"))
    with contextlib.suppress(OSError):
        known.append(Path("/etc/machine-id").read_text("utf-8", "replace"))
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:8]
