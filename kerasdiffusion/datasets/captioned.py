"""Pictures of a folder and what is said of them, in every form that trainers know.

| form | where |
| --- | --- |
| Hugging Face's | `metadata.jsonl`, `metadata.csv`: `file_name` and `text` |
| a table | `captions.csv`: `file` and `caption`, or two columns without a header |
| a text each | `cat.txt` or `cat.caption` beside `cat.jpg` |
| kohya's folders | `10_sks dog/`: ten times an epoch, "sks dog" where nothing is said |
| a table of files anywhere | CSV, JSON lines or Parquet, with the columns above |
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kerasdiffusion.storage.bounds import shown
from kerasdiffusion.storage.reading import parse_json, read_text

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
#: Tables of captions; of what two say of a picture, the first counts.
METADATA = ("metadata.jsonl", "metadata.csv", "captions.csv")
#: What texts beside pictures end in.
TEXTS = (".txt", ".caption")
#: What names of masks end in, ahead of the ending: ours and OneTrainer's.
MASKS = (".mask", "-masklabel")
#: What tables of files anywhere end in.
TABLES = (".csv", ".jsonl", ".parquet")
_FILES = ("file_name", "file", "filename", "image", "path")
_COLUMNS = ("text", "caption", "prompt")
_KOHYA = re.compile(r"(\d{1,6})_(.+)")


class Captioned(NamedTuple):
    """A picture and what is said of it.

    Attributes:
        file: The picture.
        said: What each source says, by its name; the first counts.
        name: The name in a folder like `10_sks dog`, or "".
        repeats: Its number, or 1.
    """

    file: Path
    said: dict[str, str]
    name: str = ""
    repeats: int = 1

    @property
    def caption(self) -> str:
        """What is said of this picture, or ""."""
        return next(iter(self.said.values()), "")


class Found(NamedTuple):
    """What is in a folder.

    Attributes:
        pictures: The pictures, in the order of tables and then of names.
        missing: What a table names and is not there: the name and the table.
        bare: Texts beside which there is no picture.
        tabled: Pictures that a table names.
    """

    pictures: list[Captioned]
    missing: list[tuple[str, Path]]
    bare: list[Path]
    tabled: set[Path]


def read_captions(folder: Path) -> Found:
    """Every picture below a folder, with what is said of it.

    What begins with a dot is not looked at; masks (`cat.mask.png`) are no pictures.

    Args:
        folder: The folder.

    Raises:
        ValueError: If a table or a text cannot be read, or names a file elsewhere.
    """
    found: dict[Path, dict[str, str]] = {}
    missing, texts, files, tabled = [], set(), [], set()
    for file in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in file.relative_to(folder).parts):
            continue
        if file.suffix.lower() in TEXTS:
            texts.add(file)
        elif file.suffix.lower() in EXTENSIONS and not is_mask(file):
            files.append(file)
        elif file.name in METADATA and file.is_file():
            texts.add(file)
    tables = [file for name in METADATA for file in texts if file.name == name]
    for table in sorted(tables, key=lambda file: METADATA.index(file.name)):
        texts.discard(table)
        for name, text in _rows(table):
            file = Path(os.path.normpath(table.parent / name))
            if not file.resolve().is_relative_to(folder.resolve()):
                raise ValueError(
                    "The metadata may name files of its folder alone. "
                    f"Received: {name!r} in {table}"
                )
            if not _is_file(file):
                missing.append((name, table))
                continue
            tabled.add(file)
            said = found.setdefault(file, {})
            if text:
                said[table.name] = text
    for file in files:
        said = found.setdefault(file, {})
        for ending in TEXTS:
            beside = file.with_suffix(ending)
            if beside in texts and beside.is_file():
                text = read_text(beside, "caption").strip()
                if text:
                    said[beside.name] = text
    known = {file.with_suffix(ending) for file in found for ending in TEXTS}
    pictures = [
        Captioned(file, said, *_set_of(file, folder)) for file, said in found.items()
    ]
    return Found(pictures, missing, sorted(texts - known), tabled)


def read_table(table: Path) -> Found:
    """The pictures that a table names, wherever they are.

    Args:
        table: A CSV, JSON lines or a Parquet file, with a column of files by their
            paths from its folder (`file_name`, `file`, `filename`, `image`, `path`) and
            one of captions (`text`, `caption`, `prompt`).

    Raises:
        ImportError: If it is Parquet, and pyarrow is not installed.
        ValueError: If it cannot be read, or names a file twice.
    """
    if table.suffix.lower() not in TABLES:
        raise ValueError(
            f"A table of pictures must end in {', '.join(TABLES)}. Received: {table}"
        )
    found: dict[Path, Captioned] = {}
    missing = []
    for name, text in _rows(table):
        file = Path(os.path.normpath(table.parent / name))
        if not _is_file(file):
            missing.append((name, table))
            continue
        if file in found:
            raise ValueError(
                "A table must name each picture once. "
                f"Received: {shown(name)} again in {table}"
            )
        found[file] = Captioned(file, {table.name: text} if text else {})
    return Found(list(found.values()), missing, [], set(found))


def is_mask(file: Path) -> bool:
    """Whether a file's name says that it is another picture's mask."""
    return file.stem.lower().endswith(MASKS)


def mask_of(file: Path) -> Path | None:
    """The mask beside a picture, if there is one."""
    for ending in MASKS:
        mask = file.with_name(f"{file.stem}{ending}.png")
        if mask.is_file():
            return mask
    return None


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # a name that no file can have
        return False


def _set_of(file: Path, folder: Path) -> tuple[str, int]:
    """Name and number of the nearest folder in kohya's manner."""
    for place in file.parents:
        match = _KOHYA.fullmatch(place.resolve().name)
        if match and int(match[1]):
            return match[2].strip(), int(match[1])
        if place == folder:
            break
    return "", 1


def _rows(table: Path) -> Iterator[tuple[str, str]]:
    """File and caption of each line."""
    kind = table.suffix.lower()
    text = "" if kind == ".parquet" else read_text(table, "captions")
    if kind == ".parquet":
        rows = enumerate(_parquet(table), 1)
    elif kind == ".jsonl":
        rows = [
            (number, _parsed(line, number, table))
            for number, line in enumerate(text.split("\n"), 1)
            if line.strip()
        ]
    else:
        rows = enumerate(_table(text, table), 1)
    for number, row in rows:
        name = next((row[key] for key in _FILES if row.get(key)), None)
        if not isinstance(name, str):
            raise ValueError(
                "Each line of the metadata needs a `file_name`, the path of a file. "
                f"Received: line {number} of {table}: {shown(row)}"
            )
        said = next((row[key] for key in _COLUMNS if row.get(key)), "")
        if "\0" in name:
            raise ValueError(
                "Each line of the metadata names a file. "
                f"Received: line {number} of {table}: {shown(name)}"
            )
        yield name, str(said).strip()


def _parsed(line: str, number: int, table: Path) -> dict:
    try:
        row = parse_json(line, table)
    except ValueError as error:
        raise ValueError(
            f"metadata.jsonl holds one JSON object a line ({error}). "
            f"Received: line {number} of {table}"
        ) from error
    return row if isinstance(row, dict) else {}


def _parquet(table: Path) -> Iterator[dict]:
    """Files and captions of a Parquet file, some rows at a time."""
    try:
        import pyarrow
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(
            'Parquet needs pyarrow: pip install ".[batch]" in a checkout'
        ) from error
    try:
        with pq.ParquetFile(table) as file:
            there = set(file.schema_arrow.names)
            names = [each for each in (*_FILES, *_COLUMNS) if each in there]
            for group in file.iter_batches(batch_size=1024, columns=names):
                yield from group.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(
            "A table of captions must be a Parquet file that can be read "
            f"({' '.join(str(error).split())[:200]}). Received: {table}"
        ) from None


def _table(text: str, table: Path) -> list[dict]:
    """The rows of a CSV; without a header they are a file and a caption."""
    try:
        lines = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise ValueError(
            f"A table of captions must be CSV ({error}). Received: {table}"
        ) from error
    lines = [line for line in lines if any(map(str.strip, line))]
    if not lines:
        return []
    header = [name.strip().lower() for name in lines[0]]
    if not set(header) & set(_FILES) and len(header) == 2:
        if _is_file(table.parent / lines[0][0]):
            header, lines = ["file_name", "text"], [[], *lines]
    return [dict(zip(header, line, strict=False)) for line in lines[1:]]
