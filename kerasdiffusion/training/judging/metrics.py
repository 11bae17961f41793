"""The field's two figures for pictures, through torchmetrics (an extra)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

import numpy as np

#: What torchmetrics sums up of features.
_SUMS = ("sum", "cov_sum", "num_samples")
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
    return mean_of([clip_sums(parts, clip)])


def clip_sums(parts: Iterable[tuple], clip=CLIP) -> tuple[float, int]:
    """The sum of all pictures' scores, and how many they are.

    Args:
        parts: As of `clip_score_of`.
        clip: As there.
    """
    torch, metrics = _torchmetrics()
    metric = metrics.multimodal.CLIPScore(clip).to(_device(torch))
    for pictures, captions in parts:
        metric.update(_channels_first(torch, pictures), list(captions))
    return float(metric.score), int(metric.n_samples)


def mean_of(sums: Iterable[tuple[float, int]]) -> float:
    """The score of pictures that were summed up in shares.

    Args:
        sums: Of each share, as `clip_sums` gives them.
    """
    totals, counts = zip(*sums, strict=True)
    return max(sum(totals) / max(sum(counts), 1), 0.0)


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
    real = frechet_sums(references, features, size)
    return distance_of([frechet_sums(pictures, features, size)], [real])


def frechet_sums(
    parts: Iterable, features=2048, size=(299, 299)
) -> dict[str, np.ndarray]:
    """The sums over pictures that the distance is made from.

    Args:
        parts: As of `frechet_distance_of`.
        features: As there.
        size: As there.

    Returns:
        `"sum"` `(width,)`, `"cov_sum"` `(width, width)` and `"num_samples"`, float64.
    """
    torch, metrics = _torchmetrics()
    metric = metrics.image.fid.FrechetInceptionDistance(
        features, input_img_size=(3, *size)
    )
    metric.set_dtype(torch.float64).to(_device(torch))
    for each in parts:
        metric.update(_channels_first(torch, each), real=False)
    own = {name: getattr(metric, f"fake_features_{name}") for name in _SUMS}
    return {name: each.double().cpu().numpy() for name, each in own.items()}


def distance_of(shown: Iterable[dict], real: Iterable[dict]) -> float:
    """The distance of pictures that were summed up in shares.

    Args:
        shown: Of each share, as `frechet_sums` gives them.
        real: Likewise, of what they are compared with.

    Raises:
        ValueError: If there are fewer than two of either.
    """
    torch, metrics = _torchmetrics()
    sums = [{n: sum(each[n] for each in own) for n in _SUMS} for own in (shown, real)]
    counts = [int(each["num_samples"]) for each in sums]
    if min(counts) < 2:
        raise ValueError(
            "A Fréchet distance must be of two pictures or more, and as many "
            f"references. Received: {counts[0]} pictures, {counts[1]} references"
        )
    known = torch.nn.Identity()
    known.num_features = len(sums[0]["sum"])
    metric = metrics.image.fid.FrechetInceptionDistance(known)
    metric.set_dtype(torch.float64)
    metric.orig_dtype = torch.float64
    for kind, own in zip(("fake", "real"), sums, strict=True):
        for name, each in own.items():
            setattr(metric, f"{kind}_features_{name}", torch.as_tensor(each))
    with warnings.catch_warnings():  # it was given no picture itself
        warnings.simplefilter("ignore")
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


def _device(torch) -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _channels_first(torch, pictures):
    found = torch.from_numpy(np.ascontiguousarray(np.moveaxis(pictures, -1, 1)))
    return found.to(_device(torch))
