"""What training on TensorFlow and a CPU computes with gradients of its own.

TensorFlow keeps every intermediate result of a composition for its gradient, and goes
over memory once for each. Here a norm keeps its input and its moments, and what else
the gradient needs is computed anew from these.

For what is within `remat.blocks()` alone, which asks for them by `gradients()`.
"""

from __future__ import annotations

import contextlib
import math

from kerasdiffusion.compute import tensorflow_cpu
from kerasdiffusion.compute.within import Within

_active = Within("gradients", False)


def gradients() -> contextlib.AbstractContextManager:
    """Within it, `operations.py` uses what is here."""
    return _active.set(True)


def takes(x) -> bool:
    """Whether what is here takes a tensor, here and now: its shape must be known."""
    return _active.get() and None not in x.shape


def has_group_norm(x) -> bool:
    """Whether `group_norm` takes a tensor, here and now."""
    fits = takes(x) and x.shape[0] <= tensorflow_cpu.MAX_BATCH
    return fits and x.dtype.name != "float16"


def group_norm(x, gamma, beta, groups: int, epsilon: float, silu: bool):
    """Group normalisation, and SiLU behind it, which keep their input.

    Args:
        x: Tensor of shape `(batch, height, width, channels)`.
        gamma: Scale, float32 of shape `(channels,)`.
        beta: Shift, float32 of shape `(channels,)`.
        groups: Number of groups that the channels fall into.
        epsilon: Added to the variance.
        silu: Whether SiLU follows.

    Returns:
        Tensor of the shape and dtype of `x`.
    """
    import tensorflow as tf

    batch, height, width, channels = x.shape
    pixels = height * width

    def over_groups(per_channel):
        return tensorflow_cpu.over_groups(per_channel, groups)

    def affine(image, scale, shift):
        unmoved = tf.zeros(channels), tf.ones(channels), 0.0
        return tensorflow_cpu.normalized(image, scale, shift, *unmoved)

    @tf.custom_gradient
    def run(x, gamma, beta):
        images = tf.split(x, batch)
        mean, variance = tensorflow_cpu.group_moments(images, groups)
        own = list(zip(tf.unstack(mean), tf.unstack(variance), strict=True))

        def normalized(images):
            return tf.concat(
                [
                    tensorflow_cpu.normalized(image, gamma, beta, *each, epsilon)
                    for image, each in zip(images, own, strict=True)
                ],
                axis=0,
            )

        y = normalized(images)
        y = y * tf.sigmoid(y) if silu else y

        def gradient(dy):
            wide = tf.cast(x, "float32")
            dz, images = tf.cast(dy, "float32"), tf.split(wide, batch)
            if silu:
                z = normalized(images)
                gate = tf.sigmoid(z)
                dz = dz * (gate + z * (gate - tf.square(gate)))
            found = [
                tf.raw_ops.FusedBatchNormGradV3(
                    y_backprop=dy,
                    x=image,
                    scale=gamma,
                    reserve_space_1=mean,
                    reserve_space_2=variance,
                    reserve_space_3=tf.zeros(0),
                    epsilon=epsilon,
                    is_training=False,
                )
                for dy, image, (mean, variance) in zip(
                    tf.split(dz, batch), images, own, strict=True
                )
            ]
            dgamma = tf.stack([each.scale_backprop for each in found])
            dbeta = tf.stack([each.offset_backprop for each in found])
            rate = tf.math.rsqrt(variance + epsilon)
            slope = -tf.square(rate) * over_groups(gamma * dgamma) / pixels
            shift = -rate * over_groups(gamma * dbeta) / pixels - mean * slope
            dx = tf.concat(
                [
                    each.x_backprop + affine(image, *own)
                    for each, image, *own in zip(
                        found,
                        images,
                        tf.unstack(slope),
                        tf.unstack(shift),
                        strict=True,
                    )
                ],
                axis=0,
            )
            dgamma, dbeta = (tf.reduce_sum(each, axis=0) for each in (dgamma, dbeta))
            return tf.cast(dx, x.dtype), dgamma, dbeta

        return y, gradient

    return run(x, gamma, beta)


def layer_norm(x, gamma, beta, epsilon: float):
    """Layer normalisation over the last axis, in float32, which keeps its input.

    Args:
        x: Tensor of shape `(..., channels)`.
        gamma: Scale of shape `(channels,)`.
        beta: Shift of shape `(channels,)`.
        epsilon: Added to the variance.

    Returns:
        Tensor of the shape and dtype of `x`.
    """
    import tensorflow as tf

    # Out here: what is read within would be watched.
    gamma, beta = map(tf.convert_to_tensor, (gamma, beta))

    def mean_of(x):
        return tf.reduce_mean(x, axis=-1, keepdims=True)

    @tf.custom_gradient
    def run(x, gamma, beta):
        wide = tf.cast(x, "float32")
        mean = mean_of(wide)
        centred = wide - mean
        rate = tf.math.rsqrt(mean_of(tf.square(centred)) + epsilon)
        y = centred * rate * tf.cast(gamma, "float32") + tf.cast(beta, "float32")

        def gradient(dy):
            dy = tf.cast(dy, "float32")
            normal = (tf.cast(x, "float32") - mean) * rate
            d = dy * tf.cast(gamma, "float32")
            dx = rate * (d - mean_of(d) - normal * mean_of(d * normal))
            axes = list(range(len(x.shape) - 1))
            dgamma = tf.cast(tf.reduce_sum(dy * normal, axes), gamma.dtype)
            dbeta = tf.cast(tf.reduce_sum(dy, axes), beta.dtype)
            return tf.cast(dx, x.dtype), dgamma, dbeta

        return tf.cast(y, x.dtype), gradient

    return run(x, gamma, beta)


def gated_gelu(x):
    """Half of the channels times the GELU of the others, which keep `x` alone.

    Args:
        x: Tensor of shape `(..., 2 * channels)`.

    Returns:
        Tensor of shape `(..., channels)`.
    """
    import tensorflow as tf

    def parts(x):
        h, gate = tf.split(tf.cast(x, "float32"), 2, axis=-1)
        return h, gate, 0.5 + 0.5 * tf.math.erf(gate * math.sqrt(0.5))

    @tf.custom_gradient
    def run(x):
        h, gate, share = parts(x)

        def gradient(dy):
            dy = tf.cast(dy, "float32")
            h, gate, share = parts(x)
            density = tf.exp(-0.5 * tf.square(gate)) * (1.0 / math.sqrt(2.0 * math.pi))
            dgate = dy * h * (share + gate * density)
            return tf.cast(tf.concat([dy * gate * share, dgate], axis=-1), x.dtype)

        return tf.cast(h * gate * share, x.dtype), gradient

    return run(x)
