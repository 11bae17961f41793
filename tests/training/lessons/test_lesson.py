"""What can be said of how a folder is taught: checked, settled, written down."""

import dataclasses
import json

import pytest

from kerasdiffusion.presets.families import SD1, SDXL
from kerasdiffusion.training.lessons.lesson import KINDS, Lesson
from tests.tiny import TINY

WORD = {"textual-inversion": "<dog>", "pivotal": "<dog>"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", [SD1, SDXL, TINY], ids=["sd1", "sdxl", "small"])
def test_settled_nothing_is_left_open(kind, config):
    lesson = Lesson(kind=kind, word=WORD.get(kind)).settled(config, 12)
    left = ("alpha", "word", "begin", "instance_prompt", "class_prompt")
    left += ("class_folder", "snr_gamma", "save_every", "remat", "clip_skip")
    left += ("caption_chunks",)  # as the captions are
    for each in dataclasses.fields(lesson):
        if each.name not in left:
            assert getattr(lesson, each.name) is not None, each.name
    assert lesson.resolution == (config.generation.height,)
    assert json.loads(json.dumps(lesson.as_json()))["kind"] == kind


def test_what_is_said_counts_more():
    lesson = Lesson(rank=4, steps=7, resolution=256, learning_rate=1.0)
    found = lesson.settled(SD1, 12)
    assert (found.rank, found.steps, found.learning_rate) == (4, 7, 1.0)
    assert found.resolution == (256,) and found.warm_up == 0


def test_steps_follow_the_pictures():
    assert Lesson().settled(SD1, 1).steps == 500
    assert Lesson().settled(SD1, 12).steps == 1200
    assert Lesson().settled(SD1, 1000).steps == 2000


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"kind": "hypernetwork"}, "`kind` must be one of lora, dreambooth"),
        ({"rank": 0}, "`rank` must be a whole number from 1"),
        ({"learning_rate": 0.0}, "`learning_rate` must be over 0"),
        ({"caption_dropout": 2.0}, "`caption_dropout` must be from 0 to 1"),
        ({"resolution": (7,)}, "`resolution` must be pixels from 16"),
        ({"kind": "pivotal"}, "has a word of its own, as <dog>"),
        ({"word": "<dog>"}, "A word is learned by textual-inversion or pivotal"),
    ],
)
def test_values_out_of_range(fields, message):
    with pytest.raises(ValueError, match=f"{message}.*Received: "):
        Lesson(**fields)


def test_what_may_change_on_the_way():
    assert "sample" in Lesson().may_change and "rank" not in Lesson().may_change
    # Where the rate falls with the steps, these are another run's.
    assert "steps" not in Lesson(schedule="cosine").may_change
    assert "steps" in Lesson(schedule="constant").may_change
