"""Where the batch is in what the denoising program takes and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras

from kerasdiffusion.sampling.denoiser import VARYING
from kerasdiffusion.sampling.loop import Carry, Known


def _taken(
    branches: Sequence[Mapping],
    scale,
    shares,
    methods: Mapping,
    controls: Sequence[Mapping],
    carry: Carry,
    rows,
    noise,
    start,
    stop,
    known=(),
) -> tuple:
    """The axis of the batch in each tensor, -1 where there is none."""
    return (
        [{key: int(key in VARYING) for key in branch} for branch in branches],
        0 if len(scale.shape) else -1,
        keras.tree.map_structure(lambda _: 1, shares),
        keras.tree.map_structure(lambda _: -1, methods),
        [{key: 0 if key == "pictures" else -1 for key in each} for each in controls],
        _given(carry),
        *(-1, 1, -1, -1),
        Known(0, 0, 0) if known else (),
    )


def _given(carry: Carry) -> Carry:
    return Carry(0, 0, 1, tuple(0 for _ in carry.memory))


#: Of the arguments, see `loop.run` and `denoiser`, and of the result.
denoising_axes = (_taken, _given)
