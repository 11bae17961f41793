"""The judge: where it sees an object, and what it calls it."""

import numpy as np
import pytest

from kerasdiffusion.datasets import Item, Scene, SceneConfig, SceneDataset, render
from kerasdiffusion.datasets.scenes import PLACES, RELATIONS
from kerasdiffusion.training.judging.judge import (
    WINDOW,
    WindowBatches,
    class_names,
    find_object,
    ground_color,
    name_objects,
    regions,
    soften,
    to_unit,
    train_classifier,
    window,
)

SCENES = SceneConfig(
    objects=("red apple", "dog face", "rocket"),
    shapes=("circle",),
    relations=0.2,
)


def circle(place="center", size="medium", background="blue"):
    item = Item("circle", "shape", "red", place, size)
    return Scene(background, (item,))


@pytest.fixture(scope="module")
def classifier():
    return train_classifier(
        SCENES, 48, epochs=3, steps=30, batch_size=16, width=8, verbose=0
    )


@pytest.mark.parametrize("place", PLACES)
def test_an_object_is_found_where_the_scene_says(place):
    scene = circle(place, "small")
    ((_, x, y, side),) = scene.layout()
    found = find_object(render(scene, 64))
    assert found == pytest.approx((x, y, side), abs=0.03)


def test_a_few_stray_pixels_do_not_move_it():
    picture = render(circle(), 64)
    expected = find_object(picture)
    picture[1, 2:5] = 255
    assert find_object(picture) == pytest.approx(expected, abs=0.02)


def test_an_empty_picture_has_no_object():
    assert find_object(np.full((32, 32, 3), 77, "uint8")) is None


def test_the_ground_is_the_median_of_the_border():
    picture = render(circle(), 64)
    expected = ground_color(picture)
    picture[:20, :20] = 0
    assert ground_color(picture) == pytest.approx(expected)


def test_a_window_shows_the_object_alike_wherever_it_is():
    views = []
    for place, size in (("center", "large"), ("top left", "small")):
        picture = render(circle(place, size), 128)
        views.append(to_unit(window(picture, find_object(picture))))
    assert views[0].shape == (WINDOW, WINDOW, 3)
    assert np.mean(np.abs(views[0] - views[1])) < 0.05


@pytest.mark.parametrize("relation", RELATIONS)
def test_each_of_two_objects_is_looked_for_on_its_side(relation):
    items = (Item("circle", "shape", "red"), Item("square", "shape", "green"))
    scene = Scene("blue", items, relation)
    picture = render(scene, 64)
    found = [find_object(picture, region) for region in regions(scene)]
    layout = [place for _, *place in scene.layout()]
    assert np.allclose(found, layout, atol=0.04)


def test_of_several_equal_objects_it_sees_the_first():
    scene = Scene("blue", (Item("circle", "shape", "red"),), count=4)
    (_, *expected), *_ = scene.layout()
    found = find_object(render(scene, 64), *regions(scene))
    assert found == pytest.approx(expected, abs=0.04)


def test_it_names_renders_that_it_has_not_seen(classifier):
    images, _, scenes = SceneDataset(SCENES, 48, seed=5).batch(0, 60)
    named = name_objects(images, scenes, SCENES, classifier)
    asked = [tuple(item.name for item in scene.items) for scene in scenes]
    assert np.mean([a == b for a, b in zip(named, asked, strict=True)]) >= 0.9


def test_it_does_not_see_what_is_not_there(classifier):
    images, _, scenes = SceneDataset(SCENES, 48, seed=5).batch(0, 60)
    named = name_objects(255 - images[::-1], scenes, SCENES, classifier)
    asked = [tuple(item.name for item in scene.items) for scene in scenes]
    assert np.mean([a == b for a, b in zip(named, asked, strict=True)]) < 0.6


def test_batches_depend_on_their_number_alone():
    batches = WindowBatches(SceneDataset(SCENES, 48, seed=5), 8, steps=4)
    (first, labels), again = batches.batch(3), batches.batch(3)
    assert first.shape == (8, WINDOW, WINDOW, 3) and labels.shape == (8,)
    assert np.array_equal(first, again[0])


def test_softening_keeps_the_mean_and_lowers_the_contrast():
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    assert soften(images).mean() == pytest.approx(images.mean())
    assert soften(images).std() < 0.6 * images.std()


def test_classes_are_the_objects_and_the_shapes():
    assert class_names(SCENES) == ["red apple", "dog face", "rocket", "circle"]
