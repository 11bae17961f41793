"""Layers of frozen weights in a training step on TensorFlow and a CPU.

TensorFlow keeps the input of a product for the gradient of its weights, whether anybody
asks for that or not. Here nothing of it is kept; and weights of 16 bits are widened
anew, when they are needed, in either direction.

Eigen, by which TensorFlow multiplies where oneDNN does not, lays the matrix on the
right out anew ahead of a product: slowly, number by number, where it is transposed, as
a kernel is for a gradient. For few pixels that took three times the product itself.
Where `tensorflow_products` has no better one, the kernel then stands on the left, as it
is, and the pixels are transposed.
"""

from __future__ import annotations

from kerasdiffusion.compute import (
    backend,
    tensorflow_cpu,
    tensorflow_products,
    tensorflow_winograd,
)
from kerasdiffusion.compute.tensorflow_products import matmul

#: Pixels up to which the kernel stands on the left.
MOST_PIXELS = 512


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

    def multiplied(x, kernel):
        rows = tf.reshape(x, (-1, ins))
        if not _by_eigen(x) or tensorflow_products.takes(rows, kernel):
            return matmul(rows, kernel)
        # The same by Eigen, in four fifths of the time of a product's own kernel.
        x = tf.reshape(x, (1, -1, 1, ins))
        return tf.nn.conv2d(x, kernel[None, None], 1, "VALID")

    @tf.custom_gradient
    def run(x):
        y = multiplied(x, _wide(kernel, x))

        def gradient(dy):
            dx = _transposed([tf.reshape(dy, (-1, outs))], [_wide(kernel, dy)])
            return tf.reshape(dx, shape)

        return tf.reshape(y, (*shape[:-1], outs)), gradient

    return run(x)


def narrow_product(x, down, up):
    """A product with two narrow matrices, whose gradients transpose no wide one.

    Args:
        x: Tensor of shape `(..., inputs)`.
        down: Tensor of shape `(inputs, rank)` and the dtype of `x`.
        up: Tensor of shape `(rank, outputs)` and the dtype of `x`.

    Returns:
        Tensor of shape `(..., outputs)`.
    """
    import tensorflow as tf

    shape, (ins, _), outs = x.shape, down.shape, up.shape[1]

    @tf.custom_gradient
    def run(x, down, up):
        flat = tf.reshape(x, (-1, ins))
        middle = matmul(flat, down)
        y = tf.reshape(matmul(middle, up), (*shape[:-1], outs))

        def gradient(dy):
            dy = tf.reshape(dy, (-1, outs))
            dmiddle = matmul(dy, up, transpose_b=True)
            dx = tf.reshape(matmul(dmiddle, down, transpose_b=True), shape)
            flat = tf.reshape(x, (-1, ins))
            ddown = tf.transpose(matmul(dmiddle, flat, transpose_a=True))
            return dx, ddown, matmul(middle, dy, transpose_a=True)

        return y, gradient

    return run(x, down, up)


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

    how = {"strides": (1, *strides, 1), "padding": padding.upper()}
    shape, size = x.shape, kernel.shape[:2]
    plain = strides == (1, 1) and (padding == "same" or size == (1, 1))
    plain = plain and _by_eigen(x)
    by_winograd = plain and tensorflow_winograd.fits(shape, kernel.shape)

    @tf.custom_gradient
    def run(x):
        if by_winograd:
            y = tensorflow_winograd.convolve(x, _wide(kernel, x))
        else:
            y = tf.raw_ops.Conv2D(input=x, filter=_wide(kernel, x), **how)

        def gradient(dy):
            wide = _wide(kernel, dy)
            if by_winograd:
                return tensorflow_winograd.gradient(dy, wide)
            if plain:
                return _by_products(dy, wide)
            return tf.raw_ops.Conv2DBackpropInput(
                input_sizes=shape, filter=wide, out_backprop=dy, **how
            )

        return y, gradient

    return run(x)


def _by_products(dy, kernel):
    """The gradient of a convolution's input, a product for each place of the kernel."""
    import tensorflow as tf

    batch, height, width, filters = dy.shape
    rows, columns, channels, _ = kernel.shape
    # What is padded ahead of an even kernel is one less than behind it; here reversed.
    pads = [(n // 2, n - 1 - n // 2) for n in (rows, columns)]
    dy = tf.pad(dy, ((0, 0), *pads, (0, 0)))
    size = (batch, height, width, filters)
    seen = [
        tf.slice(dy, (0, rows - 1 - i, columns - 1 - j, 0), size)
        for i in range(rows)
        for j in range(columns)
    ]
    seen = [tf.reshape(each, (-1, filters)) for each in seen]
    kernels = tf.unstack(tf.reshape(kernel, (-1, channels, filters)))
    return tf.reshape(_transposed(seen, kernels), (batch, height, width, channels))


def _transposed(left, kernels):
    """The sum of matrices `(pixels, outputs)` times transposed kernels."""
    import tensorflow as tf

    turns = left[0].shape[0] <= MOST_PIXELS and _by_eigen(left[0])
    turns = turns and not tensorflow_products.takes(left[0], kernels[0], False, True)
    total = None
    for x, kernel in zip(left, kernels, strict=True):
        first, second = (kernel, x) if turns else (x, kernel)
        found = matmul(first, second, transpose_b=True)
        total = found if total is None else total + found
    return tf.transpose(total) if turns else total


def _by_eigen(x) -> bool:
    """Whether Eigen multiplies such tensors here."""
    if x.dtype != "float32" or backend.has_accelerator():
        return False
    return not tensorflow_cpu.has_onednn()


def _wide(kernel, like):
    """A kernel in another tensor's dtype, made when that is there and no sooner."""
    import tensorflow as tf

    if kernel.dtype == like.dtype:
        return kernel
    with tf.control_dependencies([like]):
        return tf.cast(tf.identity(kernel), like.dtype)
