"""A batch from beginning to end, whatever it makes: lock, index, engine, bar."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kerasdiffusion.batch import ray_engine
from kerasdiffusion.batch.asked import Broken, Item
from kerasdiffusion.batch.engines import Books
from kerasdiffusion.batch.export import export
from kerasdiffusion.batch.grouping import grouped
from kerasdiffusion.batch.index import FAILED, Known, digest, index_of
from kerasdiffusion.batch.local import Local
from kerasdiffusion.batch.packing import Packing
from kerasdiffusion.batch.painter import make_painter
from kerasdiffusion.batch.worker import Worker
from kerasdiffusion.compute.progress import Progress

ENGINES = ("auto", "local", "ray")


class Summary(NamedTuple):
    """What became of a batch.

    Attributes:
        painted: Rows that this run has painted.
        failed: Rows that this run has recorded with an error.
        before: Rows that were recorded already.
        out: The folder of the batch, or its URL.
    """

    painted: int
    failed: int
    before: int
    out: str


@dataclass
class Way:
    """How a batch is carried out.

    Args:
        engine: One of `ENGINES`.
        devices: With Ray, see `ray_engine.counts`.
        address: With Ray, the cluster's.
        ray_options: Other arguments of `ray.init`.
        batch_size: Items that are painted at once, at most.
        retry_failed: Whether what is recorded with an error is tried again.
        progress_bar: Whether there is a bar.

    Raises:
        ValueError: If a value is none.
    """

    engine: str = "auto"
    devices: str = "auto"
    address: str | None = None
    ray_options: Mapping | None = None
    batch_size: int = 8
    retry_failed: bool = False
    progress_bar: bool = True

    def __post_init__(self):
        if self.batch_size < 1:
            raise ValueError(
                f"`batch_size` must be 1 or more. Received: {self.batch_size}"
            )
        if self.engine not in ENGINES:
            raise ValueError(
                f"`engine` must be one of {', '.join(ENGINES)}. Received: {self.engine}"
            )

    @property
    def is_cluster(self) -> bool:
        """Whether others paint."""
        is_running = self.engine == "auto" and ray_engine.is_running()
        return self.engine == "ray" or is_running


def carry_out(
    out,
    make: Callable,
    name: str,
    place,
    items: Callable[[object, dict, Callable], Iterator[Item | Broken]],
    count: Callable[[], int | None],
    way: Way,
    packed: Packing,
) -> Summary:
    """Has items painted that are not recorded yet.

    Args:
        out: The store of the batch, see `stores.store_of`.
        make: Makes the model, or what stands for it, in each process that paints.
        name: What the model is called.
        place: Where pictures go, see `places`.
        items: Gives the items, from a painter of this process, the model's
            fingerprint, and what says whether one is not recorded yet.
        count: How many there are; looks at them, when the folder is locked.
        way: How.
        packed: What is done with the pictures that are recorded.

    Returns:
        A `Summary`.
    """
    if way.is_cluster and not out.is_on_disk and out.kind == "memory":
        raise ValueError(
            "A cluster must have a place that all of its processes see, and memory:// "
            f"is one process's own. Received: {out}"
        )
    with contextlib.ExitStack() as work:
        out.make()
        work.enter_context(out.locked("A batch"))
        total = count()
        run, known = index_of(out).begin()
        packed.begin()
        if way.is_cluster:
            asks = make_painter(make, name)
            where = way.devices, way.address, way.ray_options
            engine = ray_engine.Cluster(make, name, run, place, *where)
        else:
            worker = Worker(make, name, run, place)
            asks, engine = worker.painter, Local(worker)
        work.callback(engine.close)
        told = _Told(known, way.retry_failed, packed)
        fingerprint = engine.begin()
        with told.bar(total, way.progress_bar):
            left = items(asks, fingerprint, told.is_left)
            try:
                groups = grouped(left, way.batch_size)
                Books(engine, run, groups, told.records).go()
            except BaseException:
                with contextlib.suppress(OSError):  # it says less than this does
                    export(out)
                raise
            packed.close()
            export(out)
    return Summary(told.painted, told.failed, told.before, str(out))


class _Told:
    """What a run counts, and the bar that shows it."""

    def __init__(self, known: Known, retry_failed: bool, packed: Packing):
        self._known, self._again, self._packed = known, retry_failed, packed
        self.painted = self.failed = self.before = 0
        self._bar = None

    @contextlib.contextmanager
    def bar(self, total: int | None, show: bool) -> Iterator[None]:
        """Within it, there is a bar."""
        with Progress(total, "row", show, ahead="preparing") as self._bar:
            self._bar.begin()
            yield

    def is_left(self, item: Item | Broken) -> bool:
        """Whether it is not recorded yet; else it is counted."""
        own = digest(item.name, item.key)
        has_failed = own in self._known.failed and not self._again
        if own not in self._known.done and not has_failed:
            return True
        self.before += 1
        if self.before % 1000 == 0:
            self._show()
        return False

    def records(self, records: Sequence[dict]) -> None:
        """Counts what was recorded."""
        failed = sum(each["status"] == FAILED for each in records)
        self.failed += failed
        self.painted += len(records) - failed
        self._show()
        self._packed.add(records)

    def _show(self) -> None:
        told = f"{self.failed} failed" if self.failed else ""
        self._bar.to(self.before + self.painted + self.failed, told)
