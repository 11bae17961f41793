"""The judge: what it says of pictures that are right, wrong, and on wrong grounds."""

import numpy as np
import pytest

from kerasdiffusion.datasets import SceneConfig, SceneDataset
from kerasdiffusion.training.classifier import class_names, soften, train_classifier
from kerasdiffusion.training.evaluate import border_colors, score

SCENES = SceneConfig(
    objects=("red apple", "dog face", "rocket"),
    shapes=("circle",),
    sizes=("medium",),
    places=("center",),
)


@pytest.fixture(scope="module")
def judge():
    return train_classifier(SCENES, 32, epochs=2, steps=25, batch_size=16, verbose=0)


def test_it_names_renders_that_it_has_not_seen(judge):
    images, captions, scenes = SceneDataset(SCENES, 32, seed=5).batch(0, 40)
    scores = score(images, captions, scenes, SCENES, judge)
    assert scores.objects >= 0.9
    assert scores.backgrounds == 1.0


def test_pictures_of_other_scenes_score_low(judge):
    images = SceneDataset(SCENES, 32, seed=5).batch(0, 40)[0]
    _, captions, scenes = SceneDataset(SCENES, 32, seed=6).batch(0, 40)
    scores = score(images, captions, scenes, SCENES, judge)
    assert scores.objects < 0.6
    assert scores.backgrounds < 0.5


def test_the_border_tells_the_ground_under_noise_and_overlap():
    images, _, scenes = SceneDataset(SCENES, 32, seed=3).batch(0, 30)
    noise = np.random.default_rng(0).normal(scale=8.0, size=images.shape)
    noisy = np.clip(images + noise, 0, 255).astype("uint8")
    noisy[:, :8, :8] = 128
    assert border_colors(noisy) == [scene.background for scene in scenes]


def test_a_ground_that_the_caption_leaves_out_does_not_count(judge):
    images, _, scenes = SceneDataset(SCENES, 32, seed=5).batch(0, 2)
    captions = [f"an apple on a {scenes[0].background} background", "an apple"]
    images[1] = 255 - images[1]
    assert score(images, captions, scenes, SCENES, judge).backgrounds == 1.0


def test_softening_keeps_the_mean_and_lowers_the_contrast():
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    assert soften(images).mean() == pytest.approx(images.mean())
    assert soften(images).std() < 0.6 * images.std()


def test_classes_are_the_objects_and_the_shapes():
    assert class_names(SCENES) == ["red apple", "dog face", "rocket", "circle"]
