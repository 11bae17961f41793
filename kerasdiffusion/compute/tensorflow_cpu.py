"""What is faster on TensorFlow and a CPU than what `keras.ops` composes.

They are for programs that are not differentiated and not compiled by XLA, so they are
used within `kernels()` alone; `backend.py` asks here.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Sequence

import numpy as np
from keras import ops

from kerasdiffusion.compute import processor, tensorflow_pieces, tensorflow_rows
from kerasdiffusion.compute.within import Within

_active = Within("kernels", False)
#: Below these sizes, of an image's elements, an attention's scores and an image's
#: pixels, the kernels save less than their additional operations cost.
MIN_ELEMENTS, MIN_SCORES, MIN_PIXELS = 2**17, 2**20, 2**8
#: The largest attention map that is made at once, and how large its pieces then are:
#: queries times keys times heads times the batch, 128 and 64 MiB in bfloat16.
MAX_SCORES, PIECE = 2**26, 2**25
#: In these the kernels take their input; they reckon in float32.
DTYPES = ("float32", "bfloat16")
#: Images whose normalisation is written out one by one.
MAX_BATCH = 16
#: Numbers of an image that are measured, or made of a smaller one, at once; and of a
#: larger one, that are measured after each other: 16 and 4 MiB.
AT_ONCE, MEASURED = 2**22, 2**20


#: With these TensorFlow multiplies and convolves by oneDNN, if not told otherwise.
ONEDNN = {"avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"}


def has_onednn() -> bool:
    """Whether TensorFlow multiplies by oneDNN here, and not by Eigen."""
    switch = os.environ.get("TF_ENABLE_ONEDNN_OPTS")
    if switch in ("0", "1"):
        return switch == "1"
    return not ONEDNN.isdisjoint(processor.here())


def kernels() -> contextlib.AbstractContextManager:
    """Within it, `operations.py` uses these kernels."""
    return _active.set(True)


def are_active() -> bool:
    """Whether these kernels are used here and now."""
    return _active.get()


def _known(x) -> bool:
    """Whether these kernels take the tensor, here and now."""
    return _active.get() and x.dtype.name in DTYPES and None not in x.shape


def has_attention(query, key) -> bool:
    """Whether `attention` is for tensors of these dtypes and shapes, here and now."""
    if not _known(query) or not _known(key):
        return False
    return math.prod(query.shape[:3]) * key.shape[1] >= MIN_SCORES


def attention(query, key, value):
    """Attention by two matrix products and a softmax in the tensors' own dtype.

    The softmax is in float32 inside; no map of attention is cast or scaled.

    Args:
        query: Tensor of shape `(batch, queries, heads, head_width)`.
        key: Tensor of shape `(batch, keys, heads, head_width)`.
        value: Tensor of the shape of `key`.

    Returns:
        Tensor of the shape of `query`.
    """
    import tensorflow as tf

    from kerasdiffusion.compute.tensorflow_products import matmul

    query = query * ops.cast(1.0 / math.sqrt(query.shape[-1]), query.dtype)
    query, key, value = (tf.transpose(x, (0, 2, 1, 3)) for x in (query, key, value))
    weights = tf.nn.softmax(matmul(query, key, transpose_b=True))
    return tf.transpose(matmul(weights, value), (0, 2, 1, 3))


def has_group_norm(x) -> bool:
    """Whether `group_norm` is for a tensor of this dtype and shape, here and now."""
    if not _known(x) or x.shape[0] > MAX_BATCH:
        return False
    return math.prod(x.shape[1:]) >= MIN_ELEMENTS


def group_norm(x, gamma, beta, groups: int, epsilon: float):
    """Group normalisation by TensorFlow's fused batch normalisation.

    A batch of one image is normalised twice: once for the mean and the variance of each
    channel, which give those of its group, and then by these.

    Args:
        x: float32 or bfloat16 tensor of shape `(batch, height, width, channels)`.
        gamma: Scale, float32 of shape `(channels,)`.
        beta: Shift, float32 of shape `(channels,)`.
        groups: Number of groups that the channels fall into.
        epsilon: Added to the variance.

    Returns:
        Tensor of the shape and dtype of `x`.
    """
    import tensorflow as tf

    images = tf.split(x, x.shape[0])
    moments = zip(*map(tf.unstack, group_moments(images, groups)), strict=True)
    return tf.concat(
        [
            normalized(image, gamma, beta, *own, epsilon)
            for image, own in zip(images, moments, strict=True)
        ],
        axis=0,
    )


def normalizer(x, gamma, beta, groups: int, epsilon: float) -> Callable:
    """Group normalisation and SiLU of images, for a part of one after the other.

    Args:
        x: float32 tensor of shape `(batch, height, width, channels)`.
        gamma: As in `group_norm`, as the others.

    Returns:
        A function as `tensorflow_winograd.convolve` takes it.
    """
    import tensorflow as tf

    mean, variance = group_moments(tf.split(x, x.shape[0]), groups)

    def ahead(seen, image):
        own = mean[image], variance[image]
        seen = normalized(seen, gamma, beta, *own, epsilon)
        return seen * tf.sigmoid(seen)

    return ahead


def group_moments(images: Sequence, groups: int) -> tuple:
    """Mean and variance of the group of each channel, of each of some images.

    Args:
        images: Tensors of shape `(1, height, width, channels)`.
        groups: Number of groups that the channels fall into.

    Returns:
        Two float32 tensors of shape `(images, channels)`.
    """
    import tensorflow as tf

    means, variances = moments(images)
    mean = over_groups(means, groups)
    return mean, over_groups(variances + tf.square(means - mean), groups)


def moments(images: Sequence) -> tuple:
    """Mean and variance of each channel, of some rows of a large image after others.

    Args:
        images: float32 or bfloat16 tensors of shape `(1, height, width, channels)`.

    Returns:
        Two float32 tensors of shape `(images, channels)`.
    """
    import tensorflow as tf

    _, height, width, channels = images[0].shape
    numbers = height * width * channels
    if numbers > AT_ONCE:
        least = min(height, -(-numbers // MEASURED))
        parts = next(n for n in range(least, height + 1) if height % n == 0)
        found = [_moments_in_parts(image, parts) for image in images]
        return tuple(map(tf.stack, zip(*found, strict=True)))
    ones, zeros = (tf.constant(n, "float32", (channels,)) for n in (1, 0))
    none = tf.constant((), "float32")
    found = [
        tf.raw_ops.FusedBatchNormV3(
            x=image,
            scale=ones,
            offset=zeros,
            mean=none,
            variance=none,
            is_training=True,
        )
        for image in images
    ]
    means = tf.stack([each.batch_mean for each in found])
    # Theirs are those of a sample, divided by one less.
    variances = tf.stack([each.batch_variance for each in found])
    return means, variances * ((height * width - 1) / (height * width))


def _moments_in_parts(image, parts: int) -> list:
    """`moments` of an image, of which each number is read from memory once."""
    import tensorflow as tf

    _, height, width, channels = image.shape
    pixels = height * width // parts
    image = tf.reshape(image, (parts, pixels, channels))
    share = tf.constant(1 / pixels, "float32", (1, pixels))  # sums by it are quickest

    def measured(i):
        own = tf.cast(image[i], "float32")
        mean = tf.matmul(share, own)
        return tf.concat([mean, tf.matmul(share, tf.square(own - mean))], axis=0)

    shape = 2, channels
    found = tensorflow_pieces.together(measured, image, parts, shape, "float32")
    means, variances = tf.unstack(found, axis=1)
    mean = tf.reduce_mean(means, axis=0)
    return [mean, tf.reduce_mean(variances + tf.square(means - mean), axis=0)]


def over_groups(per_channel, groups: int):
    """The mean of each group, for each of its channels: `(images, channels)` both."""
    import tensorflow as tf

    images, channels = per_channel.shape
    mean = tf.reduce_mean(tf.reshape(per_channel, (images, groups, -1)), axis=-1)
    own = np.repeat(np.arange(groups, dtype="int32"), channels // groups)
    return tf.gather(mean, own, axis=1)


def normalized(image, scale, shift, mean, variance, epsilon: float):
    """An image whose channels have these moments, scaled and shifted, in one pass."""
    import tensorflow as tf

    return tf.raw_ops.FusedBatchNormV3(
        x=image,
        scale=scale,
        offset=shift,
        mean=mean,
        variance=variance,
        epsilon=epsilon,
        is_training=False,
    ).y


def has_upsample(x) -> bool:
    """Whether `upsample` is for a tensor of this shape, here and now."""
    return _known(x) and x.shape[1] * x.shape[2] >= MIN_PIXELS


def upsample(x, kernel):
    """Doubles height and width and convolves, in 4 ninths of the multiplications.

    Of three rows of a repeated picture, as the kernel sees them, two are the same one,
    and so are two of the columns. Which ones depends on the result's parity, so there
    are four kernels of 2x2, each for a quarter of the result.

    Args:
        x: Tensor of shape `(batch, height, width, channels)`.
        kernel: Tensor of shape `(3, 3, channels, filters)`.

    Returns:
        Tensor of shape `(batch, 2 * height, 2 * width, filters)`.

    Reference:
        Shi et al. 2016, "Real-Time Single Image and Video Super-Resolution Using an
        Efficient Sub-Pixel Convolutional Neural Network", for the parities.
    """
    import tensorflow as tf

    batch, height, width, _ = x.shape
    size = 4 * width * kernel.shape[3]
    if batch * height * size <= AT_ONCE:
        return _doubled(tf.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), kernel)
    rows = max(1, min(height, AT_ONCE // size))
    parts, images = -(-height // rows), tf.expand_dims(x, 1)

    def part(i):
        place = i // parts, rows * (i % parts)
        return _doubled(tensorflow_rows.seen(images, *place, rows, width), kernel)

    shape = 1, 2 * rows, 2 * width, kernel.shape[3]
    found = tensorflow_pieces.together(part, x, batch * parts, shape, x.dtype)
    return tensorflow_rows.whole(found, batch, 2 * height)


def _doubled(x, kernel):
    """Of images with a pixel around them: `upsample`."""
    import tensorflow as tf

    batch, height, width, _ = x.shape
    last, rows = x, []
    for down in range(2):
        row = []
        for right in range(2):
            with tf.control_dependencies([last]):  # one of the four after the other
                own = tf.cast(tf.identity(kernel), "float32")
            small = halves(halves(own, 0)[down], 1)[right]
            part = x[:, down : down + height - 1, right : right + width - 1]
            last = tf.nn.conv2d(part, tf.cast(small, x.dtype), 1, "VALID")
            row.append(last)
        rows.append(tf.stack(row, axis=3))
    doubled = tf.stack(rows, axis=2)
    return tf.reshape(doubled, (batch, 2 * height - 4, 2 * width - 4, -1))


def halves(kernel, axis: int) -> tuple:
    """What an even and an odd row, or column, of a doubled picture sees of a kernel.

    Args:
        kernel: Tensor with three along the axis.
        axis: Its rows' or its columns'.

    Returns:
        Two tensors with two along the axis.
    """
    import tensorflow as tf

    first, middle, last = tf.unstack(kernel, axis=axis)
    even, odd = (first, middle + last), (first + middle, last)
    return tf.stack(even, axis), tf.stack(odd, axis)
