"""A folder on a disk where a file takes its name in one step."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from kerasdiffusion.storage.locks import locked
from kerasdiffusion.storage.reading import open_regular
from kerasdiffusion.storage.whole import whole_file, write_whole


class Disk:
    """The files of a batch by their names in its folder, with slashes.

    A store is what has these methods; `objects.Objects` has the others.

    Args:
        path: The folder, an absolute path.
    """

    is_on_disk = True

    def __init__(self, path: Path):
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def make(self) -> None:
        """Makes the folder, where there is none.

        Raises:
            OSError: If it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise type(error)(
                "A batch must have a folder that it may write to "
                f"({error.strerror}). Received: {self.path}"
            ) from error

    @contextlib.contextmanager
    def locked(self, what: str) -> Iterator[None]:
        """Keeps other batches out; see `storage.locks.locked`."""
        with locked(self.path, what):
            yield

    def write(self, name: str, content: bytes) -> None:
        """Writes a file, whole or not at all, over one that is there.

        Raises:
            OSError: If it cannot be written.
        """
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content, overwrite=True)

    def whole(self, name: str, overwrite: bool = False, ending: str = ""):
        """A context manager: what is written to the path that it gives takes the name.

        Args:
            name: The file's.
            overwrite: Whether one that is there is replaced.
            ending: What the path ends in.
        """
        return whole_file(self.path / name, overwrite, ending=ending)

    def read(self, name: str) -> bytes | None:
        """All of a file; `None` if there is none."""
        path = self.path / name
        return path.read_bytes() if path.is_file() else None

    def open(self, name: str) -> io.BufferedReader:
        """Opens a file to read."""
        return io.BufferedReader(open_regular(self.path / name), 2**20)

    def kind_of(self, name: str) -> str | None:
        """`"file"`, `"folder"`, or `None` where there is nothing."""
        path = self.path / name
        if not path.exists():
            return None
        return "folder" if path.is_dir() else "file"

    def names(self, under: str = "") -> list[str]:
        """The files below a folder, but for hidden ones, in their order.

        Args:
            under: The folder's name; all by default.
        """
        found = []
        for root, folders, files in os.walk(self.path / under):
            folders[:] = [each for each in folders if not each.startswith(".")]
            inside = Path(root).relative_to(self.path)
            names = (each for each in files if not each.startswith("."))
            found += [(inside / each).as_posix() for each in names]
        return sorted(found)

    def tops(self) -> list[str]:
        """The files of the folder itself, but for hidden ones, in their order."""
        if not self.path.is_dir():
            return []
        there = (each for each in os.scandir(self.path) if each.is_file())
        return sorted(each.name for each in there if each.name[0] != ".")

    def remove(self, names: Iterable[str]) -> None:
        """Removes files, those that are there."""
        for each in names:
            (self.path / each).unlink(missing_ok=True)
