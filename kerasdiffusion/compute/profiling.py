"""Which operations take the time of a call, as the backend's own profiler says."""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

#: What profilers list beside operations: their executors, and what holds others.
_HOLDERS = re.compile(
    r"::|inference_|EagerExecute|TfrtCpu|PjitFunction|Thunk|^while|^call|^Wait|^Task"
)
_HOLDING_KINDS = ("While", "StatelessWhile", "If", "StatelessIf")


def profile(run: Callable[[], object]) -> dict[str, tuple[float, int]]:
    """The operations of a call, the costliest first.

    Args:
        run: Makes the call and waits for its result. Run it once before, so that
            nothing is compiled here.

    Returns:
        Seconds and number of calls by the operation's kind: TensorFlow's name of it,
        XLA's without its number, or the kernel's on a GPU. Operations that run beside
        each other add up to more than the time of the call.

    Example:

    >>> x = keras.random.normal((64, 64))
    >>> found = profile(lambda: keras.ops.convert_to_numpy(x @ x))
    """
    import keras

    by = {"tensorflow": tensorflow, "jax": jax, "torch": torch}
    return summed(by[keras.backend.backend()](run))


def summed(costs: Iterable[tuple[str, float, int]]) -> dict[str, tuple[float, int]]:
    """Costs by kind, the largest first.

    Args:
        costs: Kind, seconds and calls of operations, as the functions here give them.

    Returns:
        Seconds and number of calls by kind.
    """
    found = defaultdict(lambda: (0.0, 0))
    for kind, seconds, count in costs:
        before = found[kind]
        found[kind] = before[0] + seconds, before[1] + count
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))


def tensorflow(run: Callable[[], object]) -> Iterator[tuple[str, float, int]]:
    """What TensorFlow's profiler says of a call."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        run()
        tf.profiler.experimental.stop()
        space = xplane_pb2.XSpace()
        space.ParseFromString(_written(folder).read_bytes())
    events = {}
    for plane in space.planes:
        names = {key: value.name for key, value in plane.event_metadata.items()}
        events[plane.name] = [
            (names[event.metadata_id], event.duration_ps / 1e12)
            for line in plane.lines
            for event in line.events
        ]
    if any("/device:" in name and found for name, found in events.items()):
        yield from _named(_on_devices(events))
        return
    for found in events.values():
        for name, seconds in found:
            # An operation's event is its path, a colon and its type.
            path, _, kind = name.rpartition(":")
            if not path or "::" in name or kind.startswith(" "):
                continue
            if not kind.endswith("PartitionedCall") and kind not in _HOLDING_KINDS:
                yield kind, seconds, 1


def jax(run: Callable[[], object]) -> Iterator[tuple[str, float, int]]:
    """What JAX's profiler says of a call."""
    from jax import profiler

    with tempfile.TemporaryDirectory() as folder:
        with profiler.trace(folder):
            run()
        data = profiler.ProfileData.from_file(str(_written(folder)))
        events = {
            plane.name: [
                (event.name, event.duration_ns / 1e9)
                for line in plane.lines
                if line.name not in ("python", "Steps", "XLA Modules")
                for event in line.events
            ]
            for plane in data.planes
        }
    yield from _named(_on_devices(events))


def torch(run: Callable[[], object]) -> Iterator[tuple[str, float, int]]:
    """What PyTorch's profiler says of a call."""
    from torch import cuda
    from torch.profiler import ProfilerActivity, profile

    activities, has_gpu = [ProfilerActivity.CPU], cuda.is_available()
    if has_gpu:
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as found:
        run()
    for each in found.key_averages():
        spent = each.self_device_time_total if has_gpu else each.self_cpu_time_total
        yield each.key, spent / 1e6, each.count


def _written(folder: str) -> Path:
    """The profile that a profiler left in a folder."""
    return next(Path(folder).rglob("*.xplane.pb"))


def _on_devices(events: dict[str, list]) -> Iterable[tuple[str, float]]:
    """What ran on accelerators or, where there are none, on the host."""
    planes = [name for name in events if "/device:" in name and events[name]]
    return [event for name in planes or events for event in events[name]]


def _named(events: Iterable[tuple[str, float]]) -> Iterator[tuple[str, float, int]]:
    for name, seconds in events:
        if not _HOLDERS.search(name):
            yield re.sub(r"[.\d]+(?=$|\.)", "", name), seconds, 1
