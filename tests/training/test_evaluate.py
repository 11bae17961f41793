"""The judge: what it says of pictures that are right, wrong, and on wrong grounds."""

import numpy as np
import pytest

from kerasdiffusion.datasets import SceneConfig, SceneDataset
from kerasdiffusion.datasets.scenes import BACKGROUNDS, Item, Scene, render
from kerasdiffusion.training.classifier import class_names, soften, train_classifier
from kerasdiffusion.training.evaluate import (
    border_colors,
    box_mask,
    evaluate_inpainting,
    score,
)

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


class Painter:
    """Puts dogs where masks are white; but in every second picture."""

    img_height = 32

    def inpaint(self, pictures, masks, prompts, seed, progress_bar):
        painted = []
        for i, (picture, mask) in enumerate(zip(pictures, masks, strict=True)):
            ground = BACKGROUNDS[(seed + i) % len(BACKGROUNDS)]
            dog = render(Scene(ground, (Item("dog face"),)), 32)
            new = np.where(mask[..., None], dog, picture) if i % 2 else picture.copy()
            new[0, 0] = 255 - new[0, 0]
            painted.append(new)
        assert prompts == ["a dog"] * len(painted)
        return np.stack(painted)


def test_inpainting_counts_new_objects_and_pixels_that_stay(judge):
    lines = []
    seen, kept, pictures = evaluate_inpainting(
        Painter(), judge, SCENES, count=20, seed=0, report=lines.append
    )
    assert pictures.shape == (20, 32, 32, 3) and len(lines) == 2
    assert seen == pytest.approx(0.5, abs=0.1)
    mask = box_mask(render(Scene("blue", (Item("red apple"),)), 32), 4)
    assert kept == pytest.approx(1.0 - 1.0 / np.sum(~mask), abs=2e-3)


def test_the_mask_is_the_objects_box_and_a_margin():
    picture = np.full((32, 32, 3), 200, np.uint8)
    picture[10:20, 4:9] = 0
    mask = box_mask(picture, 6)
    assert mask[4:26, :15].all() and mask.sum() == 22 * 15
