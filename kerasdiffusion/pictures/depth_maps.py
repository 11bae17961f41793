"""Depth maps: read, estimated, and brought to the size of latents."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kerasdiffusion.pictures.conventions import as_array, grey_of
from kerasdiffusion.pictures.read import from_pil, open_picture, upright

#: KerasHub's estimator: high where something is near, as MiDaS, which SD 2 was
#: trained with.
ESTIMATOR = "depth_anything_v2_small"
_RULE = (
    "A depth map must be a path, a PIL image, or an array of finite numbers of shape "
    "(height, width), high where something is near"
)


def read_depths(depth: Any) -> list[np.ndarray]:
    """One depth map or several, from anything that holds some.

    Args:
        depth: A path, a PIL image of 8, 16 or 32 bits, or an array or tensor of
            numbers in any range, of shape `(height, width)`, `(height, width, 1 or
            3)`, `(batch, height, width)` or `(batch, 1, height, width)`; or a list of
            these. High is near, as in MiDaS, Depth Anything and ControlNet's pictures:
            of distances (Kinect, ZoeDepth's metres) give `-depth` or `1 / depth`.

    Returns:
        float32 arrays of shape `(height, width)`.

    Raises:
        TypeError: If something is no map.
        ValueError: If an array has another shape or holds what is no number, or a
            picture has colours, whose order is nobody's, or clear parts.
        FileNotFoundError: If there is no such file.

    Example:

    >>> [each.shape for each in read_depths(np.zeros((2, 64, 48)))]
    [(64, 48), (64, 48)]
    """
    if isinstance(depth, (list, tuple)):
        if not depth:
            raise ValueError(f"{_RULE}, or a list of these. Received: {depth!r}")
        return [each for item in depth for each in read_depths(item)]
    if isinstance(depth, (str, os.PathLike)):
        return [open_picture(depth, _from_pil)]
    from PIL import Image

    if isinstance(depth, Image.Image):
        return [_from_pil(depth)]
    if not hasattr(depth, "__array__"):
        raise TypeError(f"{_RULE}. Received: {type(depth).__name__}")
    array = as_array(depth).astype("float32")
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim in (3, 4) and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 3 and array.shape[-1] == 3:
        array = _one_channel(array)
    if array.ndim not in (2, 3) or 0 in array.shape or array.shape[-1] in (3, 4):
        raise ValueError(f"{_RULE}. Received: shape {array.shape}")
    array = _finite(array)
    return list(array) if array.ndim == 3 else [array]


def _finite(array: np.ndarray) -> np.ndarray:
    if not np.isfinite(array).all():
        raise ValueError(f"{_RULE}. Received: an array with infinite values or NaN")
    return array


def _one_channel(colours: np.ndarray) -> np.ndarray:
    """Of three channels that are alike, one."""
    if (colours != colours[..., :1]).any():
        low, high = float(colours.min()), float(colours.max())
        unit = (colours - low) / max(high - low, 1e-9)
        return grey_of(unit, "A depth map")
    return colours[..., 0]


def check_estimator(estimator) -> Callable:
    """Something that makes a depth map of a uint8 picture.

    Args:
        estimator: A function of a uint8 picture `(height, width, 3)`, a KerasHub
            `DepthEstimator`, or `None` for KerasHub's `ESTIMATOR`, which is fetched at
            its first use.

    Raises:
        TypeError: If it is none of these.
        ValueError: If it is `None` and KerasHub is not installed.
    """
    if estimator is None:
        if importlib.util.find_spec("keras_hub") is None:
            raise ValueError(
                "A depth map must be given as `depth`, or estimated: by a "
                "`depth_estimator`, or by KerasHub's DepthAnything (pip install "
                '".[depth]" in a checkout). '
                "Received: depth=None, and KerasHub is not "
                "installed"
            )
        return lambda picture: check_estimator(_usual_estimator())(picture)
    if hasattr(estimator, "predict"):
        return lambda picture: estimator.predict(picture[None], verbose=0)["depths"]
    if not callable(estimator):
        raise TypeError(
            "`depth_estimator` must be a function of a picture, or a KerasHub "
            f"DepthEstimator. Received: {estimator!r}"
        )
    return estimator


@functools.lru_cache(maxsize=1)
def _usual_estimator():
    import keras_hub

    return keras_hub.models.DepthEstimator.from_preset(
        ESTIMATOR, depth_estimation_type="relative"
    )


def estimate_depths(
    estimator: Callable, pictures: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """A depth map of each picture.

    Args:
        estimator: As `check_estimator` gives it.
        pictures: uint8 arrays of shape `(height, width, 3)`.

    Returns:
        float32 arrays of two dimensions.

    Raises:
        TypeError: If the estimator gives no map.
        ValueError: If it gives not one of each picture.
    """
    depths = []
    for picture in pictures:
        found = read_depths(estimator(picture))
        if len(found) != 1:
            raise ValueError(
                "`depth_estimator` must give one map of one picture. "
                f"Received: {len(found)} maps"
            )
        depths += found
    return depths


def fit_depth(
    depth: np.ndarray, picture: tuple[int, int], latents: tuple[int, int], pixels: int
) -> np.ndarray:
    """A depth map at the size of latents, as a depth U-Net takes it.

    Args:
        depth: float32 of any height and width, the whole of the picture.
        picture: The picture's height and width.
        latents: Those of the latents, which may reach beyond the picture.
        pixels: Pixels on a side of one latent.

    Returns:
        float32 of shape `(h, w, 1)`, from -1 to 1; 0 where the map is all of a depth.

    Reference:
        diffusers `pipeline_stable_diffusion_depth2img.py`, `prepare_depth_map`.
    """
    rows, columns = (
        _cubic(count, own, pixels * own / side)
        for own, side, count in zip(depth.shape, picture, latents, strict=True)
    )
    fitted = rows @ depth.astype("float64") @ columns.T
    low, high = fitted.min(), fitted.max()
    if high > low:
        fitted = 2.0 * (fitted - low) / (high - low) - 1.0
    else:
        fitted = np.zeros_like(fitted)
    return fitted[..., None].astype("float32")


def _cubic(count: int, size: int, step: float) -> np.ndarray:
    """Weights of cubic convolution: `(count, size)`, edges repeated.

    Reference:
        Keys 1981, "Cubic Convolution Interpolation for Digital Image Processing", with
        a = -0.75, as PyTorch has it.
    """
    centers = (np.arange(count) + 0.5) * step - 0.5
    first = np.floor(centers).astype(int)
    weights, a = np.zeros((count, size)), -0.75
    for tap in range(-1, 3):
        away = np.abs(centers - (first + tap))
        near = ((a + 2.0) * away - (a + 3.0)) * away**2 + 1.0
        far = a * (((away - 5.0) * away + 8.0) * away - 4.0)
        places = np.clip(first + tap, 0, size - 1)
        np.add.at(weights, (np.arange(count), places), np.where(away <= 1, near, far))
    return weights


def _from_pil(image) -> np.ndarray:
    image = upright(image)
    if image.mode.startswith(("I", "F")):
        return _finite(np.asarray(image, "float32"))
    array = from_pil(image).astype("float32")
    if array.shape[-1] == 4:
        if (array[..., 3] < 255).any():
            raise ValueError(f"{_RULE}. Received: a picture with clear parts")
        array = array[..., :3]
    return array[..., 0] if array.shape[-1] == 1 else _grey(array)


def _grey(array: np.ndarray) -> np.ndarray:
    """How bright a picture of levels is; numbers as ever, for the same pictures."""
    grey_of(array / 255.0, "A depth map")
    return array.astype("uint8") @ np.array([0.299, 0.587, 0.114], "float32")
