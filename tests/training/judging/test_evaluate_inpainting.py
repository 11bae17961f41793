"""What is counted of one object that is painted over another."""

import numpy as np
import pytest

from kerasdiffusion.datasets import Item, Scene, SceneConfig, render
from kerasdiffusion.datasets.scenes import BACKGROUNDS
from kerasdiffusion.training.judging import evaluate_inpainting as evaluation
from kerasdiffusion.training.judging.evaluate_inpainting import (
    box_mask,
    called,
    evaluate_inpainting,
)

SCENES = SceneConfig(objects=("red apple", "dog face"))


class Painter:
    """Puts dogs where masks are white, in every second picture; and spoils a pixel."""

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


def test_new_objects_and_pixels_that_stay_are_counted(monkeypatch):
    dog = render(Scene("blue", (Item("dog face"),)), 32)[16, 16]

    def name_objects(images, scenes, config, classifier):
        return [
            ("dog face",) if (image[16, 16] == dog).all() else ("red apple",)
            for image in images
        ]

    monkeypatch.setattr(evaluation, "name_objects", name_objects)
    lines = []
    seen, kept, pictures = evaluate_inpainting(
        Painter(), None, SCENES, count=20, seed=0, report=lines.append
    )
    assert pictures.shape == (20, 32, 32, 3) and len(lines) == 2
    assert seen == 0.5
    mask = box_mask(render(Scene("blue", (Item("red apple"),)), 32))
    assert kept == pytest.approx(1.0 - 1.0 / np.sum(~mask), abs=2e-3)


def test_the_mask_is_a_square_around_the_object_and_a_margin():
    picture = np.full((32, 32, 3), 200, np.uint8)
    picture[10:20, 6:12] = 0
    mask = box_mask(picture, margin=2 / 32)
    assert mask[8:22, 2:16].all() and mask.sum() == 14 * 14


def test_what_is_asked_for_is_what_the_captions_call_so():
    assert called("dog", SCENES) == "dog face"
    both = SceneConfig(objects=("dog face", "dog"))
    assert (called("dog", both), called("dog face", both)) == ("dog", "dog face")
    with pytest.raises(ValueError, match="must have a cat. Received: .'red apple'"):
        called("cat", SCENES)
