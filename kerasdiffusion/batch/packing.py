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
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from kerasdiffusion.batch import places
from kerasdiffusion.batch.index import DONE, digest, read_index
from kerasdiffusion.batch.rows import import_pyarrow
from kerasdiffusion.batch.stores import store_of

FILES, PARQUET, WEBDATASET, LANCE = STORES = (
    *("files", "parquet", "webdataset"),
    "lance",
)
_ENDINGS = {PARQUET: "parquet", WEBDATASET: "tar"}
_TABLE = "pictures.lance"


class Packing:
    """Packs what is recorded.

    Args:
        out: The folder of the batch, its URL or its store.
        store: One of `STORES`; for `"files"` nothing is done.
        rows: Rows of a larger file.

    Raises:
        ImportError: If a library is missing.
        ValueError: If there is no such store.
    """

    def __init__(self, out, store: str, rows: int = 1000):
        if store not in STORES:
            raise ValueError(
                f"`store` must be one of {', '.join(STORES)}. Received: {store}"
            )
        if rows < 1:
            raise ValueError(f"`shard` must be 1 or more. Received: {rows}")
        self.out, self.store, self.rows = store_of(out), store, rows
        self._waiting: list[dict] = []
        if store in (PARQUET, LANCE):
            import_pyarrow()
        if store == LANCE:
            _import_lance()
            if not self.out.is_on_disk:
                raise ValueError(
                    "A Lance table must be in a folder on a disk: pack it there, and "
                    "copy it; files, parquet and webdataset go to an object store. "
                    f"Received: {self.out}"
                )

    def begin(self) -> None:
        """Takes up what a run before has recorded and not packed.

        Raises:
            ValueError: If a larger file that is there is of another version.
        """
        if self.store == FILES:
            return
        self._check_last()
        there = set(self.out.names(places.FOLDER))
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
            _write_lance(self.out.path / _TABLE, rows)
        else:
            ending = _ENDINGS[self.store]
            name = f"pictures-{self._next(ending):06d}.{ending}"
            write = _write_parquet if self.store == PARQUET else _write_tar
            with self.out.whole(name, ending=f".{ending}") as part:
                write(part, rows)
        self._remove(records)

    def _next(self, ending: str) -> int:
        """The number of the next larger file: some may have been taken away."""
        names = (each.partition(".")[0] for each in _shards(self.out, ending))
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
                    "bytes": self._content(file),
                    "path": file.rpartition("/")[2],
                },
            }

    def _content(self, file: str) -> bytes:
        found = self.out.read(file)
        if found is None:
            raise FileNotFoundError(
                "A picture that is recorded must be there to be packed. "
                f"Received: {self.out}/{file}"
            )
        return found

    def _remove(self, records: Iterable[dict]) -> None:
        self.out.remove(file for each in records for file in each["files"])

    def _check_last(self) -> None:
        """That the last larger file has the columns that the next will have."""
        name, columns = _TABLE, None
        if self.store == LANCE:
            table = _import_lance_table(self.out)
            columns = table and table.schema.names
        elif self.store == PARQUET:
            import pyarrow.parquet as pq

            *_, name = "", *_shards(self.out, _ENDINGS[PARQUET])
            if name:
                with self.out.open(name) as file:
                    columns = pq.read_schema(file).names
        wanted = _table([]).schema.names if columns else ()
        missing = [each for each in wanted if each not in columns]
        if missing:
            raise ValueError(
                "What is added to must be of this version: take it away, or choose "
                f"another folder. Received: {self.out}/{name} without "
                f"{', '.join(missing)}"
            )

    def _held_by_the_last(self) -> Iterator[str]:
        """The rows that the last larger file holds."""
        if self.store == LANCE:
            table = _import_lance_table(self.out)
            if table is not None:
                last = table.get_fragments()[-1]
                yield from last.to_table(columns=["row"]).column("row").to_pylist()
            return
        found = _shards(self.out, _ENDINGS[self.store])
        if not found:
            return
        with self.out.open(found[-1]) as file:
            if self.store == PARQUET:
                import pyarrow.parquet as pq

                yield from pq.read_table(file, columns=["row"])["row"].to_pylist()
                return
            with tarfile.open(fileobj=file) as tar:
                yield from (
                    name.partition(".")[0].split("-")[0] for name in tar.getnames()
                )


def pictures_of(out, share: int = 0, of: int = 1) -> Iterator[tuple[dict, bytes]]:
    """The pictures of a batch, wherever they are.

    Args:
        out: The folder of the batch, or its URL.
        share: The number of a share, if not all are wanted: of the files that there
            are, one in so many.
        of: How many shares there are.

    Yields:
        What is known of each picture (`name`, `prompt`, `seed`, ...), and its file.
    """
    out = store_of(out)
    # (Of what is packed, nobody asks an object store one by one.)
    there = None if out.is_on_disk else set(out.names(places.FOLDER))
    for number, each in enumerate(read_index(out)):
        files = each.get("files") or () if number % of == share else ()
        for position, file in enumerate(files):
            content = out.read(file) if there is None or file in there else None
            if content is not None:
                yield {**each, "position": position}, content
    for name in _shards(out, _ENDINGS[PARQUET])[share::of]:
        import pyarrow.parquet as pq

        with out.open(name) as opened, pq.ParquetFile(opened) as file:
            for group in file.iter_batches(batch_size=64):
                yield from map(_apart, group.to_pylist())
    for name in _shards(out, _ENDINGS[WEBDATASET])[share::of]:
        with out.open(name) as opened:
            yield from _read_tar(opened)
    table = _import_lance_table(out)
    if table is not None:
        groups = table.to_batches(batch_size=64)
        for group in itertools.islice(groups, share, None, of):
            yield from map(_apart, group.to_pylist())


def _apart(row: dict) -> tuple[dict, bytes]:
    content = row.pop("image")["bytes"]
    return row, content


def _shards(out, ending: str) -> list[str]:
    """The larger files of a batch, in the order of their numbers."""
    names = (each for each in out.tops() if each.startswith("pictures-"))
    return [each for each in names if each.endswith(f".{ending}")]


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


def _read_tar(file) -> Iterator[tuple[dict, bytes]]:
    with tarfile.open(fileobj=file) as tar:
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


def _import_lance_table(out):
    """The table of a batch; `None` where there is none."""
    path = out.path / _TABLE if out.is_on_disk else None
    if path is None or not path.exists():
        return None
    return _import_lance().dataset(str(path))
