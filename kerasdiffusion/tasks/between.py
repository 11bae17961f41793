"""Ways between points: prompts' vectors, and noises; in numpy."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace

import numpy as np

from kerasdiffusion.prompts.branches import Branches

PATHS = ("linear", "spherical")


@dataclass(frozen=True)
class Between:
    """Where frames are between the prompts and the seeds of a walk.

    Args:
        text_at: float of shape `(frames,)`, see `mix`.
        noise_at: The same among the seeds.
        text_path: How texts are mixed.
        noise_path: How noises are.
        read: What was read of the prompts, by the reader.
    """

    text_at: np.ndarray
    noise_at: np.ndarray
    text_path: str
    noise_path: str
    read: dict = field(default_factory=dict)

    def at(self, frames: np.ndarray) -> Between:
        """The same for some of the frames."""
        return replace(
            self, text_at=self.text_at[frames], noise_at=self.noise_at[frames]
        )

    def noise(self, noises: np.ndarray) -> np.ndarray:
        """Noise of each frame, from that of each seed, `(seeds, ..., h, w, c)`."""
        return mix(noises, self.noise_at, self.noise_path, axes=(-3, -2, -1))

    def texts(self, reader: Hashable, read: Callable[[], Branches]) -> Branches:
        """What the branches say to each frame.

        Args:
            reader: What reads the prompts; each does so once.
            read: Returns the branches of the prompts.
        """
        if reader not in self.read:
            self.read[reader] = read()
        found = self.read[reader]

        def along(values, path):
            values = mix(np.moveaxis(values, 1, 0), self.text_at, path)
            return np.moveaxis(values, 0, 1)

        pooled = found.pooled
        return found._replace(
            contexts=[along(each, self.text_path) for each in found.contexts],
            pooled=pooled and [along(each, self.text_path) for each in pooled],
            shares=along(found.shares, "linear"),
        )


def positions(points: int, frames: int, closed: bool) -> np.ndarray:
    """Where each frame is among points, evenly from the first to the last.

    Args:
        points: How many there are.
        frames: How many are looked for.
        closed: Whether the way goes on from the last to the first.

    Returns:
        float64 of shape `(frames,)`: 1.25 is a quarter of the way behind point 1.

    Example:

    >>> print(positions(3, 5, False), positions(2, 4, True))
    [0.  0.5 1.  1.5 2. ] [0.  0.5 1.  1.5]
    """
    if closed:
        return np.arange(frames) * points / frames
    return np.linspace(0.0, points - 1.0, frames)


def mix(
    points: np.ndarray,
    at: np.ndarray,
    path: str = "linear",
    axes: tuple[int, ...] = (-1,),
) -> np.ndarray:
    """Points on a way through several.

    Args:
        points: float of shape `(points, ...)`. Behind the last comes the first.
        at: Where, float of shape `(frames,)`, 0 or more: 1.25 is a quarter of the way
            behind point 1. Of a circle, its share.
        path: `"linear"`; `"spherical"`, along the circle between two, each vector on
            its own; or `"circle"`, around the one that two points span.
        axes: What makes one vector.

    Returns:
        float32 of shape `(frames, ...)`.

    Example:

    >>> corners = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> print(mix(corners, [0.5], "linear"), mix(corners, [0.5], "spherical"))
    [[0.5 0.5]] [[0.70710677 0.70710677]]

    Reference:
        Shoemake 1985, "Animating Rotation with Quaternion Curves" (slerp).
    """
    points, at = np.asarray(points, "float64"), np.asarray(at, "float64")
    at = at.reshape(-1, *[1] * (points.ndim - 1))
    if path == "circle":
        angle = 2.0 * np.pi * at
        mixed = np.cos(angle) * points[0] + np.sin(angle) * points[1]
        return mixed.astype("float32")
    first = np.floor(at).astype(int)
    share, first = at - first, first.ravel() % len(points)
    one, other = points[first], points[(first + 1) % len(points)]
    weights = 1.0 - share, share
    if path == "spherical":
        lengths = [np.sqrt((x * x).sum(axes, keepdims=True)) for x in (one, other)]
        product = np.maximum(lengths[0] * lengths[1], 1e-30)
        cosine = (one * other).sum(axes, keepdims=True) / product
        angle = np.arccos(np.clip(cosine, -1.0, 1.0))
        sine = np.sin(angle)
        # Along one line there is no circle.
        flat = (sine < 1e-4) | (product < 1e-12)
        sine = np.where(flat, 1.0, sine)
        weights = [np.where(flat, w, np.sin(w * angle) / sine) for w in weights]
    return (weights[0] * one + weights[1] * other).astype("float32")


def check_path(path, name: str) -> str:
    """One of `PATHS`."""
    if path in PATHS:
        return path
    near = difflib.get_close_matches(str(path)[:200], PATHS, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ValueError(
        f"`{name}` must be one of {', '.join(PATHS)}.{hint} Received: {path!r}"
    )
