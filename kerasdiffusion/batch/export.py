"""The index of a batch as one file, for whoever reads it with other programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from kerasdiffusion.batch.index import as_lines, read_index
from kerasdiffusion.batch.stores import store_of

NAME = "index.parquet"
LINES = "index.jsonl"
_ROWS = 2_000


def export(out) -> str:
    """Writes the records of a batch beside its pictures, whole.

    Args:
        out: The folder of the batch, its URL or its store.

    Returns:
        `index.parquet`; `index.jsonl` where pyarrow is not installed.
    """
    store = store_of(out)
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        with store.whole(LINES, overwrite=True) as part, open(part, "xb") as file:
            file.writelines(as_lines(read_index(store)))
        return LINES
    with store.whole(NAME, overwrite=True) as part:
        _write_parquet(part, read_index(store))
    return NAME


def _write_parquet(path: Path, records: Iterator[dict]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, whole = pa.string(), pa.int32()
    schema = pa.schema(
        {
            "name": text,
            "key": text,
            "status": text,
            "file": text,
            "files": pa.list_(text),
            "task": text,
            "prompt": text,
            "seed": pa.uint64(),
            "width": whole,
            "height": whole,
            "seconds": pa.float32(),
            "error": text,
            "kept": text,
        }
    )
    with pq.ParquetWriter(path, schema) as writer:
        rows = []
        for each in records:
            rows.append(_row(each))
            if len(rows) == _ROWS:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, schema))


def _row(record: dict) -> dict:
    """A record as columns: what is several is JSON."""
    found = {name: record.get(name) for name in record}
    files = record.get("files") or []
    found["file"] = files[0] if len(files) == 1 else None
    prompt, seed = record.get("prompt"), record.get("seed")
    if isinstance(prompt, list):
        found["prompt"] = json.dumps(prompt, ensure_ascii=False)
    found["seed"] = seed if isinstance(seed, int) else None
    kept = record.get("kept")
    found["kept"] = json.dumps(kept, ensure_ascii=False) if kept else None
    for name, value in found.items():
        if isinstance(value, str):  # (half of a surrogate pair is no text)
            found[name] = value.encode("utf-8", "replace").decode("utf-8")
    return found
