"""Layers of frozen weights in a training step on TensorFlow and a CPU.

TensorFlow keeps the input of a product for the gradient of its weights, whether anybody
asks for that or not. Here nothing of it is kept; and weights of 16 bits are widened
anew, when they are needed, in either direction.
"""

from __future__ import annotations


def product(x, kernel):
    """A product with a frozen kernel.

    Args:
        x: Tensor of shape `(..., inputs)`.
        kernel: Tensor of shape `(inputs, outputs)`, of any float dtype.

    Returns:
        Tensor of shape `(..., outputs)` and the dtype of `x`.
    """
    import tensorflow as tf

    shape, (ins, outs) = x.shape, kernel.shape

    @tf.custom_gradient
    def run(x):
        y = tf.matmul(tf.reshape(x, (-1, ins)), _wide(kernel, x))

        def gradient(dy):
            wide = _wide(kernel, dy)
            dx = tf.matmul(tf.reshape(dy, (-1, outs)), wide, transpose_b=True)
            return tf.reshape(dx, shape)

        return tf.reshape(y, (*shape[:-1], outs)), gradient

    return run(x)


def convolution(x, kernel, strides: tuple[int, int], padding: str):
    """A convolution by a frozen kernel.

    Args:
        x: Tensor of shape `(batch, height, width, channels)`.
        kernel: Tensor of shape `(height, width, channels, filters)`, of any float
            dtype.
        strides: Of height and width.
        padding: `"same"` or `"valid"`.

    Returns:
        Tensor of the dtype of `x`.
    """
    import tensorflow as tf

    shape, strides = x.shape, (1, *strides, 1)
    how = {"strides": strides, "padding": padding.upper()}

    @tf.custom_gradient
    def run(x):
        y = tf.raw_ops.Conv2D(input=x, filter=_wide(kernel, x), **how)

        def gradient(dy):
            return tf.raw_ops.Conv2DBackpropInput(
                input_sizes=shape, filter=_wide(kernel, dy), out_backprop=dy, **how
            )

        return y, gradient

    return run(x)


def _wide(kernel, like):
    """A kernel in another tensor's dtype, made when that is there and no sooner."""
    import tensorflow as tf

    if kernel.dtype == like.dtype:
        return kernel
    with tf.control_dependencies([like]):
        return tf.cast(tf.identity(kernel), like.dtype)
