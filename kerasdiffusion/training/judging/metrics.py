"""The field's two figures for pictures, through torchmetrics (an extra)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

CLIP = "openai/clip-vit-large-patch14"


def clip_score(pictures, captions: list[str], clip=CLIP, batch_size: int = 16) -> float:
    """How well pictures fit their captions, from 0 to 100: higher is better.

    Args:
        pictures: uint8 `(count, height, width, 3)`.
        captions: One for each.
        clip: A CLIP model that torchmetrics knows by name and fetches, or a function
            that returns a model and its processor.
        batch_size: Pictures at once.

    Returns:
        The mean over pictures of a hundred times the cosine between picture and
        caption; 0 where that is negative.

    Raises:
        ImportError: If torchmetrics is not installed.

    Reference:
        Hessel et al. 2021, "CLIPScore: A Reference-free Evaluation Metric for Image
        Captioning".
    """
    parts = _parts(pictures, batch_size), _parts(captions, batch_size)
    return clip_score_of(zip(*parts, strict=True), clip)


def clip_score_of(parts: Iterable[tuple], clip=CLIP) -> float:
    """The same of pictures that come in parts, of a size each.

    Args:
        parts: Pictures and captions of each.
        clip: As there.
    """
    torch, metrics = _torchmetrics()
    metric = metrics.multimodal.CLIPScore(clip)
    for pictures, captions in parts:
        metric.update(_channels_first(torch, pictures), list(captions))
    return float(metric.compute())


def frechet_distance(
    pictures, references, features=2048, batch_size: int = 16
) -> float:
    """How far pictures are from others as a whole (FID): lower is better.

    Its value depends on the number of pictures: compare equal numbers only.

    Args:
        pictures: uint8 `(count, height, width, 3)`, 2 or more.
        references: uint8, likewise; as many as there are.
        features: Of Inception v3, 64, 192, 768 or 2048; or a `torch.nn.Module` from
            uint8 pictures `(batch, 3, height, width)` to features.
        batch_size: Pictures at once.

    Returns:
        The distance, 0 or more.

    Raises:
        ImportError: If torchmetrics is not installed, or torch-fidelity for Inception.

    Reference:
        Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule Converge to a
        Local Nash Equilibrium".
    """
    shown, real = _parts(pictures, batch_size), _parts(references, batch_size)
    return frechet_distance_of(shown, real, features, np.shape(pictures)[1:3])


def frechet_distance_of(
    pictures: Iterable, references: Iterable, features=2048, size=(299, 299)
) -> float:
    """The same of pictures that come in parts, of a size each.

    Args:
        pictures: Parts, uint8 `(count, height, width, 3)`.
        references: Likewise.
        features: As there.
        size: Height and width of a picture that `features` may be tried with.
    """
    torch, metrics = _torchmetrics()
    metric = metrics.image.fid.FrechetInceptionDistance(
        features, input_img_size=(3, *size)
    )
    metric.set_dtype(torch.float64)
    for parts, real in ((references, True), (pictures, False)):
        for each in parts:
            metric.update(_channels_first(torch, each), real=real)
    return float(metric.compute())


def _parts(all, count: int) -> Iterator:
    return (all[start : start + count] for start in range(0, len(all), count))


def _torchmetrics():
    try:
        import torch
        import torchmetrics.image.fid
        import torchmetrics.multimodal
    except ImportError as error:
        raise ImportError(
            'These figures need torchmetrics: pip install ".[metrics]" in a checkout'
        ) from error
    return torch, torchmetrics


def _channels_first(torch, pictures):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pictures, -1, 1)))
