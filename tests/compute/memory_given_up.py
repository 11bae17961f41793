"""Run by `test_parts`, in a process that has no memory left from other work."""

import gc
from pathlib import Path

import keras
import numpy as np

from kerasdiffusion.compute import backend, memory


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


name, size = keras.backend.backend(), 2**28
# What the backend takes for itself is there before memory is counted.
small = keras.Variable(np.ones(8, "float32"), name="small")
memory.give_up(name, [small])
memory.take_back(name, [small])
values = np.ones(size // 4, "float32")
empty = resident()
variable = keras.Variable(values, name="large")
assert resident() - empty > 0.9 * size
# TensorFlow keeps what it has for what comes next.
memory.give_up(name, [variable])
other = keras.Variable(values, name="next")
assert resident() - empty < 1.2 * size
memory.give_up(name, [other])
memory.take_back(name, [variable])
variable.assign(np.full(size // 4, 2, "float32"))
assert backend.to_numpy(variable)[-1] == 2.0
print("given up")
