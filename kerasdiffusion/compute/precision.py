"""Dtype policies by name: Keras's, and weights of 16 bits that are computed in 32."""

from __future__ import annotations

import keras
from keras.src.backend.common.variables import AutocastScope

from kerasdiffusion.compute import tensorflow_cpu

#: Weights in float16, computed with in float32.
FLOAT16_WEIGHTS = "float16_weights"


def policy(precision: str) -> keras.DTypePolicy:
    """The policy of a name: one of Keras's, or `"float16_weights"`.

    Published weights are often float16. Kept so, they take half the memory, and what
    is computed is what float32 computes: for processors without arithmetic of 16 bits.

    Args:
        precision: Its name.

    Example:

    >>> found = policy("float16_weights")
    >>> found.variable_dtype, found.compute_dtype
    ('float16', 'float32')
    """
    if precision == FLOAT16_WEIGHTS:
        return Float16Weights()
    return keras.DTypePolicy(precision)


@keras.saving.register_keras_serializable("kerasdiffusion")
class Float16Weights(keras.DTypePolicy):
    """Variables in float16, each of which is widened to float32 when it is read."""

    def __init__(self, name: str = FLOAT16_WEIGHTS):
        super().__init__(name)

    def _parse_name(self, name):
        return "float32", "float16"


def widened(kernel, x):
    """A layer's kernel in the dtype of its input, made no sooner than that is there.

    TensorFlow computes first what waits for nothing: as a program begins, all kernels
    would be widened, and a network would be in memory twice.

    Args:
        kernel: Keras variable.
        x: Tensor that the kernel is for.

    Returns:
        A tensor of the dtype of `x`; `None` where the kernel may be taken as it is.
    """
    # `dtype` would be the layer's own, within it.
    own, wanted = kernel._dtype, keras.backend.standardize_dtype(x.dtype)
    is_half = own in ("float16", "bfloat16") and own != wanted
    if not (is_half and tensorflow_cpu.are_active()):
        return None
    import tensorflow as tf

    with AutocastScope(None), tf.control_dependencies([x]):
        return tf.cast(tf.identity(kernel.value), wanted)
