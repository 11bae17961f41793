"""What guidance changes inside the U-Net, and what it looks at there.

Nothing here runs unless it is asked for: a call that taps nothing is the plain network.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from keras import ops

from kerasdiffusion.compute.repeats import one_by_one
from kerasdiffusion.compute.within import Within

_current = Within("tap")


@dataclass
class Tap:
    """What one call of the network does with its self-attention.

    Args:
        perturbed: Which images of the batch have the identity for an attention map in
            `layers`: bool of shape `(batch,)`; `None` for none.
        layers: Names of layers or of what they are in, see `is_within`.
        watched: The beginning of the name of the layer whose map is kept; `None` for
            none.
        attention: The map of the first such layer, once the network has run: float32
            of shape `(batch, tokens)`, see `received_attention`.
    """

    perturbed: object = None
    layers: Sequence[str] = ()
    watched: str | None = None
    attention: object = None


@contextlib.contextmanager
def tapping(tap: Tap) -> Iterator[Tap]:
    """Within it, self-attention goes by the tap."""
    with _current.set(tap), one_by_one():
        yield tap


def tapped(path: str, query, key, value, attended):
    """What a self-attention gives: `attended`, unless the current tap has other ideas.

    Args:
        path: The layer's path.
        query: Tensor of shape `(batch, tokens, heads, head_width)`; the others too.
        key: Its keys.
        value: Its values.
        attended: The values, weighted by attention.

    Returns:
        Tensor of the same shape.
    """
    tap = _current.get()
    if tap is None:
        return attended
    name = layer_name(path)
    if tap.watched and tap.attention is None and is_within(name, tap.watched):
        tap.attention = received_attention(query, key)
    if any(is_within(name, layer) for layer in tap.layers):
        chosen = ops.reshape(tap.perturbed, (-1, 1, 1, 1))
        return ops.where(chosen, value, attended)
    return attended


def received_attention(query, key):
    """How much attention each token gets from all: 1 is an even share.

    Args:
        query: Tensor of shape `(batch, tokens, heads, head_width)`.
        key: The same.

    Returns:
        float32 of shape `(batch, tokens)`: summed over queries, a mean over heads.

    Reference:
        Hong et al. 2022, "Improving Sample Quality of Diffusion Models Using
        Self-Attention Guidance", section 4.2.
    """
    query, key = ops.cast(query, "float32"), ops.cast(key, "float32")
    scores = ops.einsum("bqhc,bkhc->bhqk", query, key) / math.sqrt(query.shape[-1])
    return ops.sum(ops.mean(ops.softmax(scores, axis=-1), axis=1), axis=1)


def layer_name(path: str) -> str:
    """diffusers' name of a layer of the U-Net, `mid_block.attentions.0...attn1`."""
    inside = re.search(r"(?:(?:down|up)_blocks-\d+|mid_block)(?:/.*)?$", path)
    return re.sub("[/-]", ".", inside[0] if inside else path)


def is_within(name: str, block: str) -> bool:
    """Whether a layer is a block or is in it; `"mid"`, `"down"` and `"up"` are too."""
    return re.match(re.escape(block) + r"(_blocks?\b|\.|$)", name) is not None


def free_u(x, skip, backbone_scale, skip_scale):
    """FreeU: more of the backbone's features, less of the skip's low frequencies.

    Args:
        x: What comes from below, of shape `(batch, height, width, channels)`; the
            first half of its channels is scaled.
        skip: What comes from the way down, of that height and width.
        backbone_scale: The factor `b`, a float32 scalar.
        skip_scale: The factor `s` of the lowest frequencies, a float32 scalar.

    Returns:
        Both, of their shapes and dtypes.

    Reference:
        Si et al. 2023, "FreeU: Free Lunch in Diffusion U-Net", section 3; which
        channels and frequencies is as in its published code.
    """
    half = x.shape[-1] // 2
    scaled = x[..., :half] * ops.cast(backbone_scale, x.dtype)
    features = ops.cast(skip, "float32")
    filtered = features + (skip_scale - 1.0) * lowest_frequencies(features)
    return (
        ops.concatenate([scaled, x[..., half:]], axis=-1),
        ops.cast(filtered, skip.dtype),
    )


def lowest_frequencies(x):
    """The real part of frequencies -1 and 0 of height by those of width.

    Two by two frequencies need no Fourier transform, which some devices lack.

    Args:
        x: float32 of shape `(batch, height, width, channels)`.

    Returns:
        Tensor of the same shape.
    """
    rows, columns = _projection(x.shape[1]), _projection(x.shape[2])

    def product(of_rows, of_columns):
        x_rows = ops.einsum("bhwc,yh->bywc", x, of_rows.astype("float32"))
        return ops.einsum("bywc,xw->byxc", x_rows, of_columns.astype("float32"))

    return product(rows.real, columns.real) - product(rows.imag, columns.imag)


def _projection(size: int) -> np.ndarray:
    """The matrix that keeps frequencies -1 and 0 of a signal."""
    frequencies = np.unique([0, size - 1])
    waves = np.exp(2j * np.pi * np.outer(np.arange(size), frequencies) / size)
    return waves @ waves.conj().T / size
