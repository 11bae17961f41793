import itertools
import subprocess
import sys

import numpy as np
import pytest

from kerasdiffusion.datasets import SceneConfig, SceneDataset, render
from kerasdiffusion.datasets.emoji import FONT_VARIABLE
from kerasdiffusion.datasets.sprites import SHAPES


def test_a_sample_depends_on_seed_and_number_alone():
    data = SceneDataset(image_size=32, seed=5)
    images, captions, scenes = data.batch(0, 12)
    assert images.shape == (12, 32, 32, 3) and images.dtype == np.uint8
    later = SceneDataset(image_size=32, seed=5).batch(7, 5)
    assert (later[0] == images[7:]).all()
    assert later[1] == captions[7:] and later[2] == scenes[7:]
    assert data.scene(9) == scenes[9]
    assert SceneDataset(image_size=32, seed=6).batch(0, 12)[1] != captions


def test_iteration_is_the_samples_in_order():
    data = SceneDataset(image_size=32)
    images, captions, _ = data.batch(0, 5)
    for i, (picture, text) in enumerate(itertools.islice(data, 5)):
        assert (picture == images[i]).all() and text == captions[i]


def test_the_resolution_does_not_change_the_scene():
    small, large = SceneDataset(image_size=32), SceneDataset(image_size=128)
    assert small.batch(0, 20)[1:] == large.batch(0, 20)[1:]


def test_the_splits_are_disjoint():
    train = {SceneDataset().scene(i).key for i in range(2000)}
    test = {SceneDataset(split="test").scene(i).key for i in range(300)}
    assert len(test) > 100
    assert not train & test


def test_objects_and_grounds_come_evenly():
    scenes = [SceneDataset().scene(i) for i in range(4000)]
    grounds = [scene.background for scene in scenes]
    assert min(grounds.count(g) for g in set(grounds)) > 250
    centered = np.mean([scene.items[0].place == "center" for scene in scenes])
    assert 0.65 < centered < 0.75


def test_shapes_need_no_font(monkeypatch, tmp_path):
    monkeypatch.setenv(FONT_VARIABLE, str(tmp_path / "missing.ttf"))
    shapes = SceneDataset(SceneConfig(objects=()), image_size=32)
    assert shapes.batch(0, 3)[0].shape == (3, 32, 32, 3)
    with pytest.raises(FileNotFoundError, match="apt-get install"):
        SceneDataset()


def test_a_picture_is_its_scene_rendered():
    data = SceneDataset(image_size=48)
    assert (data.sample(3)[0] == render(data.scene(3), 48)).all()


def test_errors():
    with pytest.raises(ValueError, match="`split` .*Received: 'dev'"):
        SceneDataset(split="dev")
    with pytest.raises(IndexError, match="Received: -1"):
        SceneDataset().scene(-1)
    few = [
        SceneConfig(
            objects=(),
            shapes=(shape,),
            backgrounds=("red",),
            sizes=("medium",),
            center_fraction=1.0,
        )
        for shape in SHAPES
    ]
    every = {
        c: [SceneDataset(c, split="all").scene(i) for i in range(200)] for c in few
    }
    none = next(c for c in few if all(scene.split == "train" for scene in every[c]))
    with pytest.raises(ValueError, match="no scene of the split"):
        SceneDataset(none, split="test").scene(0)


def test_no_framework_is_imported():
    code = (
        "import sys, kerasdiffusion.datasets\n"
        "print({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))"
    )
    run = [sys.executable, "-c", code]
    out = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"
