"""`paint`: rows to pictures, by an engine, with nothing lost and nothing twice."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence

from kerasdiffusion.batch import packing, places
from kerasdiffusion.batch.asked import Asking, check_columns, check_names
from kerasdiffusion.batch.going import Summary, Way, carry_out
from kerasdiffusion.batch.painter import Keyed
from kerasdiffusion.batch.rows import read_rows
from kerasdiffusion.batch.stores import store_of


def paint(
    rows,
    out: str | os.PathLike,
    model: str | os.PathLike | Callable = "emoji",
    *,
    constants: Mapping | None = None,
    task: str = "text_to_image",
    keep: Sequence[str] = (),
    batch_size: int = 8,
    kind: str = "png",
    quality: int = 95,
    store: str = packing.FILES,
    shard: int = 1000,
    retry_failed: bool = False,
    engine: str = "auto",
    devices: str = "auto",
    address: str | None = None,
    ray_options: Mapping | None = None,
    name: str = "",
    progress_bar: bool = True,
) -> Summary:
    """Paints a picture of each row, and goes on where a run before has ended.

    A row is known by its name and the key of its request: what has a record with both
    is not painted again. Its picture is written ahead of its record, each whole.

    Args:
        rows: A CSV, JSON lines, Parquet or a folder of it, by path or URL, a Ray
            Dataset, or dicts: a column for any field of a `Request`, and `name`,
            `task`, `size` or `width` and `height`. A row without a name goes by its
            number, one without a seed has one by its name.
        out: The folder of the batch, made where there is none; on a disk that all
            hosts of a cluster see. Or a URL of an object store, as
            `"s3://bucket/pictures"`, which fsspec writes to.
        model: As `StableDiffusion.from_preset` takes it; or a function without
            arguments that makes one, in each process that paints.
        constants: Fields of rows that say nothing else, by the columns' names.
        task: The task of rows that name none.
        keep: Other columns, which go along into the index.
        batch_size: Pictures that are painted at once, at most.
        kind: `"png"`, `"jpeg"` or `"webp"`.
        quality: Of JPEG and WebP, from 1 to 100.
        store: Where pictures stay: `"files"`, or packed from these into `"parquet"`,
            `"webdataset"` shards or a `"lance"` table.
        shard: Rows of one of these.
        retry_failed: Whether rows that are recorded with an error are tried again.
        engine: `"local"` paints in this process, `"ray"` on a cluster; `"auto"` is the
            latter where Ray is running in this process.
        devices: With Ray: `"auto"`, `"cpu"`, `"gpu"`, `"tpu"`, with a number behind, as
            `"gpu:4,cpu:2"`.
        address: The cluster's, as `ray.init` takes it; by default the one that runs
            here, else a new one on this machine.
        ray_options: Other arguments of `ray.init`, where a cluster is begun here.
        name: What the model is called in the pictures' texts.
        progress_bar: Whether there is a bar.

    Returns:
        A `Summary`. The records are what `read_index(out)` gives.

    Raises:
        BlockingIOError: If another process is at work in the folder.
        OSError: If pictures cannot be written, as on a full disk.
        ValueError: If a column is missing or unknown, or two rows have one name; ahead
            of all painting where rows are read twice.

    Example:

    ```python
    rows = [{"name": "apple", "prompt": "a red apple on a blue background"}]
    paint(rows, "apples").painted  # 1
    paint(rows, "apples").painted  # 0
    ```
    """
    way = Way(
        engine, devices, address, ray_options, batch_size, retry_failed, progress_bar
    )
    rows, out, constants = read_rows(rows), store_of(out), dict(constants or {})
    make, name = _maker(model, name)
    check_columns(rows, constants, task, keep)

    def items(painter, fingerprint, is_left):
        asking = Asking(
            functools.lru_cache(64)(functools.partial(Keyed, fingerprint)),
            painter.likeness,
            painter.own_size(),
            constants,
            task,
            keep,
        )
        return asking.items(rows, is_left)

    def count():
        check_names(rows)
        return rows.count

    place = places.Files(out, kind, quality)
    packed = packing.Packing(out, store, shard)
    return carry_out(out, make, name, place, items, count, way, packed)


def _maker(model, name: str) -> tuple[Callable, str]:
    """What makes the model, here and elsewhere, and what it is called."""
    if callable(model):
        return model, name
    source = os.fspath(model)
    name = name or os.path.basename(source)
    if os.path.exists(source):
        source = os.path.abspath(source)
    return functools.partial(_preset, source), name


def _preset(source: str):
    from kerasdiffusion.tasks.stable_diffusion import StableDiffusion

    return StableDiffusion(weights=source)
