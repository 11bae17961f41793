"""The scores: of pictures that are right, wrong, and on wrong grounds."""

import dataclasses

import numpy as np
import pytest

from kerasdiffusion.datasets import Item, Scene, SceneConfig, SceneDataset, render
from kerasdiffusion.training.judging import evaluate as evaluation
from kerasdiffusion.training.judging.evaluate import (
    evaluate,
    grounds_of,
    look_up,
    place_of,
    scene_sets,
    score,
    table,
)
from kerasdiffusion.training.judging.judge import class_names

SCENES = SceneConfig(objects=("red apple", "dog face"), relations=0.3)


@pytest.fixture(autouse=True)
def knowing_classifier(monkeypatch):
    """A classifier that is always right of renders: it looks the render up."""

    def name_objects(images, scenes, config, classifier):
        return [
            tuple(item.name for item in scene.items)
            if np.array_equal(image, render(scene, len(image)))
            else ("?",) * len(scene.items)
            for image, scene in zip(images, scenes, strict=True)
        ]

    monkeypatch.setattr(evaluation, "name_objects", name_objects)


class Echo:
    """A model that paints each caption's own render; its encoder and decoder fade."""

    img_height = 32

    def __init__(self, config, count):
        self.answers = {}
        for scenes, split in scene_sets(config).values():
            data = SceneDataset(scenes, 32, seed=2000, split=split)
            pictures, captions, _ = data.batch(0, count)
            self.answers |= dict(zip(captions, pictures, strict=True))
        self.image_encoder = self.decoder = self

    def text_to_image(self, captions, **options):
        return np.stack([self.answers[caption] for caption in captions])

    def predict_on_batch(self, pictures):
        return 0.9 * pictures


def test_true_renders_are_right_in_everything():
    images, captions, scenes = SceneDataset(SCENES, 32, seed=5).batch(0, 40)
    scores = score(images, captions, scenes, SCENES, None)
    assert (scores.objects, scores.grounds) == (1.0, 1.0)
    assert scores.places >= 0.95
    assert scores.all >= 0.95


def test_pictures_of_other_scenes_are_wrong():
    images = SceneDataset(SCENES, 32, seed=5).batch(0, 40)[0]
    _, captions, scenes = SceneDataset(SCENES, 32, seed=6).batch(0, 40)
    scores = score(images, captions, scenes, SCENES, None)
    assert scores.objects < 0.2
    assert scores.grounds < 0.5
    assert scores.places < 0.9
    assert scores.all < 0.2


def test_the_border_tells_the_ground_under_noise_and_overlap():
    images, _, scenes = SceneDataset(SCENES, 32, seed=3).batch(0, 30)
    noise = np.random.default_rng(0).normal(scale=8.0, size=images.shape)
    noisy = np.clip(images + noise, 0, 255).astype("uint8")
    noisy[:, :8, :8] = 128
    assert grounds_of(noisy) == [scene.background for scene in scenes]


def test_a_ground_that_the_caption_leaves_out_does_not_count():
    images, _, scenes = SceneDataset(SCENES, 32, seed=5).batch(0, 2)
    captions = [f"an apple on a {scenes[0].background} background", "an apple"]
    images[1] = 255 - images[1]
    assert score(images, captions, scenes, SCENES, None).grounds == 1.0


@pytest.mark.parametrize("word, ground", [("gray", "grey"), ("violet", "purple")])
def test_another_word_for_a_colour_names_it_too(word, ground):
    scene = Scene("blue", (Item("circle", "shape", "red"),))
    asked = Scene(ground, scene.items)
    images = render(scene, 32)[None]
    scores = score(images, [f"a circle on {word}"], [asked], SCENES, None)
    assert scores.grounds == 0.0


def test_a_place_is_told_among_those_of_the_scenes():
    scene = Scene("blue", (Item("circle", "shape", "red", "left", "small"),))
    assert place_of(render(scene, 32), scene, SCENES.places) == "left"
    assert place_of(render(scene, 32), scene, ("center", "top")) == "center"


def test_looking_up_cannot_answer_what_was_held_out():
    data = SceneDataset(SCENES, 32, seed=1, split="test")
    truth, captions, scenes = data.batch(0, 30)
    found = look_up(scenes, SCENES, 32, memory=400)
    assert not any(np.array_equal(a, b) for a, b in zip(found, truth, strict=True))
    scores = score(found, captions, scenes, SCENES, None)
    assert scores.grounds > 0.5 and scores.all == 0.0


def test_looking_up_finds_what_was_seen():
    data = SceneDataset(SCENES, 32, seed=0, split="train")
    found = look_up([data.scene(i) for i in range(5)], SCENES, 32, memory=20)
    assert np.array_equal(found, data.batch(0, 5)[0])


def test_the_table_has_the_model_its_ceilings_and_its_floor():
    lines = []
    model = Echo(SCENES, 10)
    judged = evaluate(model, None, SCENES, 10, memory=50, report=lines.append)
    assert [each.name for each in judged] == ["seen", "held out", "held-out pairs"]
    assert lines == table(judged)
    assert len(lines) == 2 + 3 * 4
    for each in judged:
        painted, truth = (
            dataclasses.astuple(each.scores[whose])
            for whose in ("painted", "true renders")
        )
        assert painted == pytest.approx(truth, nan_ok=True)
        assert each.scores["painted"].objects == 1.0
        assert each.scores["through the autoencoder"].objects == 0.0
        assert each.pictures["painted"].shape == (10, 32, 32, 3)
    expected = np.concatenate([judged[0].pictures["true renders"]]) / 127.5 - 1.0
    error = np.round((0.81 * expected + 1) * 127.5) - np.round((expected + 1) * 127.5)
    decibels = 10 * np.log10(255**2 / np.mean(error**2))
    assert judged[0].decibels == pytest.approx(decibels, abs=0.01)


def test_classes_of_the_configuration_are_enough():
    names = set(class_names(SCENES))
    for scenes, split in scene_sets(SCENES).values():
        data = SceneDataset(scenes, 32, split=split)
        for i in range(20):
            assert {item.name for item in data.scene(i).items} <= names
