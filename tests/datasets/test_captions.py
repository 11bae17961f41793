import random
import re
from collections import Counter

import pytest

from kerasdiffusion.datasets import (
    Item,
    Scene,
    SceneConfig,
    SceneDataset,
    caption,
    caption_corpus,
)
from kerasdiffusion.datasets.captions import _RELATIONS
from kerasdiffusion.datasets.emoji import table
from kerasdiffusion.datasets.scenes import PLACES, STYLES

EVERYTHING = SceneConfig(
    objects=tuple(table()),
    places=tuple(PLACES),
    relations=0.3,
    counts=0.2,
    styles=STYLES,
    tints=0.1,
)


def wordings(scene, count=400):
    rng = random.Random(0)
    return Counter(caption(scene, rng) for _ in range(count))


def test_the_plain_prompt_is_the_usual_wording_of_the_plain_scene():
    said = wordings(Scene("blue", (Item("red apple"),)))
    assert said.most_common(1)[0][0] == "a red apple on a blue background"
    assert "red apple, blue background" in said
    assert len(said) > 15


def test_a_small_or_displaced_object_is_never_worded_plainly():
    for item in (
        Item("red apple", size="small"),
        Item("red apple", place="left"),
        Item("red apple", place="top right", size="small"),
    ):
        for text in wordings(Scene("blue", (item,))):
            assert re.search("small|little|tiny|left|top right|upper right", text), text


def test_place_and_size_are_said():
    said = wordings(Scene("blue", (Item("red apple", place="top left", size="small"),)))
    assert any("in the top left corner" in text for text in said)
    for text in said:
        assert "left" in text and re.search("small|little|tiny", text)


def test_shapes_have_their_colour():
    for text in wordings(Scene("grey", (Item("star", "shape", "orange"),))):
        assert "orange star" in text
        assert not re.search(r"\ba orange", text)


def test_counts_and_relations_are_said():
    for text in wordings(Scene("red", (Item("mouse face"),), count=3)):
        assert re.search(r"\bthree (mice|mouse faces)\b", text)
    pair = (Item("dog face"), Item("owl"))
    for text in wordings(Scene("red", pair, "above")):
        assert re.search(r"dog.* (above|over|on top of) (an )?owl", text), text


def test_what_has_no_plural_is_never_counted():
    config = SceneConfig(objects=("grapes", "scissors", "ear of corn"), counts=1.0)
    data = SceneDataset(config, seed=3, split="all")
    for index in range(300):
        scene = data.scene(index)
        assert scene.count == 1 or scene.items[0].name not in ("scissors",)


@pytest.mark.parametrize("config", [SceneConfig(), EVERYTHING], ids=["starter", "all"])
def test_every_caption_reads_well_and_is_in_the_corpus(config):
    corpus = {
        word for text in caption_corpus(config) for word in re.findall(WORD, text)
    }
    data = SceneDataset(config, image_size=16, split="all")
    for index in range(3000):
        scene, rng = data._draw(index)
        text = caption(scene, rng, config)
        assert set(re.findall(WORD, text)) <= corpus, text
        assert text == text.strip() and "  " not in text and "{" not in text, text
        # The article fits the sound (the exceptions are tested with the article).
        sounds = re.sub(r"\b(uni|ewe|euro|one-|ufo|hour|x-ray)", "", text)
        assert not re.search(r"\ba [aeio]\w", sounds), text
        assert not re.search(r"\ban [bcdfgjklmnpqrtvwyz]\w", sounds), text


WORD = r"[^\s,]+"


def test_the_relations_are_true():
    assert set(_RELATIONS) == {"left of", "right of", "above", "below"}
    assert all("left" in text for text in _RELATIONS["left of"])
