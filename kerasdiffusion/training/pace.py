"""About how long a step will take, before there has been one."""

from __future__ import annotations

import time

from keras import ops

from kerasdiffusion.compute import backend
from kerasdiffusion.presets.config import DiffusionModelConfig

#: Rows and columns of the product that says how fast the device is: a layer's.
ROWS, WIDTH = 1024, 1280
#: Seconds that products take together at least, to be timed.
ENOUGH = 0.1
#: Seconds of a step beside its products, as of the bundled model on a CPU.
BESIDE = 0.1


def multiplications(config: DiffusionModelConfig, shape, tokens: int = 77) -> int:
    """Multiplications of numbers in a forward pass of the U-Net.

    Args:
        config: Its configuration.
        shape: Of the latents: batch, height, width, channels.
        tokens: Of the context.

    Example:

    >>> multiplications(DiffusionModelConfig(), (1, 64, 64, 4)) // 10**9
    401

    Reference:
        Kim et al. 2023, "BK-SDM: A Lightweight, Fast, and Cheap Version of Stable
        Diffusion", section 3: 339 billion for Stable Diffusion 1, without those of
        attention's own products.
    """
    widths, (batch, height, width) = config.block_widths, shape[:3]
    last = len(widths) - 1

    def pixels(level):
        return -(-height // 2**level) * -(-width // 2**level)

    def block(level, before, depth):
        """A residual block and the transformer after it."""
        here, own = pixels(level), widths[level]
        found = 9 * (before + own) * own + before * own * (before != own)
        if depth:
            attends = tokens if config.is_cross_only(level) else here
            layer = 18 * own**2 + 2 * own * (attends + tokens)
            found += 2 * own**2 + depth * layer
        context = depth * 2 * tokens * config.context_width * own
        return here * found + context

    total = 9 * config.in_channels * widths[0] * pixels(0)
    now = widths[0]
    for level, own in enumerate(widths):
        for depth in config.depths(level):
            total += block(level, now, depth)
            now = own
        if level < last:
            total += 9 * own**2 * pixels(level + 1)
    if config.mid_transformer_depth is not None:
        total += block(last, now, config.mid_transformer_depth)
        total += block(last, now, 0) if config.mid_transformer_depth else 0
    skips = config.skip_widths
    for level in reversed(range(len(widths))):
        for depth in config.up_depths(level):
            total += block(level, now + skips.pop(), depth)
            now = widths[level]
        if level:
            total += 9 * now**2 * pixels(level - 1)
    return batch * (total + 9 * now * config.out_channels * pixels(0))


def multiplications_a_second(dtype: str) -> float:
    """How fast the device multiplies matrices, measured for a tenth of a second.

    Args:
        dtype: What is computed with.
    """
    x = ops.ones((ROWS, WIDTH), dtype)
    weights = ops.full((WIDTH, WIDTH), 1.0 / WIDTH, dtype)

    def seconds(count: int) -> float:
        began, found = time.perf_counter(), x
        for _ in range(count):
            found = ops.matmul(found, weights)
        backend.to_numpy(found[0, 0])
        return time.perf_counter() - began

    count = 1
    seconds(count)  # the first makes the product's program
    while (took := seconds(count)) < ENOUGH:
        count *= 2
    return count * ROWS * WIDTH**2 / took


def step_seconds(
    config: DiffusionModelConfig,
    shape,
    dtype: str,
    remat: bool = False,
    weights: bool = False,
) -> float:
    """About how many seconds a step of training takes: half or twice that is usual.

    It takes a forward pass, as much for the gradients of what is computed, and as much
    each for those of weights and for the inside of blocks that is computed again.

    Args:
        config: The U-Net's configuration.
        shape: Of the latents.
        dtype: What is computed with.
        remat: Whether what is inside blocks is computed again.
        weights: Whether the U-Net's own weights are taught.
    """
    passes = 2 + remat + weights
    found = passes * multiplications(config, shape) / multiplications_a_second(dtype)
    return found + BESIDE
