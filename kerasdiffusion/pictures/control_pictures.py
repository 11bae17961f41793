"""Pictures to follow, made of others: edges and depth."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kerasdiffusion.pictures.read import read_pictures

#: What networks were trained to follow as white lines on black.
OF_LINES = frozenset(
    (
        *("canny", "hed", "lineart", "lineart_anime", "mlsd", "scribble", "softedge"),
        *("t2i-canny", "t2i-lineart", "t2i-sketch"),
    )
)
# Of lines on black, more than any drawing has.
_MOST_WHITE = 0.6


def check_lines(pictures: Sequence[np.ndarray], kind: str | None) -> None:
    """Refuses lines on white paper for networks that follow white lines on black.

    To them nearly all of such a picture is a line, and nothing would say so.

    Args:
        pictures: uint8 arrays of shape `(height, width, 3)`.
        kind: What the network follows, a name of `presets.controls.CONTROLS`; `None` if
            it is not known.

    Raises:
        ValueError: If most of a picture is white.

    Example:

    >>> check_lines([np.zeros((64, 64, 3), "uint8")], "scribble")
    """
    if kind not in OF_LINES:
        return
    for picture in pictures:
        white = float(picture.mean()) / 255.0
        if white > _MOST_WHITE:
            raise ValueError(
                f"A picture for {kind!r} must be white lines on black; of dark lines "
                f"on white paper give `255 - picture`. Received: one that is "
                f"{white:.0%} white"
            )


def canny_edges(picture: Any, low: float = 100.0, high: float = 200.0) -> np.ndarray:
    """The edges of a picture, white on black, for `Control("canny", ...)`.

    By OpenCV, as the networks were trained; where that is not installed, by
    scikit-image, whose edges are a little smoother.

    Args:
        picture: A path, a PIL image or an array, see `read.read_pictures`.
        low: The gradient, of 8 bits, from which on an edge goes on.
        high: The gradient from which on an edge begins, `low` or more.

    Returns:
        uint8 array of shape `(height, width, 3)`, of 0 and 255.

    Raises:
        ImportError: If neither OpenCV nor scikit-image is installed.
        ValueError: If it is no single picture, or the thresholds are no interval.

    Example:

    >>> picture = np.zeros((64, 64, 3), "uint8")
    >>> picture[16:48, 16:48] = 255
    >>> canny_edges(picture).shape
    (64, 64, 3)

    Reference:
        Canny 1986, "A Computational Approach to Edge Detection".
    """
    for value in (low, high):
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError(f"Thresholds must be numbers. Received: {value!r}")
    if not 0.0 <= low <= high:
        raise ValueError(
            f"`low` must be 0 or more, and no more than `high`. Received: low={low}, "
            f"high={high}"
        )
    edges = _detector()(_one(picture), float(low), float(high))
    return np.repeat(edges[..., None], 3, axis=-1)


def depth_picture(picture: Any, estimator: Callable) -> np.ndarray:
    """How near everything in a picture is, white for near, for `Control("depth", ...)`.

    Args:
        picture: As in `canny_edges`.
        estimator: A function of a uint8 picture `(height, width, 3)` to numbers of
            shape `(height, width)`, or of another size, high where something is near;
            or a KerasHub `DepthEstimator`.

    Returns:
        uint8 array of the picture's shape, from 0 to 255.

    Raises:
        TypeError: If the estimator is none.
        ValueError: If it is no single picture, or no map comes of it.

    Example:

    >>> picture = np.zeros((64, 64, 3), "uint8")
    >>> depth_picture(picture, lambda p: np.arange(64.0)[:, None] + np.zeros(64))[-1, 0]
    array([255, 255, 255], dtype=uint8)
    """
    from PIL import Image

    if not callable(getattr(estimator, "predict", estimator)):
        raise TypeError(
            "`estimator` must be a function of a picture to its depth map, or a "
            f"KerasHub DepthEstimator. Received: {estimator!r}"
        )
    picture = _one(picture)
    if hasattr(estimator, "predict"):
        depth = estimator.predict(picture[None], verbose=0)["depths"]
    else:
        depth = estimator(picture)
    depth = np.squeeze(np.asarray(depth, "float32"))
    if depth.ndim != 2 or not np.isfinite(depth).all():
        raise ValueError(
            "An estimator must give finite numbers of shape (height, width). "
            f"Received: an array of shape {depth.shape}"
        )
    depth = depth - depth.min()
    depth = depth / max(float(depth.max()), 1e-6)
    height, width = picture.shape[:2]
    sized = Image.fromarray(depth).resize((width, height), Image.Resampling.BICUBIC)
    grey = np.clip(np.round(np.asarray(sized) * 255.0), 0, 255).astype("uint8")
    return np.repeat(grey[..., None], 3, axis=-1)


def _one(picture) -> np.ndarray:
    pictures = read_pictures(picture)
    if len(pictures) != 1:
        raise ValueError(f"There must be one picture. Received: {len(pictures)}")
    return pictures[0]


def _detector() -> Callable:
    """A function of a picture and both thresholds to its edges."""
    try:
        import cv2

        return lambda picture, low, high: cv2.Canny(picture, low, high)
    except ImportError:
        pass
    try:
        from skimage import color, feature
    except ImportError as error:
        raise ImportError(
            "Edges take OpenCV (pip install opencv-python-headless) or scikit-image "
            "(pip install scikit-image). Received: neither is installed"
        ) from error

    def detect(picture, low, high):
        grey = color.rgb2gray(picture)  # in floats from 0 to 1
        edges = feature.canny(
            grey, low_threshold=low / 255.0, high_threshold=high / 255.0
        )
        return edges.astype("uint8") * 255

    return detect
