"""Rows of a batch as dicts: of a CSV, JSON lines, Parquet, a Ray Dataset, or of Python.

What a cell leaves open (an empty one of a CSV, a null, a NaN) is not in the dict.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from kerasdiffusion.batch.stores import Disk, Objects, is_url, store_of
from kerasdiffusion.storage.bounds import BOUNDS, shown
from kerasdiffusion.storage.places import expand_user
from kerasdiffusion.storage.reading import parse_json

#: Which reader takes which ending.
CSV, LINES, PARQUET = (".csv", ".tsv"), (".jsonl", ".ndjson"), (".parquet", ".pq")
ENDINGS = (*CSV, *LINES, *PARQUET)


class Rows:
    """Rows that are read again each time they are iterated over, one at a time.

    Attributes:
        columns: The names of a table's columns; `None` where rows have their own.
        folder: The store that paths in the rows are relative to; `None` for where we
            are.
        is_text: Whether all values are texts, as in a CSV.
        is_ordered: Whether the order is the same each time.
        count: How many there are; `None` if nobody knows.
    """

    columns: list[str] | None = None
    folder: Disk | Objects | None = None
    is_text, is_ordered = False, True

    @property
    def count(self) -> int | None:
        """How many there are; `None` if nobody knows."""
        return None

    def names(self) -> Iterator[object] | None:
        """The column `name`, where it is cheap to read ahead of all; else `None`."""
        return (row.get("name") for row in self)

    def __iter__(self) -> Iterator[dict]:
        raise NotImplementedError


def read_rows(source) -> Rows:
    """What a batch paints, row by row; a table is read, never held.

    Args:
        source: A file that ends in one of `ENDINGS`, a folder of Parquet files, by path
            or URL; a Ray Dataset; or dicts.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If it is none of these.
        ValueError: If the file is of another kind, or cannot be read.

    Example:

    >>> [row["prompt"] for row in read_rows([{"prompt": "a cat"}])]
    ['a cat']
    """
    if isinstance(source, Rows):
        return source
    if is_url(source):
        parent, _, name = source.rstrip("/").rpartition("/")
        return _of_file(store_of(parent), name)
    if isinstance(source, (str, os.PathLike)):
        path = expand_user(source).absolute()
        return _of_file(Disk(path.parent), path.name)
    if hasattr(source, "iter_rows") and hasattr(source, "schema"):
        return _RayRows(source)
    if isinstance(source, Iterable) and not isinstance(source, (Mapping, bytes)):
        return _Dicts(source)
    raise TypeError(
        "Rows must be a file, a Ray Dataset, or dicts of a request's fields. "
        f"Received: {shown(source)}"
    )


def _of_file(store: Disk | Objects, name: str) -> Rows:
    where = f"{store}/{name}" if not store.is_on_disk else str(store.path / name)
    kind = store.kind_of(name)
    if kind is None:
        raise FileNotFoundError(f"There must be a file of rows. Received: {where}")
    ending = PurePosixPath(name).suffix.lower()
    if kind == "folder" or ending in PARQUET:
        return _Parquet(store, name, where)
    if ending in CSV:
        return _Csv(store, name, where)
    if ending in LINES:
        return _Lines(store, name, where)
    raise ValueError(
        f"Rows must be in a file that ends in {', '.join(ENDINGS)}. Received: {where}"
    )


class _File(Rows):
    """Rows of a file, which is read once to be counted."""

    def __init__(self, store: Disk | Objects, name: str, where: str):
        self.folder, self.name, self.path, self._count = store, name, where, None

    @property
    def count(self) -> int:
        if self._count is None:
            self._count = sum(1 for _ in self)
        return self._count

    def _open(self) -> io.TextIOWrapper:
        return io.TextIOWrapper(self.folder.open(self.name), "utf-8-sig", newline="")


class _Csv(_File):
    """A table with a header; all its values are texts."""

    is_text = True

    def __init__(self, *where):
        super().__init__(*where)
        with self._open() as file:
            self.columns = self._header(self._lines(file))

    def _lines(self, file) -> Iterator[list[str]]:
        csv.field_size_limit(BOUNDS["json"].most)
        separator = "\t" if self.name.lower().endswith(".tsv") else ","
        try:
            yield from csv.reader(file, delimiter=separator)
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(
                f"Rows must be CSV in UTF-8 ({error}). Received: {self.path}"
            ) from None

    def _header(self, lines) -> list[str]:
        names = [name.strip() for name in next(lines, [])]
        if len(names) == 1 and any(each in names[0] for each in ";\t|"):
            raise ValueError(
                "Cells must be separated by commas, in a .tsv by tabs. "
                f"Received: {shown(names[0])} in {self.path}"
            )
        twice = [name for name in names if names.count(name) > 1]
        if not names or "" in names or twice:
            raise ValueError(
                "The first line of a CSV must name each column, once. "
                f"Received: {shown(names)} in {self.path}"
            )
        return names

    def __iter__(self):
        with self._open() as file:
            lines = self._lines(file)
            names = self._header(lines)
            for number, line in enumerate(lines, 2):
                if not line:
                    continue
                if len(line) != len(names):
                    raise ValueError(
                        f"Each row must have {len(names)} cells, as the header. "
                        f"Received: {len(line)} in row {number} of {self.path}"
                    )
                yield {k: v for k, v in zip(names, line, strict=True) if v != ""}


class _Lines(_File):
    """A JSON object a line."""

    def __iter__(self):
        with self._open() as file:
            lines = enumerate(file, 1)
            while True:
                try:
                    number, line = next(lines)
                except StopIteration:
                    return
                except UnicodeDecodeError as error:
                    raise ValueError(
                        f"Rows must be JSON in UTF-8 ({error}). Received: {self.path}"
                    ) from None
                if line.strip():
                    yield self._row(line, number)

    def _row(self, line: str, number: int) -> dict:
        where = f"line {number} of {self.path}"
        row = parse_json(line, where)
        if not isinstance(row, dict):
            raise ValueError(
                f"Each line must be a JSON object. Received: {shown(row)} in {where}"
            )
        return without_gaps(row)


class _Parquet(_File):
    """A Parquet file, or a folder of such, read in groups of rows."""

    def __init__(self, store: Disk | Objects, name: str, where: str):
        super().__init__(store, name, where)
        self._files = [name]
        if store.kind_of(name) == "folder":
            self.folder = store_of(where)
            self._files = [
                each for each in self.folder.names() if each.lower().endswith(PARQUET)
            ]
        if not self._files:
            raise ValueError(
                f"A folder of rows must hold Parquet files. Received: {where}"
            )
        with self._opened(self._files[0]) as file:
            self.columns = file.schema_arrow.names

    @property
    def count(self) -> int:
        if self._count is None:
            self._count = 0
            for path in self._files:
                with self._opened(path) as file:
                    self._count += file.metadata.num_rows
        return self._count

    def names(self):
        if "name" not in self.columns:
            return itertools.repeat(None, self.count)
        return (row.get("name") for row in self._rows(["name"]))

    @contextlib.contextmanager
    def _opened(self, name: str):
        import_pyarrow()
        import pyarrow
        import pyarrow.parquet

        with self.folder.open(name) as file:
            try:
                yield pyarrow.parquet.ParquetFile(file)
            except (pyarrow.ArrowException, OSError) as error:
                raise ValueError(
                    f"Rows must be a Parquet file that can be read ({_line(error)}). "
                    f"Received: {self.folder}/{name}"
                ) from None

    def __iter__(self):
        return self._rows(None)

    def _rows(self, columns):
        for path in self._files:
            with self._opened(path) as file:
                for group in file.iter_batches(batch_size=1024, columns=columns):
                    yield from map(without_gaps, group.to_pylist())


class _RayRows(Rows):
    """Rows of a Ray Dataset, as they come."""

    is_ordered = False

    def __init__(self, dataset):
        self._dataset = dataset
        self.columns = dataset.schema().names

    def names(self):
        return None

    def __iter__(self):
        return map(without_gaps, self._dataset.iter_rows())


class _Dicts(Rows):
    """Dicts of Python; of a generator, once."""

    def __init__(self, rows: Iterable[Mapping]):
        self._rows = rows
        self._is_once = iter(rows) is rows

    @property
    def count(self):
        return len(self._rows) if hasattr(self._rows, "__len__") else None

    def names(self):
        return None if self._is_once else super().names()

    def __iter__(self):
        for number, row in enumerate(self._rows):
            if not isinstance(row, Mapping):
                raise TypeError(
                    f"Each row must be a dict. Received: {shown(row)} as row {number}"
                )
            yield without_gaps(row)


def without_gaps(row: Mapping) -> dict:
    """A row without what it leaves open: nulls and NaN."""
    return {
        name: value
        for name, value in row.items()
        if value is not None and not (isinstance(value, float) and math.isnan(value))
    }


def import_pyarrow() -> None:
    """That Parquet can be read.

    Raises:
        ImportError: If not; the message says what to install.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'Parquet needs pyarrow: pip install ".[batch]" in a checkout'
        ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
