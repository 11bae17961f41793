"""A prefix of an object store: S3, Google's, Azure's, whatever fsspec reads.

An object is there whole or not at all, and cannot be renamed. It may be made on
condition that there is none; stores that do not know that are asked ahead, which two
who ask at once may both be allowed.

Reference:
    fsspec `AbstractFileSystem`: `pipe_file(..., mode="create")`.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kerasdiffusion.storage.bounds import shown

#: Objects that are asked for at once.
TOGETHER = 256
_SECRET = re.compile(r"(?<=//)[^/@]*@")


def _told(method):
    """A store's errors as `OSError`, which says that a place is at fault."""

    @functools.wraps(method)
    def wrapped(self, *arguments, **named):
        try:
            return method(self, *arguments, **named)
        except (OSError, ImportError):
            raise
        except Exception as error:
            told = " ".join(str(error).split())[:300] or type(error).__name__
            raise OSError(
                errno.EIO, f"{type(error).__name__}: {told}", str(self)
            ) from error

    return wrapped


class Objects:
    """The objects of a batch by their names below a URL; as `disk.Disk`.

    Args:
        url: As `s3://bucket/pictures`. Credentials are where the store's own library
            looks for them.

    Raises:
        ImportError: If what reads such URLs is not installed.
        ValueError: If nothing reads such URLs, or they are read only.
    """

    is_on_disk = False

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        self.kind = url.partition("://")[0].lower()
        _ = self._opened  # what cannot be is said here

    def __str__(self) -> str:
        return _SECRET.sub("", self.url)

    def __getstate__(self) -> dict:
        # (Opened where it is used: ahead of that a process may be given credentials.)
        return {"url": self.url, "kind": self.kind}

    @functools.cached_property
    def _opened(self) -> tuple:
        return _opened(self.url)

    @property
    def _fs(self):
        return self._opened[0]

    @property
    def _root(self) -> str:
        return self._opened[1]

    def make(self) -> None:
        """A prefix is not made."""

    @contextlib.contextmanager
    def locked(self, what: str) -> Iterator[None]:
        """Keeps other batches out; see `lease.leased`."""
        from kerasdiffusion.batch.stores.lease import leased

        with leased(self, what):
            yield

    @_told
    def write(self, name: str, content: bytes) -> None:
        """Writes an object, over one that is there.

        Raises:
            OSError: If it cannot be written.
        """
        self._fs.pipe_file(self._path(name), bytes(content))

    @_told
    def create(self, name: str, content: bytes) -> bool:
        """Writes an object if there is none.

        Returns:
            Whether it was written; `False` if there is one.

        Raises:
            OSError: If it cannot be written.
        """
        try:
            self._fs.pipe_file(self._path(name), bytes(content), mode="create")
        except FileExistsError:
            return False
        return True

    @contextlib.contextmanager
    def whole(
        self, name: str, overwrite: bool = False, ending: str = ""
    ) -> Iterator[Path]:
        """As of a disk: the file is made on this machine, and then sent.

        Args:
            name: The object's.
            overwrite: Whether one that is there is replaced.
            ending: What the path ends in.
        """
        if not overwrite and self.has(name):
            raise FileExistsError(
                "There is something already, which is not written over. "
                f"Received: {self}/{name}"
            )
        with tempfile.TemporaryDirectory(prefix="kerasdiffusion-") as folder:
            part = Path(folder) / f"part{ending}"
            yield part
            self._send(part, name)

    @_told
    def _send(self, part: Path, name: str) -> None:
        self._fs.put_file(os.fspath(part), self._path(name))

    def has(self, name: str) -> bool:
        """Whether there is an object of this name, now."""
        # (Not by `isfile`, which takes whatever goes wrong for a no.)
        return self.kind_of(name) == "file"

    @_told
    def read(self, name: str) -> bytes | None:
        """All of an object; `None` if there is none."""
        self._fs.invalidate_cache()
        try:
            return self._fs.cat_file(self._path(name))
        except FileNotFoundError:
            return None

    def read_all(self, names: Sequence[str]) -> Iterator[bytes]:
        """What is in objects, in the order of their names, some at a time."""
        for first in range(0, len(names), TOGETHER):
            paths = [self._path(each) for each in names[first : first + TOGETHER]]
            yield from self._read_some(paths)

    @_told
    def _read_some(self, paths: list[str]) -> list[bytes]:
        found = self._fs.cat_ranges(paths, None, None)
        for each in found:
            if isinstance(each, BaseException):
                raise each
        return found

    @_told
    def open(self, name: str) -> io.BufferedReader:
        """Opens an object to read."""
        self._fs.invalidate_cache()
        return io.BufferedReader(self._fs.open(self._path(name), "rb"), 2**20)

    @_told
    def kind_of(self, name: str) -> str | None:
        """`"file"`, `"folder"`, or `None` where there is nothing."""
        self._fs.invalidate_cache()
        try:
            kind = self._fs.info(self._path(name))["type"]
        except FileNotFoundError:
            return None
        return "folder" if kind == "directory" else "file"

    @_told
    def names(self, under: str = "") -> list[str]:
        """The objects below a prefix, but for hidden ones, in their order.

        Args:
            under: The prefix, without its last slash; all by default.
        """
        self._fs.invalidate_cache()
        try:
            found = self._fs.find(self._path(under))
        except FileNotFoundError:
            return []
        return self._shown(found)

    @_told
    def tops(self) -> list[str]:
        """The objects just below the URL, but for hidden ones, in their order."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self._path(""), detail=True)
        except FileNotFoundError:
            return []
        return self._shown(each["name"] for each in found if each["type"] == "file")

    @_told
    def remove(self, names: Iterable[str]) -> None:
        """Removes objects, those that are there."""
        for each in names:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._path(each))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _shown(self, paths: Iterable[str]) -> list[str]:
        """Paths as names, without hidden ones."""
        root = self._fs._strip_protocol(self._root).rstrip("/") + "/"
        names = (self._fs._strip_protocol(each).removeprefix(root) for each in paths)
        return sorted(
            each
            for each in names
            if each and not any(part.startswith(".") for part in each.split("/"))
        )


def _opened(url: str):
    """The file system of a URL, and its root there."""
    kind = url.partition("://")[0]
    try:
        import fsspec.core
    except ImportError as error:
        raise ImportError(
            'A URL needs fsspec: pip install ".[batch]" in a checkout'
        ) from error
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ImportError(
            f"{kind}:// needs a library of its own ({error}); or have the batch in a "
            f"folder on a disk, and copy that"
        ) from error
    except ValueError as error:
        raise ValueError(
            "A URL must be of a store that fsspec knows, as s3, gs, az or memory; "
            f"`fsspec.available_protocols()` lists them ({error}). "
            f"Received: {shown(_SECRET.sub('', url))}"
        ) from None
