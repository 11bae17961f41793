"""Whether what is asked for could fit in any memory of the machine, said ahead.

The estimate is the least that a run must hold: what it gives, and the features that a
U-Net keeps for its way up. What is refused would have failed; what is not may fail yet.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from kerasdiffusion.compute import backend
from kerasdiffusion.compute.precision import policy
from kerasdiffusion.presets.config import ModelConfig

#: Where a container's limit stands.
_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_MEMINFO = Path("/proc/meminfo")
#: Counted for an accelerator, whose memory is not asked for: more than any has.
_ACCELERATOR = 2**42


def least_bytes(
    config: ModelConfig,
    size: tuple[int, int],
    pictures: int,
    at_once: int | None = None,
    itemsize: int = 4,
) -> int:
    """The least that painting takes, in bytes, without the weights.

    Args:
        config: The model.
        size: Height and width in pixels.
        pictures: How many are given back together.
        at_once: How many go through the U-Net together; all by default.
        itemsize: Bytes of a feature.

    Example:

    >>> least_bytes(ModelConfig(), (512, 512), 1) // 2**20
    18
    """
    height, width = (int(side) for side in size)
    at_once = int(pictures) if at_once is None else int(at_once)
    network, factor = config.diffusion_model, config.autoencoder.downsampling
    tall, wide = height // factor, width // factor
    kept = 0
    for channels in network.block_widths:
        kept += tall * wide * channels * network.blocks_per_level
        tall, wide = -(-tall // 2), -(-wide // 2)
    return int(pictures) * height * width * 3 + at_once * kept * itemsize


def check_room(
    config: ModelConfig,
    size: tuple[int, int],
    pictures: int,
    at_once: int | None = None,
    precision: str = "float32",
) -> None:
    """Refuses what no memory of this machine could hold.

    Args:
        config: The model.
        size: Height and width in pixels.
        pictures: How many are given back together.
        at_once: How many go through the U-Net together; all by default.
        precision: The model's dtype policy.

    Raises:
        MemoryError: If the least that it takes is more than all memory.

    Example:

    >>> check_room(ModelConfig(), (512, 512), 4)
    """
    itemsize = 2 if "16" in policy(precision).compute_dtype else 4
    least, most = least_bytes(config, size, pictures, at_once, itemsize), most_bytes()
    if least > most:
        raise MemoryError(
            f"Pictures that are painted together must fit in memory: these take at "
            f"least {_in_units(least)}, and all memory here is {_in_units(most)}; ask "
            f"for fewer or smaller ones. Received: {pictures} of {size[1]}x{size[0]} "
            f"pixels"
        )


def check_room_of(
    model,
    pictures: int,
    size: tuple[int, int] | None = None,
    at_once: int | None = None,
) -> None:
    """As `check_room`, for a `StableDiffusion` and, if not said, its own size."""
    size = size or (model.img_height, model.img_width)
    check_room(model.config, size, pictures, at_once, model.precision)


def most_bytes() -> int:
    """What this machine, its swap and its accelerator could hold; never too little."""
    try:
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 2**62  # not known: only what is beyond all machines
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("SwapTotal:"):
                found += int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    for path in _LIMITS:
        try:
            limit = int(path.read_text())
        except (OSError, ValueError):  # "max", or no such place
            continue
        found = min(found, limit)
    found = min([found, *_limits_of_the_process()])
    return found + _ACCELERATOR * backend.has_accelerator()


def _limits_of_the_process() -> list[int]:
    """What `ulimit` lets it take."""
    try:
        import resource
    except ImportError:  # Windows
        return []
    kinds = resource.RLIMIT_AS, resource.RLIMIT_DATA
    limits = [resource.getrlimit(each)[0] for each in kinds]
    return [each for each in limits if each != resource.RLIM_INFINITY]


def _in_units(count: int) -> str:
    return f"{np.float64(count) / 2**30:,.0f} GiB"
