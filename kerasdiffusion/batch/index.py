"""What is done of a batch: a record for each row, in parts that only ever join.

    index/merged-00000003.jsonl    all that runs 1 to 3 have recorded
    index/run-00000004/00000/...   sealed: nobody writes there any more
    index/run-00000005.open/       the run that goes on now

A part is a file of JSON lines, a line a record, written whole by whoever has painted
it, under a name that only one writer gets. A run begins by sealing those before it:
their folders are renamed, so that a process that outlived its run finds no place to
write to. Hence a row that is read as open is recorded by nobody else.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from kerasdiffusion.batch.stores import store_of
from kerasdiffusion.storage.bounds import shown
from kerasdiffusion.storage.reading import open_regular
from kerasdiffusion.storage.whole import clear_leftovers, whole_file, write_whole

#: The folder of the index in that of the batch.
FOLDER = "index"
DONE, FAILED = "done", "failed"
#: Whose fault an error is.
ROW, MACHINE = "row", "machine"
#: Parts beyond which the next run reads them as one.
MOST_PARTS = 256
#: Parts in a folder: a writer looks through its folder for what others left behind.
_IN_A_FOLDER = 256
_RUN = re.compile(r"run-(\d{8})(\.open)?")
_MERGED = re.compile(r"merged-(\d{8})\.jsonl")


class Superseded(RuntimeError):
    """Another run has begun: this one may record nothing more."""


class Known(NamedTuple):
    """What is recorded.

    Attributes:
        done: Digests of rows whose pictures are there, see `digest`.
        failed: Those of rows that are recorded with an error alone.
    """

    done: set[bytes]
    failed: set[bytes]


def digest(name: str, key: str) -> bytes:
    """What a row is known by: 16 bytes of its name and its key.

    Example:

    >>> len(digest("apple", "3f"))
    16
    """
    return hashlib.sha256(f"{name}\0{key}".encode()).digest()[:16]


def part_name(number: int) -> str:
    """The file of a batch's records, in the folder of its run."""
    return f"{number // _IN_A_FOLDER:05d}/{number:08d}.jsonl"


class Run:
    """The parts of one run, which several processes write and no two the same.

    Args:
        folder: The folder of the run, on a disk that all of them see.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)

    def write(self, number: int, records: Iterable[dict]) -> bool:
        """Records what became of the batch of this number, all or nothing.

        Args:
            number: The batch's, 0 or more; each is recorded once.
            records: What `json` takes, each with `name`, `key` and `status`.

        Returns:
            Whether it was recorded now; `False` if it had been before.

        Raises:
            Superseded: If another run has begun.
            OSError: If nothing can be written (a full disk).
        """
        path = self._path(number)
        content = b"".join(as_lines(records))
        try:
            with contextlib.suppress(FileExistsError):
                path.parent.mkdir()
            write_whole(path, content)
        except FileExistsError:
            return False
        except FileNotFoundError:
            raise Superseded(
                "Another run of this batch has begun, or its folder was removed. "
                f"Received: {self.folder}"
            ) from None
        return True

    def read(self, number: int) -> list[dict] | None:
        """What is recorded of the batch of this number; `None` if nothing is."""
        path = self._path(number)
        return list(_lines(path)) if path.is_file() else None

    def _path(self, number: int) -> Path:
        return self.folder / part_name(number)


class Index:
    """The records of a batch's folder.

    Args:
        out: The folder of the batch.

    Example:

    >>> os.makedirs("apples")
    >>> index = Index("apples")
    >>> run, known = index.begin()
    >>> run.write(0, [{"name": "apple", "key": "3f", "status": "done"}])
    True
    >>> [each["name"] for each in index.records()]
    ['apple']
    """

    def __init__(self, out: str | os.PathLike):
        self.folder = Path(out) / FOLDER

    @property
    def is_there(self) -> bool:
        """Whether there is a batch."""
        return self.folder.is_dir()

    def begin(self) -> tuple[Run, Known]:
        """Seals the runs before, and begins one; for who has the folder's lock.

        Returns:
            The run, and what is recorded ahead of it.
        """
        self.folder.mkdir(exist_ok=True)
        clear_leftovers(self.folder)
        for path in self._runs():
            if path.name.endswith(".open"):
                os.rename(path, path.with_suffix(""))
        known = self.known()
        parts = sum(1 for path in self._runs() for _ in _parts(path))
        if parts > MOST_PARTS:
            self._merge()
        last = max((_number(path) for path in self._all()), default=0)
        folder = self.folder / f"run-{last + 1:08d}.open"
        folder.mkdir()
        return Run(folder), known

    def known(self) -> Known:
        """What is recorded, in some hundred bytes a row."""
        known = Known(set(), set())
        for each in self.records():
            own = digest(each["name"], each["key"])
            if each["status"] == DONE:
                known.done.add(own)
                known.failed.discard(own)
            elif own not in known.done:
                known.failed.add(own)
        return known

    def records(self) -> Iterator[dict]:
        """All records, in the order of the runs; the last of a row counts."""
        merged = self._merged()
        if merged is not None:
            yield from _lines(merged)
        for path in self._runs():
            for part in _parts(path):
                yield from _lines(part)

    def _merge(self) -> None:
        """All parts as one file, which counts from the moment that it is there."""
        runs = self._runs()
        path = self.folder / f"merged-{max(map(_number, runs)):08d}.jsonl"
        with whole_file(path) as part, open(part, "xb") as out:
            out.writelines(as_lines(self.records()))
        self._clear()

    def _clear(self) -> None:
        """Removes what the last merged file holds."""
        last = self._merged()
        for path in self._all() if last is not None else ():
            if path != last and _number(path) <= _number(last):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def _merged(self) -> Path | None:
        found = [each for each in self._all() if _MERGED.fullmatch(each.name)]
        return max(found, default=None)

    def _runs(self) -> list[Path]:
        """The folders of runs that no merged file holds, in their order."""
        last = self._merged()
        since = 0 if last is None else _number(last)
        return [
            each
            for each in self._all()
            if _RUN.fullmatch(each.name) and _number(each) > since
        ]

    def _all(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        found = [each for each in self.folder.iterdir() if _number(each) is not None]
        return sorted(found, key=lambda each: (_number(each), each.name))


def index_of(store) -> Index:
    """The index of a batch, wherever that is.

    Args:
        store: See `stores.store_of`.
    """
    from kerasdiffusion.batch.object_index import ObjectIndex

    return Index(store.path) if store.is_on_disk else ObjectIndex(store)


def read_index(out) -> Iterator[dict]:
    """The records of a batch, one for each row, as they are now.

    Args:
        out: The folder of the batch, or its URL.

    Yields:
        Of each row `name`, `key`, `status` (`"done"` or `"failed"`), and `files`,
        `prompt`, `seed`, `width` and `height`, or `error` and whose `fault` it is
        (`"row"` or `"machine"`).

    Raises:
        FileNotFoundError: If there is no batch.

    Example:

    ```python
    failed = [each for each in read_index("out") if each["status"] == "failed"]
    ```
    """
    index = index_of(store_of(out))
    if not index.is_there:
        raise FileNotFoundError(f"There must be a batch to read. Received: {out}")
    known = index.known()
    for each in index.records():
        # (What is told of is taken out: these sets are all that grows.)
        own = digest(each["name"], each["key"])
        left = known.done if each["status"] == DONE else known.failed
        if own in left:
            left.discard(own)
            yield each


def _number(path: Path) -> int | None:
    found = _RUN.fullmatch(path.name) or _MERGED.fullmatch(path.name)
    return int(found[1]) if found else None


def _parts(run: Path) -> Iterator[Path]:
    """The files of a run, in the order of their numbers."""
    for folder in sorted(each for each in run.iterdir() if each.is_dir()):
        names = [each.name for each in os.scandir(folder)]
        for name in sorted(each for each in names if each[0].isdigit()):
            yield folder / name


def _lines(path: Path) -> Iterator[dict]:
    with open_regular(path) as file, io.BufferedReader(file, 2**20) as lines:
        yield from parsed(lines, path)


def parsed(lines: Iterable[bytes], where) -> Iterator[dict]:
    """Records of lines.

    Args:
        lines: A record each.
        where: Where they are from, for messages.

    Raises:
        ValueError: If a line is none.
    """
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line)
            _ = found["name"], found["key"], found["status"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                "A line of a batch's index must be a record: the file was changed "
                "or is broken, and without it its rows are painted again. "
                f"Received: line {number} of {where}: {shown(line[:100])}"
            ) from None
        yield found


def as_lines(records: Iterable[dict]) -> Iterator[bytes]:
    """Records as lines."""
    for each in records:
        text = json.dumps(each, ensure_ascii=False, allow_nan=False) + "\n"
        yield text.encode("utf-8", "surrogatepass")
