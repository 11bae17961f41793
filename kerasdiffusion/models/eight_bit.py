"""Layers whose kernels are kept in 8 bits: Keras's dense ones, and convolutions."""

from __future__ import annotations

import keras
from keras import ops


class EightBitDense:
    """Beside `keras.layers.Dense`: lets a subclass be quantized as Keras does it."""

    def quantize(self, mode=None, type_check=True, **keywords):
        """Keras's own, which refuses subclasses unless it is told."""
        del type_check
        super().quantize(mode, type_check=False, **keywords)


class EightBitConv:
    """Beside `keras.layers.Conv2D`: kernels of 8 bits as in Keras's dense layers.

    Keras quantizes no convolution. The kernel is multiplied by a scale of each output
    channel and rounded; what the convolution gives is divided by that.
    """

    kernel_scale = None

    def quantize(self, mode=None, type_check=True, config=None):
        """`"int8"` alone; activations stay as they are, whatever `config` says."""
        del type_check, config
        if mode != "int8" or self.kernel_scale is not None:
            raise self._quantization_mode_error(mode)
        to_bits = keras.quantizers.AbsMaxQuantizer(axis=(0, 1, 2))
        values, scale = to_bits(self._kernel, to_numpy=True)
        shape = self._kernel.shape
        del self._kernel
        self._kernel = self.add_weight(
            shape, "zeros", name="kernel", dtype="int8", trainable=False
        )
        self.kernel_scale = self.add_weight(
            (shape[-1],), "ones", name="kernel_scale", trainable=False
        )
        self._kernel.assign(values)
        self.kernel_scale.assign(ops.reshape(scale, (shape[-1],)))

    def convolution_op(self, inputs, kernel):
        """The convolution, before the bias."""
        if self.kernel_scale is None:
            return super().convolution_op(inputs, kernel)
        outputs = super().convolution_op(inputs, ops.cast(kernel, inputs.dtype))
        return outputs / ops.cast(self.kernel_scale, outputs.dtype)
