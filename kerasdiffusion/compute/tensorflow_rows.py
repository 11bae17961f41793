"""Large images on TensorFlow and a CPU, some rows after the other.

What is made of an image ahead of a convolution is then in a core's cache, and nowhere
whole: at 512x512 a decoder's largest is a quarter of a gigabyte.

For programs that are not differentiated: `kernels` asks for it.
"""

from __future__ import annotations

from collections.abc import Callable

#: Numbers of an image that are at work at once: 16 MiB.
PIECE = 2**22


def convolve(x, kernel, ahead: Callable | None = None):
    """A convolution of stride 1 that keeps height and width.

    Args:
        x: Tensor of shape `(batch, height, width, channels)`.
        kernel: Tensor of shape `(3, 3, channels, filters)`.
        ahead: What is done to each number ahead of it. Takes some rows of images, a
            tensor of shape `(group, some rows, width, channels)`, and which of the
            groups of images that is.

    Returns:
        Tensor of shape `(batch, height, width, filters)`.
    """
    import tensorflow as tf

    batch, height, width, channels = x.shape
    filters = kernel.shape[3]
    rows = max(1, min(height, PIECE // (width * channels)))
    parts = -(-height // rows)
    images = tf.expand_dims(x, 1)

    def convolved(i):
        top = rows * (i % parts)
        part = seen(images, i // parts, top, rows, width, 2, ahead)
        return tf.nn.conv2d(part, kernel, 1, "VALID")[0]

    count, shape = batch * parts, (rows, width, filters)
    found = tf.TensorArray(x.dtype, count, element_shape=shape)
    _, found = tf.while_loop(
        lambda i, _: i < count,
        lambda i, found: (i + 1, found.write(i, convolved(i))),
        (0, found),
        parallel_iterations=1,
    )
    return tf.reshape(found.stack(), (batch, -1, width, filters))[:, :height]


def seen(x, images, top, rows: int, width: int, more: int, ahead: Callable | None):
    """What a 3x3 kernel sees of some rows: a pixel more to each side, zero beyond.

    Args:
        x: Tensor of shape `(groups, group, height, any width, channels)`.
        images: Which group.
        top: The first of the rows, below `height`.
        rows: How many; some may be beyond.
        width: How many columns; the last may be beyond.
        more: Rows and columns on top of these: one ahead of them, the others behind.
        ahead: As in `convolve`.

    Returns:
        Tensor of shape `(group, rows + more, width + more, channels)`.
    """
    import tensorflow as tf

    _, group, height, own, channels = x.shape
    first, last = top - 1, top + rows + more - 1
    begin, end = tf.maximum(first, 0), tf.minimum(last, height)
    found = x[images, :, begin:end]
    if ahead is not None:
        found = ahead(found, images)
    pads = [[0, 0], [begin - first, last - end], [1, more - 1 + width - own], [0, 0]]
    found = tf.pad(found, tf.convert_to_tensor(pads))
    return tf.reshape(found, (group, rows + more, width + more, channels))
