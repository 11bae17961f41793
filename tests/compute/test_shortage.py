"""What backends raise where memory ends is one error; what else they raise is not."""

import numpy as np
import pytest

from kerasdiffusion.compute import shortage
from kerasdiffusion.compute.shortage import shortage_told, to_tensor


class ResourceExhaustedError(Exception):
    """As TensorFlow names it."""


@pytest.mark.parametrize(
    "error",
    [
        ResourceExhaustedError("\x1b[1mno room\x1b[0m for a tensor"),
        RuntimeError("RESOURCE_EXHAUSTED: no room for 9 bytes"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: no room"),
        RuntimeError("CUDA out of memory. no room"),
        ValueError("Exception encountered when calling X. OOM: no room"),
        MemoryError("no room"),
        OSError(12, "Cannot allocate memory: no room"),
    ],
)
def test_the_end_of_memory_has_one_name(error):
    with pytest.raises(MemoryError, match="must be enough memory.*Received: .*no room"):
        with shortage_told():
            raise error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("must be odd. Received: 2"),
        RuntimeError("a room of its own"),
        MemoryError("Pictures must fit in memory. Received: 9"),
        KeyboardInterrupt(),
    ],
)
def test_everything_else_stays_what_it_is(error):
    with pytest.raises(type(error)) as caught, shortage_told():
        raise error
    assert caught.value is error


def test_room_is_asked_for_ahead_of_a_large_copy(monkeypatch):
    asked = []
    monkeypatch.setattr(shortage, "_LARGE", 100)
    monkeypatch.setattr(shortage.np, "empty", lambda size, kind: asked.append(size))
    to_tensor(np.zeros(24, "float32"))
    assert not asked
    found = to_tensor(np.ones(26, "float32"))
    assert asked == [2 * 104 + 100] and to_tensor(found) is found
