"""A stand-in for a model: paints at once what its key says, and writes down that."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np


class StandIn:
    """A painter of small pictures.

    Args:
        log: A file; a line with process and names is added for each batch painted.
        seconds: How long a batch takes.
        side: Pixels on a side.
    """

    def __init__(self, log=None, seconds: float = 0.0, side: int = 8):
        self.log, self.seconds, self.side = log, seconds, side

    def begin(self):
        """Nothing is read."""

    def fingerprint(self):
        return {"weights": "none"}

    def own_size(self):
        return self.side, self.side

    def likeness(self, request, size):
        if size is not None and (size[0] % 8 or size[1] % 8):
            raise ValueError(f"Sides must be multiples of 8. Received: {size}")
        return request.task, size, request.num_steps

    def fault(self, item):
        if "broken" in str(item.request.prompt):
            return ValueError("`prompt` must not be broken. Received: one that is")
        return None

    def paint(self, items):
        if any(self.fault(each) for each in items):
            raise ValueError("all fail together")
        if any("crash" in each.request.prompt for each in items):
            raise RuntimeError("it cannot be painted")
        if any("kill" in each.request.prompt for each in items):
            os.kill(os.getpid(), 9)
        time.sleep(self.seconds)
        if self.log is not None:
            line = f"{os.getpid()} {' '.join(each.name for each in items)}\n"
            with open(self.log, "a") as file:
                file.write(line)
        return [picture_of(each.key, each.size or self.own_size()) for each in items]

    def described(self, item, pictures):
        return [None] * len(pictures)


def picture_of(key: str, size) -> np.ndarray:
    """The picture of a key, uint8 `(1, height, width, 3)`."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (1, *size, 3), dtype=np.uint8)


def painted(log) -> list[str]:
    """The names that were painted, as often as they were."""
    if not Path(log).exists():
        return []
    lines = Path(log).read_text().splitlines()
    return [name for line in lines for name in line.split()[1:]]
