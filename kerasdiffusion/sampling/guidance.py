"""Guidance beyond the classic scale: the formulas, each a function of predictions.

`denoiser` puts them together, in this order: what the scale adds (or adaptive
projected guidance in its place), perturbed-attention guidance, self-attention guidance,
rescaling, dynamic thresholding. A row's `COLUMNS.guidance` weighs all that is added.

The first axis is the batch; each image is guided by itself.
"""

from __future__ import annotations

import numpy as np
from keras import ops

#: What has an effect only where there is an unconditional branch.
OF_THE_SCALE = ("apg", "thresholding")

BLUR_SIZE, BLUR_DEVIATION = 9, 1.0
_IMAGE = (1, 2, 3)


def rescaled(guided, conditional, phi):
    """The guided prediction, its standard deviation drawn to the conditional's.

    Args:
        guided: The network's output after guidance, `(batch, h, w, channels)`.
        conditional: Its output for the prompt alone, of the same shape.
        phi: How far, from 0 to 1: a scalar.

    Returns:
        Tensor of the same shape.

    Reference:
        Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps are
        Flawed", section 3.4.
    """
    wanted = ops.std(conditional, axis=_IMAGE, keepdims=True)
    found = ops.std(guided, axis=_IMAGE, keepdims=True)
    return phi * (guided * (wanted / found)) + (1.0 - phi) * guided


def projected(update, conditional, eta, norm_threshold):
    """The update of adaptive projected guidance: bounded, less of it along the image.

    Args:
        update: Difference of denoised predictions, `(batch, h, w, channels)`.
        conditional: The prediction for the prompt alone, of the same shape.
        eta: What counts of the part parallel to `conditional`: a scalar; 1 is all.
        norm_threshold: The largest norm of an update: a scalar, infinite for no bound.

    Returns:
        Tensor of the same shape.

    Reference:
        Sadat et al. 2024, "Eliminating Oversaturation and Artifacts of High Guidance
        Scales in Diffusion Models", algorithm 1.
    """
    norm = ops.sqrt(_total(update * update))
    update = update * ops.minimum(1.0, norm_threshold / norm)
    along = _total(update * conditional) / _total(conditional * conditional)
    parallel = along * conditional
    return (update - parallel) + eta * parallel


def thresholded(denoised, mimicked, percentile):
    """Latents in the range that a lower guidance scale gives them.

    Around its mean, each channel of an image is clamped at its percentile or at the
    lower scale's largest value, whichever is more, then shrunk to the latter.

    Args:
        denoised: The guided prediction, `(batch, h, w, channels)`.
        mimicked: The prediction at the lower scale, of the same shape.
        percentile: Of the absolute values, from 0 to 1: a scalar.

    Returns:
        Tensor of the same shape.

    Reference:
        Saharia et al. 2022, "Photorealistic Text-to-Image Diffusion Models with Deep
        Language Understanding", section 2.3, for pixels; for latents, the
        sd-dynamic-thresholding extension by its defaults (constant scales, channels
        apart, from the mean, by absolute deviation).
    """
    mean = ops.mean(denoised, axis=(1, 2), keepdims=True)
    centred = denoised - mean
    mimicked = mimicked - ops.mean(mimicked, axis=(1, 2), keepdims=True)
    wanted = ops.max(ops.abs(mimicked), axis=(1, 2), keepdims=True)
    bound = ops.maximum(wanted, _quantile(ops.abs(centred), percentile))
    return mean + ops.clip(centred, -bound, bound) / (bound + 1e-12) * wanted


def degraded(x, denoised, attention):
    """Noisy latents without the detail where self-attention looks, for a second call.

    The prediction is blurred there; the noise is what it was.

    Args:
        x: Latents in sigma space, `(batch, h, w, channels)`.
        denoised: Their clean prediction, of the same shape.
        attention: How much attention each position of the middle block gets, of shape
            `(batch, middle height, middle width)`; those with more than 1 are looked
            at.

    Returns:
        Tensor of the shape of `x`.

    Reference:
        Hong et al. 2022, "Improving Sample Quality of Diffusion Models Using
        Self-Attention Guidance", section 4.2.
    """
    seen = ops.cast(attention > 1.0, x.dtype)
    for axis in (1, 2):
        size, wanted = seen.shape[axis], x.shape[axis]
        nearest = np.arange(wanted) * size // wanted
        seen = ops.take(seen, nearest, axis=axis)
    return x + seen[..., None] * (blurred(denoised) - denoised)


def blurred(x):
    """A Gaussian blur of 9 by 9, mirrored at the edges.

    Args:
        x: Tensor of shape `(batch, h, w, channels)`.

    Returns:
        Tensor of the same shape.
    """
    half = BLUR_SIZE // 2
    offsets = np.arange(-half, half + 1) / BLUR_DEVIATION
    weights = np.exp(-0.5 * offsets**2)
    weights = [float(weight) for weight in weights / weights.sum()]
    for axis in (1, 2):
        size = x.shape[axis]
        # Positions -4 to size + 3, mirrored about the first and the last.
        period = max(1, 2 * (size - 1))
        mirrored = np.arange(-half, size + half) % period
        mirrored = np.minimum(mirrored, period - mirrored)
        x = sum(
            weight * ops.take(x, mirrored[i : i + size], axis=axis)
            for i, weight in enumerate(weights)
        )
    return x


def _total(x):
    return ops.sum(x, axis=_IMAGE, keepdims=True)


def _quantile(x, q):
    """Of height and width, between its two nearest values; `q` may be a tensor."""
    flat = ops.reshape(x, (ops.shape(x)[0], x.shape[1] * x.shape[2], x.shape[3]))
    flat = ops.sort(flat, axis=1)
    place = ops.cast(q, "float32") * (flat.shape[1] - 1)
    below = ops.floor(place)
    low = ops.take(flat, ops.cast(below, "int32"), axis=1)
    high = ops.take(flat, ops.cast(ops.ceil(place), "int32"), axis=1)
    return (low + (place - below) * (high - low))[:, None, None, :]
