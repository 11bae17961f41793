"""CLIP score and Fréchet distance, where their values are known."""

import numpy as np
import pytest
import torch

from kerasdiffusion.training.judging import metrics
from kerasdiffusion.training.judging.metrics import clip_score, frechet_distance


class Means(torch.nn.Module):
    """Features of a picture: the means of its channels."""

    num_features = 3

    def forward(self, pictures):
        return pictures.double().mean(dim=(2, 3))


def pictures(rng, count, shift=0):
    """Flat pictures whose channels are independent."""
    colors = rng.integers(50, 150, (count, 1, 1, 3)) + shift
    return np.broadcast_to(colors, (count, 8, 8, 3)).astype("uint8")


def test_a_shift_of_all_pictures_is_the_squared_distance_of_their_means():
    shown = pictures(np.random.default_rng(0), 64)
    assert frechet_distance(shown, shown, Means()) == pytest.approx(0.0, abs=1e-6)
    moved = frechet_distance(shown + np.uint8(7), shown, Means())
    assert moved == pytest.approx(3 * 7**2, rel=1e-6)


def test_the_distance_is_that_of_two_normal_distributions():
    rng = np.random.default_rng(1)
    first, second = pictures(rng, 50), pictures(rng, 80, shift=20)
    (m1, c1), (m2, c2) = (
        (each[:, 0, 0].mean(0), np.cov(each[:, 0, 0].astype(float).T))
        for each in (first, second)
    )
    roots = np.sqrt(np.linalg.eigvals(c1 @ c2)).real.sum()
    expected = ((m1 - m2) ** 2).sum() + np.trace(c1) + np.trace(c2) - 2 * roots
    assert frechet_distance(first, second, Means()) == pytest.approx(expected, 1e-6)


class Processor:
    """Counts letters; shows pictures as the means of their channels."""

    def __call__(self, text=None, images=None, **options):
        if text is not None:
            counts = [[each.count(c) for c in "rgb"] for each in text]
            return {
                "input_ids": torch.tensor(counts, dtype=torch.float32),
                "attention_mask": torch.ones(len(text), 3),
            }
        means = [each.float().mean(dim=(1, 2)) for each in images]
        return {"pixel_values": torch.stack(means)}


class Clip(torch.nn.Module):
    """What it sees and what it reads are features as they are."""

    class config:
        class text_config:
            max_position_embeddings = 77

    def get_image_features(self, pixel_values):
        return pixel_values

    def get_text_features(self, input_ids, attention_mask):
        return input_ids


def test_the_score_is_a_hundred_cosines():
    shown = np.zeros((3, 8, 8, 3), "uint8")
    shown[0, ..., 0] = 255  # red
    shown[1, ..., 1] = 255  # green
    shown[2] = 255  # all
    score = clip_score(
        shown, ["r", "b", "rgb"], lambda: (Clip(), Processor()), batch_size=2
    )
    assert score == pytest.approx(100 * (1 + 0 + 1) / 3, abs=1e-3)


def test_figures_of_shares_are_those_of_all():
    rng = np.random.default_rng(2)
    shown, real = pictures(rng, 60), pictures(rng, 40, shift=9)
    parts = [metrics.frechet_sums([shown[i::3]], Means()) for i in range(3)]
    whole = metrics.distance_of(parts, [metrics.frechet_sums([real], Means())])
    assert whole == pytest.approx(frechet_distance(shown, real, Means()), 1e-9)
    with pytest.raises(ValueError, match="two pictures or more.* 60 pictures, 0 ref"):
        metrics.distance_of(parts, [metrics.frechet_sums([], Means())])
    assert metrics.mean_of([(30.0, 1), (50.0, 3)]) == 20.0
    assert metrics.mean_of([(-30.0, 1)]) == 0.0
