"""Requests taken apart, put together, and painted at another size."""

import numpy as np
import pytest

from kerasdiffusion.requests.request import Request
from kerasdiffusion.tasks.batches import apart, likeness, together
from kerasdiffusion.tasks.sized import Sized
from tests.tiny import TEXTS, tiny_model

SHORT = {"num_steps": 2, "sampler": "euler_ancestral"}


def asked(prompt=TEXTS[0], task="text_to_image", **more):
    return Request(task=task, prompt=prompt, **{**SHORT, "seed": 1, **more})


def pictures(count):
    random = np.random.default_rng(count)
    return [random.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(count)]


def tell_apart(found):
    return [(each.prompt, each.negative_prompt, each.seed) for each in found]


def test_each_picture_gets_its_own_of_what_there_are_several():
    found = apart(asked(["a", "b"], negative_prompt=["x", "y"], batch_size=2, seed=7))
    assert tell_apart(found) == [
        ("a", "x", 7),
        ("a", "x", 8),
        ("b", "y", 9),
        ("b", "y", 10),
    ]
    first, second = pictures(2)
    found = apart(asked(["a", "b"], "image_to_image", image=[first, second]))
    assert found[0].image is first and found[1].image is second
    found = apart(asked(batch_size=2, variation_strength=0.5, variation_seed=5))
    assert [(each.seed, each.variation_seed) for each in found] == [(1, 5), (1, 6)]


def test_what_belongs_together_stays():
    walk = Request(task="interpolate", prompt=["a", "b"], seed=1)
    assert apart(walk) == [walk] and likeness(None, walk) is None


def test_a_batch_is_what_each_would_be_alone(tiny):
    """To rounding: a batch multiplies other shapes, and no pixel moves by two."""
    whole = asked(list(TEXTS), negative_prompt=["", "blurry", "dark"], seed=5)
    parts = apart(whole)
    assert len({likeness(tiny, each) for each in parts[:2]}) == 1
    alone = [tiny.run(each).pictures()[0].astype(int) for each in parts[:2]]
    both = tiny.run(together(parts[:2])).pictures()
    assert max(np.abs(a - b).max() for a, b in zip(alone, both, strict=True)) <= 1
    assert np.abs(alone[0] - alone[1]).max() > 20


def test_pictures_and_masks_go_together_too(tiny):
    mask = np.zeros((32, 32), bool)
    mask[8:24, 8:24] = True
    parts = [
        asked(text, "inpaint", image=picture, mask=mask, seed=i)
        for i, (text, picture) in enumerate(zip(TEXTS[:2], pictures(2), strict=True))
    ]
    assert len({likeness(tiny, each) for each in parts}) == 1
    alone = [tiny.run(each).pictures()[0].astype(int) for each in parts]
    both = tiny.run(together(parts)).pictures()
    assert max(np.abs(a - b).max() for a, b in zip(alone, both, strict=True)) <= 1


@pytest.mark.parametrize(
    "more",
    [
        {"num_steps": 3},
        {"sampler": "heun"},
        {"unconditional_guidance_scale": 2.0},
        {"negative_prompt": "dark"},  # a given one beside none: some models differ
        {"rng": "torch"},
        {"prompt": "[a cat:a dog:1]"},
        {"prompt": "a cat AND a dog"},
        {"prompt": "a long prompt, " * 12},
        {"guidance_rescale": 0.5},
    ],
)
def test_what_computes_otherwise_goes_apart(tiny, more):
    assert likeness(tiny, asked()) != likeness(tiny, asked(**more))


def test_what_changes_no_shape_goes_together(tiny):
    more = {"prompt": "(two:1.2) cats", "seed": 9}
    assert likeness(tiny, asked()) == likeness(tiny, asked(**more))


def test_another_size_is_a_model_of_that_size(tiny):
    request = asked()
    wide = tiny_model(img_height=32, img_width=48)
    sized = Sized(tiny, 32, 48)
    assert likeness(sized, request) != likeness(tiny, request)
    picture = sized.run(request).pictures()
    assert picture.shape == (1, 32, 48, 3)
    assert np.array_equal(picture, wide.run(request).pictures())
    assert sized.fingerprint() == wide.fingerprint()


def test_a_size_must_be_one_that_the_model_paints(tiny):
    with pytest.raises(ValueError, match="multiples of"):
        Sized(tiny, 31, 48)
