"""Dtype policies by name: Keras's, and weights of 16 bits that are computed in 32."""

from __future__ import annotations

import keras

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
