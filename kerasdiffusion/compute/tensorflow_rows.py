"""Large images on TensorFlow and a CPU, some rows after the other.

What is made of an image ahead of a convolution is then in a core's cache, and nowhere
whole: at 512x512 a decoder's largest is a quarter of a gigabyte.

For programs that are not differentiated: `kernels` asks for it.
"""

from __future__ import annotations

from collections.abc import Callable

from kerasdiffusion.compute import tensorflow_pieces

#: Numbers of an image that are at work at once: 16 MiB.
PIECE = 2**22


def convolve(x, kernel, ahead: Callable | None = None):
    """A convolution of stride 1 that keeps height and width.

    Args:
        x: Tensor of shape `(batch, height, width, channels)`.
        kernel: Tensor of shape `(3, 3, channels, filters)`.
        ahead: What is done to each number ahead of it. Takes some rows of an image, a
            tensor of shape `(1, some rows, width, channels)`, and which of the images
            it is.

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
        part = seen(images, i // parts, rows * (i % parts), rows, width, ahead)
        return tf.nn.conv2d(part, kernel, 1, "VALID")

    shape = 1, rows, width, filters
    count = batch * parts
    found = tensorflow_pieces.together(convolved, x, count, shape, x.dtype)
    return whole(found, batch, height)


def whole(pieces, batch: int, height: int):
    """Images of their pieces: all rows of some images, or some rows of an image.

    Args:
        pieces: Tensor of shape `(pieces, group, rows, width, channels)`.
        batch: Images.
        height: Of each; some rows of its last piece may be beyond.

    Returns:
        Tensor of shape `(batch, height, width, channels)`.
    """
    import tensorflow as tf

    found = tf.reshape(pieces, (batch, -1, *pieces.shape[3:]))
    if found.shape[1] == height:
        return found
    if batch == 1:  # what is cut off the first axis is not copied
        return found[0][:height][None]
    return found[:, :height]


def seen(x, images, top, rows: int, width: int, ahead: Callable | None = None):
    """What a 3x3 kernel sees of some rows: a pixel more to each side, zero beyond.

    Args:
        x: Tensor of shape `(groups, group, height, any width, channels)`.
        images: Which group: of one image, if rows are not all of them.
        top: The first of the rows, below `height`.
        rows: How many; some may be beyond.
        width: How many columns; the last may be beyond.
        ahead: As in `convolve`.

    Returns:
        Tensor of shape `(group, rows + 2, width + 2, channels)`.
    """
    import tensorflow as tf

    _, group, height, own, channels = x.shape
    is_known = isinstance(top, int)  # not so within a loop
    lowest, highest = (max, min) if is_known else (tf.maximum, tf.minimum)
    first, last = top - 1, top + rows + 1
    begin, end = lowest(first, 0), highest(last, height)
    # What is cut out of the first axis is not copied.
    flat, above = tf.reshape(x, (-1, own, channels)), images * group * height
    found = flat[above + begin : above + (group - 1) * height + end]
    found = tf.reshape(found, (group, -1, own, channels))
    if ahead is not None:
        found = ahead(found, images)
    pads = [[0, 0], [begin - first, last - end], [1, 1 + width - own], [0, 0]]
    found = tf.pad(found, pads if is_known else tf.convert_to_tensor(pads))
    return tf.reshape(found, (group, rows + 2, width + 2, channels))
