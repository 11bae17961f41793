"""Products and convolutions by a layer's kernel, as each backend does them fastest."""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
from keras import ops
from keras.src.backend.common.variables import AutocastScope

from kerasdiffusion.compute import (
    changed,
    openvino_programs,
    tensorflow_cpu,
    tensorflow_frozen,
    tensorflow_gradients,
    tensorflow_pieces,
    tensorflow_products,
    tensorflow_rows,
    tensorflow_winograd,
)

#: Numbers of an image that are normalised and convolved piece by piece: 32 MiB.
LARGE = 2**23
#: Channels times filters above which Winograd's way has a kernel of more than 64 MiB.
WIDE = 2**19
#: What kernels are in that are widened to be computed with.
NARROW = ("int8", "float16", "bfloat16")


def product(x, kernel):
    """The product with a dense layer's kernel.

    Args:
        x: Tensor of shape `(..., inputs)`.
        kernel: Tensor of shape `(inputs, outputs)`.

    Returns:
        Tensor of shape `(..., outputs)`.
    """
    if tensorflow_cpu.are_active() and None not in x.shape:
        flat = ops.reshape(x, (-1, x.shape[-1]))
        y = tensorflow_products.matmul(flat, kernel)
        return ops.reshape(y, (*x.shape[:-1], y.shape[-1]))
    return ops.matmul(x, kernel)


def frozen_product(x, kernel):
    """The product with a dense layer's kernel, where a training step has it frozen.

    A narrow change of the kernel, such as a LoRA's, is not added to it but multiplied
    beside it, so that no gradient of the kernel's size is made.

    Args:
        x: Tensor of shape `(..., inputs)`.
        kernel: Keras variable of shape `(inputs, outputs)`, or `None`.

    Returns:
        Tensor of shape `(..., outputs)`; `None` where the kernel is not frozen, or has
        another change.
    """
    apart = None if kernel is None else changed.taken_apart(kernel)
    narrow = None if apart is None else apart.narrow()
    if apart is None or (apart.change is not None and narrow is None):
        return None
    narrow = narrow and [ops.cast(each, x.dtype) for each in narrow]
    if tensorflow_gradients.takes(x):
        y = tensorflow_frozen.product(x, apart.value)
        return y + tensorflow_frozen.narrow_product(x, *narrow) if narrow else y
    y = ops.matmul(x, ops.cast(apart.value, x.dtype))
    return y + ops.matmul(ops.matmul(x, narrow[0]), narrow[1]) if narrow else y


def frozen_convolution(x, kernel, layer):
    """The convolution by a kernel that is frozen, where its gradient is ours.

    Args:
        x: Tensor of shape `(batch, height, width, channels)`.
        kernel: Keras variable of shape `(height, width, channels, filters)`.
        layer: The convolution.

    Returns:
        As the layer's own, ahead of the bias; `None` where that is to compute it.
    """
    apart = changed.taken_apart(kernel)
    if apart is None or apart.change is not None or not tensorflow_gradients.takes(x):
        return None
    if layer.data_format != "channels_last" or layer.dilation_rate != (1, 1):
        return None
    how = layer.strides, layer.padding
    return tensorflow_frozen.convolution(x, apart.value, *how)


def widened(kernel, x):
    """A layer's kernel of 8 or 16 bits in the dtype of its input, where that is wider.

    TensorFlow computes first what waits for nothing: as a program begins, all kernels
    would be widened, and a network would be in memory twice. So it waits for its input.

    Args:
        kernel: Keras variable of any dtype, or a tensor made of one.
        x: Tensor that the kernel is for.

    Returns:
        A tensor of the dtype of `x`; `kernel` itself where that may be taken as it is.
    """
    if not isinstance(kernel, keras.Variable):
        return kernel
    # `dtype` would be the layer's own, within it.
    own, wanted = kernel._dtype, keras.backend.standardize_dtype(x.dtype)
    if own not in NARROW or own == wanted:
        return kernel
    if not tensorflow_cpu.are_active():
        return ops.cast(kernel, wanted) if own == "int8" else kernel
    import tensorflow as tf

    with AutocastScope(None), tf.control_dependencies([x]):
        return tf.cast(tf.identity(kernel.value), wanted)


def once_there(value, x):
    """A tensor that is there all along, but taken no sooner than another one.

    What is made of it by many layers, and their kernels, would be made as a program
    begins: see `widened`.

    Args:
        value: Tensor: a context, or a time embedding.
        x: Tensor of the layer that takes it.
    """
    if not tensorflow_cpu.are_active():
        return value
    import tensorflow as tf

    with tf.control_dependencies([x]):
        return tf.identity(value)


def convolution(x, kernel, plain: Callable, sparing: bool = False):
    """A convolution of stride 1 that keeps height and width, without a bias.

    Args:
        x: Tensor of shape `(batch, height, width, channels)`.
        kernel: Tensor of shape `(rows, columns, channels, filters)`.
        plain: Takes both, and convolves as Keras does.
        sparing: Whether little memory comes ahead of time.

    Returns:
        Tensor of shape `(batch, height, width, filters)`.
    """
    spared = sparing and math.prod(kernel.shape[2:]) > WIDE
    if not spared and tensorflow_winograd.takes(x, kernel):
        return tensorflow_winograd.convolve(x, kernel)
    return plain(x, kernel)


def small_product(x, kernel, layer: keras.layers.Dense):
    """The product with a kernel of 8 bits, where a compiler wants it in its own way.

    Args:
        x: Tensor of shape `(..., inputs)`.
        kernel: Keras variable of int8.
        layer: The dense layer.

    Returns:
        As the layer's own, ahead of the bias; `None` where that is to compute it.
    """
    if not openvino_programs.is_tracing():
        return None
    kernel, scale = map(ops.convert_to_tensor, (kernel, layer.kernel_scale))
    return openvino_programs.small_product(x, kernel, scale)


def small_convolution(x, kernel, layer: keras.layers.Conv2D):
    """The convolution by a kernel of 8 bits, where a compiler wants it in its own way.

    Args:
        x: Tensor of shape `(batch, height, width, channels)`.
        kernel: Keras variable of int8.
        layer: The convolution.

    Returns:
        As the layer's own, ahead of the bias; `None` where that is to compute it.
    """
    if not openvino_programs.is_tracing() or None in x.shape:
        return None
    kernel, scale = map(ops.convert_to_tensor, (kernel, layer.kernel_scale))
    how = layer.strides, layer.padding
    return openvino_programs.small_convolution(x, kernel, scale, *how)


def normalized_convolution(x, norm, conv: keras.layers.Conv2D):
    """A large image normalised, through SiLU and convolved, without one in between.

    Args:
        x: Tensor of shape `(batch, height, width, channels)`.
        norm: The group normalisation, which has a SiLU behind it.
        conv: The convolution.

    Returns:
        Tensor of shape `(batch, height, width, filters)`; `None` where it is to be done
        one after the other.
    """
    if not tensorflow_cpu.has_group_norm(x) or conv.kernel_scale is not None:
        return None
    if keras.backend.standardize_dtype(x.dtype) != "float32":
        return None
    if math.prod(x.shape[1:]) < LARGE or not norm.silu or conv.kernel_size != (3, 3):
        return None
    kernel = widened(conv.kernel, x)
    gamma, beta = (ops.cast(each, "float32") for each in (norm.gamma, norm.beta))
    ahead = tensorflow_cpu.normalizer(x, gamma, beta, norm.groups, norm.epsilon)
    winograd = tensorflow_winograd.takes(x, kernel)
    way = tensorflow_winograd if winograd else tensorflow_rows
    return ops.add(way.convolve(x, kernel, ahead), conv.bias)


def upsample(x, conv: keras.layers.Conv2D, size: tuple | None = None):
    """Doubles height and width by repetition, then convolves.

    Args:
        x: Tensor of shape `(batch, height, width, channels)`.
        conv: The convolution.
        size: Height and width, which may be one less than the double.

    Returns:
        Tensor of shape `(batch, *size, filters)`.
    """
    doubled = (2 * x.shape[1], 2 * x.shape[2]) if None not in x.shape else None
    if size in (None, doubled):
        if tensorflow_cpu.has_upsample(x):
            kernel = widened(conv.kernel, x)
            if tensorflow_winograd.takes(x, kernel, doubled=True):
                way = tensorflow_winograd.DOUBLED
                y = tensorflow_winograd.convolve(x, kernel, way=way)
            else:
                y = tensorflow_cpu.upsample(x, kernel)
            return ops.add(conv.rescaled(y), conv.bias)
        if doubled and conv.kernel_scale is None and openvino_programs.is_tracing():
            return openvino_programs.upsample(x, conv.kernel, conv.bias)
    x = ops.repeat(ops.repeat(x, 2, axis=1), 2, axis=2)
    return conv(x if size is None else x[:, : size[0], : size[1]])


def in_rows(function: Callable, x, channels: int, most: int):
    """A function of each pixel or token by itself, of some after the others.

    What it makes on its way is then small. On a GPU or in a compiler's hands there is
    nothing to be gained.

    Args:
        function: Takes a tensor of shape `(rows, channels)`, and gives such a one.
        x: Tensor of shape `(..., width)`.
        channels: Of what it gives.
        most: Rows at a time.

    Returns:
        Tensor of shape `(..., channels)`.
    """
    if tensorflow_cpu.are_active() and None not in x.shape:
        return tensorflow_pieces.in_rows(function, x, channels, most)
    return function(x)
