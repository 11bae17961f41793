"""Fits the linear map from a model's latents to colours, by least squares.

`python -m kerasdiffusion.training.bundled.fit_preview emoji` paints pictures, and
prints the map that `presets/previews.py` keeps, with the part of the colours' variance
that it explains.
"""

from __future__ import annotations

import argparse

import numpy as np

from kerasdiffusion.presets.previews import PreviewMap
from kerasdiffusion.requests.request import Request
from kerasdiffusion.tasks.stable_diffusion import StableDiffusion

THINGS = (
    *("apple", "cat", "dog", "rocket", "red rose", "sun", "tree", "whale", "pizza"),
    *("house", "guitar", "frog", "snowman", "heart", "bicycle", "crown"),
)
COLOURS = ("white", "black", "red", "green", "blue", "yellow", "orange", "purple")


def fit(latents: np.ndarray, pictures: np.ndarray) -> tuple[PreviewMap, float]:
    """The map that is nearest to what a decoder gives.

    Args:
        latents: float32 of shape `(pictures, h, w, channels)`.
        pictures: uint8 of shape `(pictures, height, width, 3)`.

    Returns:
        The `PreviewMap`, and the part of the variance of the colours, each the mean of
        a latent's pixels, that it explains.

    Example:

    >>> latents = np.random.default_rng(0).normal(size=(2, 4, 4, 2))
    >>> colours = latents @ np.array([[0.1, 0.0, 0.2], [0.0, 0.3, 0.1]])
    >>> pictures = np.round((colours + 1.0) * 127.5).clip(0, 255).astype("uint8")
    >>> found, explained = fit(latents, pictures)
    >>> np.round(found.factors[0], 2).tolist(), bool(explained > 0.99)
    ([0.1, 0.0, 0.2], True)
    """
    count, height, width, channels = latents.shape
    side = pictures.shape[1] // height
    cut = pictures.reshape(count, height, side, width, side, 3)
    colours = cut.mean(axis=(2, 4)).reshape(-1, 3) / 127.5 - 1.0
    seen = latents.reshape(-1, channels)
    seen = np.concatenate([seen, np.ones((len(seen), 1))], axis=-1)
    solution, *_ = np.linalg.lstsq(seen, colours, rcond=None)
    left = np.var(colours - seen @ solution, axis=0).sum()
    rows = [tuple(map(float, row)) for row in solution]
    explained = 1.0 - left / np.var(colours, axis=0).sum()
    return PreviewMap(tuple(rows[:-1]), rows[-1]), float(explained)


def main(arguments: list[str] | None = None) -> int:
    """Paints, fits and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", help="a model, as `from_preset` takes it")
    parser.add_argument("--steps", type=int, default=12, help="denoising steps")
    args = parser.parse_args(arguments)
    model = StableDiffusion.from_preset(args.preset)
    latents, pictures = [], []
    for number, colour in enumerate(COLOURS):
        prompts = [f"a {thing} on a {colour} background" for thing in THINGS]
        request = Request(
            task="text_to_image",
            prompt=prompts,
            num_steps=args.steps,
            seed=1000 * number,
        )
        run = model.run(request)
        pictures.append(run.pictures())
        latents.append(run.latents)
    found, explained = fit(np.concatenate(latents), np.concatenate(pictures))
    for row in (*found.factors, found.bias):
        print(f"({', '.join(f'{value:.4f}' for value in row)}),")
    print(f"explains {explained:.1%} of the variance")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
