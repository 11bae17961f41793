"""Pictures of a batch in larger files: Parquet, WebDataset shards, a Lance table.

Rows are painted into files and recorded as always. Of those that are recorded, some
hundred at a time become one larger file, which is written whole; then their own files
are removed. A run that was killed in between finds both, and removes what is held
twice.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from kerasdiffusion.batch import places
from kerasdiffusion.batch.index import DONE, digest, read_index
from kerasdiffusion.batch.rows import import_pyarrow
from kerasdiffusion.storage.whole import whole_file

FILES, PARQUET, WEBDATASET, LANCE = STORES = (
    *("files", "parquet", "webdataset"),
    "lance",
)
_ENDINGS = {PARQUET: "parquet", WEBDATASET: "tar"}
_TABLE = "pictures.lance"


class Packing:
    """Packs what is recorded.

    Args:
        out: The folder of the batch.
        store: One of `STORES`; for `"files"` nothing is done.
        rows: Rows of a larger file.

    Raises:
        ImportError: If a library is missing.
        ValueError: If there is no such store.
    """

    def __init__(self, out: str | os.PathLike, store: str, rows: int = 1000):
        if store not in STORES:
            raise ValueError(
                f"`store` must be one of {', '.join(STORES)}. Received: {store}"
            )
        if rows < 1:
            raise ValueError(f"`shard` must be 1 or more. Received: {rows}")
        self.out, self.store, self.rows = Path(out), store, rows
        self._waiting: list[dict] = []
        if store in (PARQUET, LANCE):
            import_pyarrow()
        if store == LANCE:
            _import_lance()

    def begin(self) -> None:
        """Takes up what a run before has recorded and not packed."""
        if self.store == FILES:
            return
        there = {
            f"{places.FOLDER}/{folder.name}/{each.name}"
            for folder in _folders(self.out / places.FOLDER)
            for each in os.scandir(folder)
            if not each.name.startswith(".")
        }
        if not there:
            return
        held = set(self._held_by_the_last())
        for each in read_index(self.out):
            files = each.get("files") or ()
            if there.isdisjoint(files):
                continue
            # (Of several files, a kill may have left some.)
            if digest(each["name"], each["key"]).hex() in held:
                self._remove([each])
            else:
                self.add([each])

    def add(self, records: Iterable[dict]) -> None:
        """Packs records, as soon as there are enough."""
        if self.store == FILES:
            return
        self._waiting += [each for each in records if each["status"] == DONE]
        while len(self._waiting) >= self.rows:
            ahead, self._waiting = (
                self._waiting[: self.rows],
                self._waiting[self.rows :],
            )
            self._pack(ahead)

    def close(self) -> None:
        """Packs what waits."""
        if self._waiting:
            ahead, self._waiting = self._waiting, []
            self._pack(ahead)

    def _pack(self, records: Sequence[dict]) -> None:
        rows = [row for each in records for row in self._rows_of(each)]
        if self.store == LANCE:
            _write_lance(self.out / _TABLE, rows)
        else:
            ending = _ENDINGS[self.store]
            path = self.out / f"pictures-{self._next(ending):06d}.{ending}"
            write = _write_parquet if self.store == PARQUET else _write_tar
            with whole_file(path, ending=f".{ending}") as part:
                write(part, rows)
        self._remove(records)

    def _next(self, ending: str) -> int:
        """The number of the next larger file: some may have been taken away."""
        names = (each.stem for each in self.out.glob(f"pictures-*.{ending}"))
        numbers = (name.removeprefix("pictures-") for name in names)
        return max((int(each) + 1 for each in numbers if each.isdecimal()), default=0)

    def _rows_of(self, record: dict) -> Iterator[dict]:
        """What is stored of each picture of a record."""
        own = digest(record["name"], record["key"]).hex()
        for position, file in enumerate(record["files"]):
            prompt, kept = record.get("prompt"), record.get("kept")
            if isinstance(prompt, list):
                prompt = json.dumps(prompt, ensure_ascii=False)
            yield {
                "name": record["name"],
                "key": record["key"],
                "row": own,
                "position": position,
                "prompt": prompt,
                "seed": record["seed"] if isinstance(record["seed"], int) else None,
                "width": record["width"],
                "height": record["height"],
                "kept": json.dumps(kept, ensure_ascii=False) if kept else None,
                "image": {
                    "bytes": (self.out / file).read_bytes(),
                    "path": Path(file).name,
                },
            }

    def _remove(self, records: Iterable[dict]) -> None:
        for each in records:
            for file in each["files"]:
                (self.out / file).unlink(missing_ok=True)

    def _held_by_the_last(self) -> Iterator[str]:
        """The rows that the last larger file holds."""
        if self.store == LANCE:
            table = _import_lance_table(self.out / _TABLE)
            if table is not None:
                last = table.get_fragments()[-1]
                yield from last.to_table(columns=["row"]).column("row").to_pylist()
            return
        found = sorted(self.out.glob(f"pictures-*.{_ENDINGS[self.store]}"))
        if found and self.store == PARQUET:
            import pyarrow.parquet as pq

            yield from pq.read_table(found[-1], columns=["row"])["row"].to_pylist()
        elif found:
            with tarfile.open(found[-1]) as tar:
                yield from (
                    name.partition(".")[0].split("-")[0] for name in tar.getnames()
                )


def pictures_of(out: str | os.PathLike) -> Iterator[tuple[dict, bytes]]:
    """The pictures of a batch, wherever they are.

    Args:
        out: The folder of the batch.

    Yields:
        What is known of each picture (`name`, `prompt`, `seed`, ...), and its file.
    """
    out = Path(out)
    for each in read_index(out):
        for position, file in enumerate(each.get("files") or ()):
            if (out / file).is_file():
                yield {**each, "position": position}, (out / file).read_bytes()
    for path in sorted(out.glob(f"pictures-*.{_ENDINGS[PARQUET]}")):
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            for group in file.iter_batches(batch_size=64):
                yield from map(_apart, group.to_pylist())
    for path in sorted(out.glob(f"pictures-*.{_ENDINGS[WEBDATASET]}")):
        yield from _read_tar(path)
    table = _import_lance_table(out / _TABLE)
    if table is not None:
        for group in table.to_batches(batch_size=64):
            yield from map(_apart, group.to_pylist())


def _apart(row: dict) -> tuple[dict, bytes]:
    content = row.pop("image")["bytes"]
    return row, content


def _folders(path: Path) -> list[Path]:
    return [each for each in path.iterdir() if each.is_dir()] if path.is_dir() else []


def _table(rows: Sequence[Mapping]):
    import pyarrow as pa

    text = pa.string()
    image = pa.struct({"bytes": pa.binary(), "path": text})
    schema = pa.schema(
        {
            **dict.fromkeys(("name", "key", "row"), text),
            "position": pa.int32(),
            "prompt": text,
            "seed": pa.uint64(),
            "width": pa.int32(),
            "height": pa.int32(),
            "kept": text,
            "image": image,
        }
    )
    return pa.Table.from_pylist([_readable(row) for row in rows], schema)


def _readable(row: Mapping) -> dict:
    """Without halves of surrogate pairs, which are no text."""
    return {
        name: each.encode("utf-8", "replace").decode()
        if isinstance(each, str)
        else each
        for name, each in row.items()
    }


def _write_parquet(path: Path, rows: Sequence[Mapping]) -> None:
    import pyarrow.parquet as pq

    pq.write_table(_table(rows), path, row_group_size=100)


def _write_lance(path: Path, rows: Sequence[Mapping]) -> None:
    import lance

    mode = "append" if path.exists() else "create"
    lance.write_dataset(_table(rows), str(path), mode=mode)


def _write_tar(path: Path, rows: Sequence[Mapping]) -> None:
    """A shard: of each picture the file, its record as JSON, its prompt as text."""
    with tarfile.open(path, "x") as tar:
        for row in rows:
            told = {name: each for name, each in row.items() if name != "image"}
            name = f"{row['row']}-{row['position']}"
            members = {
                row["image"]["path"].rpartition(".")[2]: row["image"]["bytes"],
                "json": json.dumps(told).encode(),
                "txt": (row["prompt"] or "").encode("utf-8", "replace"),
            }
            for ending, content in members.items():
                member = tarfile.TarInfo(f"{name}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _read_tar(path: Path) -> Iterator[tuple[dict, bytes]]:
    with tarfile.open(path) as tar:
        members = ((each.name.partition("."), tar.extractfile(each)) for each in tar)
        for _, group in itertools.groupby(members, lambda each: each[0][0]):
            found = {name[2]: file.read() for name, file in group}
            told = json.loads(found.pop("json"))
            found.pop("txt")
            yield told, *found.values()


def _import_lance():
    try:
        import lance
    except ImportError as error:
        raise ImportError(
            'A Lance table needs pylance: pip install ".[lance]" in a checkout'
        ) from error
    return lance


def _import_lance_table(path: Path):
    """The table of that path; `None` where there is none."""
    return _import_lance().dataset(str(path)) if path.exists() else None
