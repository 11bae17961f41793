"""Kernels in 8 bits, as numbers: symmetric, a scale for each output channel."""

from __future__ import annotations

import numpy as np


def in_eight_bits(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A kernel as whole numbers, and what each output channel was multiplied by.

    Args:
        values: Floats, the output channels first.

    Returns:
        int8 of the shape of `values`, and a float32 array of one number a channel.

    Reference:
        Keras's `AbsMaxQuantizer`, which rounds the same.

    Example:

    >>> in_eight_bits(np.array([[0.25, -1.0], [0.0, 2.0]]))[0].tolist()
    [[32, -127], [0, 127]]
    """
    rows = np.asarray(values, "float32").reshape(len(values), -1)
    most = np.maximum(rows.max(axis=1), -rows.min(axis=1)) + np.float32(1e-7)
    scale = np.float32(127.0) / most
    rows = np.multiply(rows, scale[:, None])
    return np.rint(rows, out=rows).astype("int8").reshape(values.shape), scale
