"""The table of samplers by steps, and of weights, on a model of which all is known."""

from types import SimpleNamespace

import numpy as np
import pytest

from kerasdiffusion.datasets import SceneConfig, SceneDataset
from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling.driver import Step
from kerasdiffusion.training.judging import judge
from kerasdiffusion.training.judging.evaluate_samplers import (
    USUAL,
    Cell,
    distance,
    evaluate_samplers,
    markdown,
)
from kerasdiffusion.training.judging.evaluate_weights import evaluate_weights
from kerasdiffusion.training.judging.judge import class_names

SCENES = SceneConfig(
    objects=("red apple", "dog face", "rocket"),
    shapes=("circle",),
    sizes=("medium",),
    places=("center",),
)


@pytest.fixture(autouse=True)
def whole_pictures(monkeypatch):
    """The classifiers here see whole pictures, not windows around objects."""
    monkeypatch.setattr(judge, "window", lambda image, found: image)


class Painter:
    """Paints truly from 4 steps on, with latents that are off by 1 / steps."""

    img_height = 32
    config = SimpleNamespace(schedule=ScheduleConfig())

    def __init__(self):
        self.calls = []

    def text_to_image(self, prompts, seed, sampler, num_steps, callback, progress_bar):
        self.calls.append((len(prompts), seed, sampler, num_steps))
        callback(Step(num_steps, num_steps, 0.0, np.ones((len(prompts), 2, 2, 4))))
        latents = np.full((len(prompts), 2, 2, 4), 1.0 + 1.0 / num_steps)
        callback(Step(num_steps, num_steps, 0.0, latents))
        truth = SceneDataset(SCENES, 32, seed=7, split="all").batch(0, 6)[0]
        truth = truth[seed - 7 :][: len(prompts)]
        return truth if num_steps >= 4 else np.zeros_like(truth)


class Judge:
    """Knows each true render of the seed, and takes all else for the first object."""

    def __init__(self):
        images, _, scenes = SceneDataset(SCENES, 32, seed=7, split="all").batch(0, 6)
        self.known = images.astype("float32") / 127.5 - 1.0
        self.names = [scene.items[0].name for scene in scenes]

    def predict(self, images, batch_size, verbose):
        logits = np.zeros((len(images), len(class_names(SCENES))))
        for row, image in zip(logits, images, strict=True):
            same = [np.array_equal(image, each) for each in self.known]
            if any(same):
                name = self.names[same.index(True)]
                row[class_names(SCENES).index(name)] = 1.0
        return logits


def test_the_same_captions_and_seeds_for_every_sampler():
    model, lines = Painter(), []
    cells = evaluate_samplers(
        model,
        Judge(),
        SCENES,
        ["Euler", "dpmpp_sde"],
        steps=(2, 4),
        count=6,
        seed=7,
        batch_size=4,
        reference_steps=100,
        report=lines.append,
    )
    assert model.calls[:2] == [(4, 7, "dpmpp_2m", 100), (2, 11, "dpmpp_2m", 100)]
    assert model.calls[2:4] == [(4, 7, "euler", 2), (2, 11, "euler", 2)]
    assert list(cells) == ["euler", "dpmpp_sde"]
    assert cells["euler"][4].objects == 1.0 > cells["euler"][2].objects
    # 1 + 1/2 and 1 + 1/4 against 1 + 1/100.
    found = [cells["euler"][steps].distance for steps in (2, 4)]
    assert found == pytest.approx([0.49 / 1.01, 0.24 / 1.01])
    # What adds noise leads elsewhere.
    assert cells["dpmpp_sde"][4] == Cell(1.0, None, 7)
    assert len(lines) == 5 and "100% named right" in lines[0]


def test_the_table_is_markdown():
    cells = {"heun": {2: Cell(0.5, 1.25, 3), 4: Cell(0.75, 0.5, 7)}}
    cells["ddpm"] = {2: Cell(0.5, None, 2), 4: Cell(1.0, None, 4)}
    assert markdown(cells).splitlines() == [
        "| sampler | calls a step | 2 | 4 |",
        "| --- | --- | --- | --- |",
        "| `heun` | 2 | 50 %, 1.250 | 75 %, 0.500 |",
        "| `ddpm` | 1 | 50 % | 100 % |",
    ]


def test_an_unknown_sampler_is_said_before_anything_is_painted():
    model = Painter()
    with pytest.raises(ValueError, match="Did you mean .*euler.*Received: 'eulr'"):
        evaluate_samplers(model, Judge(), SCENES, ["eulr"])
    assert not model.calls and len(set(USUAL)) == len(USUAL)


def test_distance_is_relative_to_each_picture():
    reference = np.stack([np.ones((2, 2, 1)), 10.0 * np.ones((2, 2, 1))])
    assert distance(1.1 * reference, reference) == pytest.approx(0.1)


def test_weights_turn_the_scale_between_two_objects():
    class Weighing(Painter):
        """Shows as much of each object as its weight says."""

        def text_to_image(self, prompts, seed, num_steps, prompt_weighting, **_):
            self.calls.append(prompts)
            pictures = np.zeros((len(prompts), 32, 32, 3))
            for picture, prompt in zip(pictures, prompts, strict=True):
                for part in prompt.split("(")[1:]:
                    name, weight = part.split(")")[0].split(":")
                    picture[0, 0, class_names(SCENES).index(name) % 3] = 100 * float(
                        weight
                    )
            return pictures

    class Reading:
        def predict(self, images, batch_size, verbose):
            logits = np.zeros((len(images), 4))
            logits[:, :3] = (images[:, 0, 0] + 1.0) * 127.5 / 100
            return logits

    objects = SceneConfig(objects=SCENES.objects, shapes=())
    model = Weighing()
    found = evaluate_weights(
        model, Reading(), objects, (0.5, 1.0, 1.5), 6, 7, report=lambda line: None
    )
    assert {weight: each[0] for weight, each in found.items()} == {
        0.5: 0,
        1.0: 0,
        1.5: 1,
    }
    assert [each[1] for each in found.values()] == pytest.approx([-1, 0, 1], abs=1e-5)
    assert "a (" in model.calls[0][0] and ":0.5) and a (" in model.calls[0][0]
