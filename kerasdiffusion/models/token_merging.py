"""Token merging: self-attention sees tokens that are alike as one.

Nothing here runs unless it is asked for, like `taps`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
from keras import ops

from kerasdiffusion.compute.repeats import one_by_one
from kerasdiffusion.compute.within import Within
from kerasdiffusion.presets.config import DiffusionModelConfig

#: Of each square of tokens with this side, the first is what others are merged into.
STRIDE = 2

_current = Within("merging")


@contextlib.contextmanager
def merging(share: float, height: int, width: int) -> Iterator[None]:
    """Within it, self-attention over so many tokens sees fewer.

    Args:
        share: Of the tokens, those that are merged into others, from 0 to 1; at most
            three in four can be.
        height: Of the picture that the tokens are, row by row. Self-attention over
            another number of tokens is left alone.
        width: Of it.
    """
    with _current.set((share, height, width)), one_by_one():
        yield


def finest_attention(config: DiffusionModelConfig) -> int | None:
    """The first level of a U-Net where pixels attend to each other, if there is one.

    The first in Stable Diffusion 1 and 2, the second in SDXL.
    """
    for level in range(len(config.block_widths)):
        if max(config.depths(level)) and not config.is_cross_only(level):
            return level
    return None


def matching(x) -> tuple[Callable, Callable]:
    """How the tokens of `x` are merged, by the current `merging`.

    Args:
        x: Tensor of shape `(batch, tokens, channels)`.

    Returns:
        Two functions of such tensors: one merges tokens, the other gives each of those
        that were merged what became of them. Both leave them alone where nothing is to
        be merged.
    """
    current = _current.get()
    if current is None or x.shape[1] != current[1] * current[2]:
        return _same, _same
    return bipartite_matching(x, *current)


def bipartite_matching(
    x, share: float, height: int, width: int
) -> tuple[Callable, Callable]:
    """Merges the tokens that have the likest partners.

    The tokens fall into two sets: the first of each square of `STRIDE` by `STRIDE`
    keeps its place; of the others, each has the one of these whose direction is most
    like its own. So many of them as are asked for, those likest to theirs, are merged
    into it: it becomes the mean of all that it then is.

    Args:
        x: The tokens by which it is decided, of shape `(batch, height * width,
            channels)`.
        share: See `merging`.
        height: Of the picture that they are.
        width: Of it.

    Returns:
        As `matching`. What merges gives `height * width - int(share * height * width)`
        tokens: first those that keep to themselves, the likest of them first, then
        the partners.

    Reference:
        Bolya and Hoffman 2023, "Token Merging for Fast Stable Diffusion", sections 3
        and 4, with its published code's defaults but for chance: there a square's
        partner is drawn anew in each call.
    """
    sources, partners = _sets(height, width)
    merged = min(int(share * height * width), len(sources))
    if not merged or not len(partners):
        return _same, _same
    batch, single = ops.shape(x)[0], len(sources) - merged
    x = ops.cast(x, "float32")
    x = x / ops.maximum(ops.sqrt(ops.sum(x * x, axis=-1, keepdims=True)), 1e-12)
    likeness = ops.matmul(
        ops.take(x, sources, axis=1),
        ops.transpose(ops.take(x, partners, axis=1), (0, 2, 1)),
    )
    partner = ops.cast(ops.argmax(likeness, axis=-1), "int32")
    order = ops.argsort(-ops.max(likeness, axis=-1), axis=-1)
    rank = ops.cast(ops.argsort(order, axis=-1), "int32")
    goes, alone = rank < merged, order[:, merged:]
    # Partners of all images in one row, and one place more for what is not merged.
    images = ops.arange(batch, dtype="int32")[:, None]
    places = batch * len(partners)
    into = ops.where(goes, images * len(partners) + partner, places)
    into = ops.reshape(into, (-1,))
    one = ops.ones_like(into, dtype="float32")[:, None]
    count = 1.0 + ops.segment_sum(one, into, places + 1)[:-1]
    count = ops.reshape(count, (batch, len(partners), 1))
    # Where each token is found again.
    back = ops.where(goes, single + partner, rank - merged)
    kept = ops.broadcast_to(
        single + ops.arange(len(partners), dtype="int32"), (batch, len(partners))
    )
    back = ops.concatenate([back, kept], axis=1)
    back = ops.take(back, np.argsort(np.concatenate([sources, partners])), axis=1)

    def merge(tokens):
        own = ops.take(tokens, sources, axis=1)
        flat = ops.reshape(ops.cast(own, "float32"), (-1, tokens.shape[-1]))
        total = ops.segment_sum(flat, into, places + 1)[:-1]
        total = ops.reshape(total, (batch, len(partners), tokens.shape[-1]))
        total = total + ops.cast(ops.take(tokens, partners, axis=1), "float32")
        mean = ops.cast(total / count, tokens.dtype)
        return ops.concatenate([_gathered(own, alone), mean], axis=1)

    return merge, lambda tokens: _gathered(tokens, back)


def _sets(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of the tokens that may be merged, and of those that they are merged into.

    What is left over at the edges may be merged.
    """
    squares = np.zeros((height, width), bool)
    rows, columns = (side // STRIDE * STRIDE for side in (height, width))
    squares[:rows:STRIDE, :columns:STRIDE] = True
    squares = squares.reshape(-1)
    return np.flatnonzero(~squares), np.flatnonzero(squares)


def _gathered(tokens, places):
    """Of each image the tokens at its places."""
    return ops.take_along_axis(tokens, places[..., None], axis=1)


def _same(tokens):
    return tokens
