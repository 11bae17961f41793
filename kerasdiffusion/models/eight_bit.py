"""Layers whose kernels are kept in 8 bits: dense ones and convolutions."""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from kerasdiffusion.compute import backend, kernels, memory
from kerasdiffusion.compute.eight_bit import in_eight_bits
from kerasdiffusion.compute.within import Within

_made_small = Within("made_small", False)


def made_small(small: bool = True):
    """Within it, layers are made with kernels in 8 bits.

    Where weights are read next, no kernel is there as floats first.
    """
    return _made_small.set(small)


class EightBitKernel:
    """Beside Keras's `Dense` or `Conv2D`: what either does with 8 bits.

    The kernel is multiplied by a scale of each output channel and rounded; what the
    layer gives is divided by that. Keras has the like for dense layers alone.
    """

    kernel_scale = None

    def build(self, input_shape):
        super().build(input_shape)
        if self._kernel.dtype == "int8":
            self._add_scale()
        elif _made_small.get():
            self._exchange()

    def add_weight(self, shape=None, initializer=None, dtype=None, **how):
        """Keras's own; but a kernel that is read next has 8 bits from the beginning."""
        if how.get("name") == "kernel":
            if _made_small.get() and backend.reads_weights_next():
                initializer, dtype = backend.initializer("zeros"), "int8"
                how["trainable"] = False
        return super().add_weight(shape, initializer, dtype, **how)

    def quantize(self, mode=None, type_check=True, config=None):
        """`"int8"` alone, of weights; with an `activation_quantizer` as Keras does."""
        del type_check
        if mode != "int8" or self.kernel_scale is not None:
            raise self._quantization_mode_error(mode)
        if getattr(config, "activation_quantizer", None) is None:
            self._exchange()
        elif isinstance(self, keras.layers.Dense):
            super().quantize(mode, type_check=False, config=config)
        else:
            self._exchange()  # Keras has none for convolutions

    @property
    def is_small(self) -> bool:
        """Whether the kernel is in 8 bits, and what it is given is not."""
        return self.kernel_scale is not None and self.quantization_mode is None

    def _exchange(self) -> None:
        """Puts a kernel of 8 bits in the place of the one that there is."""
        shape = tuple(self._kernel.shape)
        kernel = ops.convert_to_numpy(self._kernel)
        values, scale = in_eight_bits(np.moveaxis(kernel, -1, 0))
        with memory.collector_sees_new():
            del self._kernel
        self._kernel = self.add_weight(
            shape, "zeros", "int8", name="kernel", trainable=False
        )
        self._add_scale()
        self._kernel.assign(np.moveaxis(values, 0, -1))
        self.kernel_scale.assign(scale)

    def _add_scale(self) -> None:
        # A kernel of small numbers has scales beyond float16.
        dtype = "float32" if self.variable_dtype == "float16" else None
        self.kernel_scale = self.add_weight(
            tuple(self._kernel.shape)[-1:],
            backend.initializer("ones"),
            dtype,
            name="kernel_scale",
            trainable=False,
        )

    def scaled(self, multiply: Callable, x, kernel):
        """What a kernel of 8 bits makes of `x`, with its scale where that is cheaper.

        Args:
            multiply: Takes `x` and a kernel of floats: a product or a convolution.
            x: Tensor of shape `(..., channels)`.
            kernel: The layer's.
        """
        kernel = kernels.widened(kernel, x)
        exact = keras.backend.standardize_dtype(x.dtype) == "float32"
        rows = math.prod(x.shape[:-1]) if None not in x.shape else 0
        if exact and rows > math.prod(kernel.shape[:-1]):
            return multiply(x, ops.divide(kernel, self.kernel_scale))
        return self.rescaled(multiply(x, kernel))

    def rescaled(self, outputs):
        """What the kernel as it is has made, as its floats would have it."""
        if self.kernel_scale is None:
            return outputs
        return outputs / ops.cast(self.kernel_scale, outputs.dtype)
