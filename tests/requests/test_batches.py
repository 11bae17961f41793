"""Pictures of one request together: what their texts say, and what is read of it."""

import pytest

from kerasdiffusion import Request
from kerasdiffusion.pictures.generation_parameters import (
    format_parameters,
    parse_parameters,
)
from kerasdiffusion.presets.config import GenerationConfig
from kerasdiffusion.requests.batches import batch_in, of_grid, walk_in
from kerasdiffusion.requests.request import is_same
from kerasdiffusion.requests.text import described, described_walk, fields_in

GENERATION = GenerationConfig()


def texts(**fields):
    request = Request(task="text_to_image", **fields)
    found = described(request, GENERATION, (64, 64), "emoji")
    return [parse_parameters(format_parameters(**each)) for each in found]


def test_a_picture_knows_its_place():
    found = texts(prompt=["a", "b"], batch_size=2, seed=7)
    batch = {"prompt": ("a", "b"), "batch_size": 2, "seed": 7}
    assert [batch_in(each) for each in found] == [(batch, i) for i in range(4)]
    assert batch_in(texts(prompt="a", seed=7)[0]) is None


def test_seeds_that_do_not_follow_each_other():
    found = texts(prompt="a", batch_size=3, seed=[9, 0, 4])
    batch = {"prompt": ("a",), "batch_size": 3, "seed": (9, 0, 4)}
    assert [batch_in(each) for each in found] == [(batch, i) for i in range(3)]
    own = dict(prompt="a", batch_size=2, variation_strength=0.5)
    found = texts(**own, seed=3, variation_seed=[8, 1])
    assert [each["seed"] for each in found] == [3, 3]
    assert [batch_in(each)[0]["variation_seed"] for each in found] == [(8, 1)] * 2


def test_a_grid_is_all_of_them():
    request = Request(task="text_to_image", prompt=["a", "b"], batch_size=3, seed=7)
    found = of_grid(described(request, GENERATION, (64, 64), "emoji"), 3)
    assert found["Grid"] == "3x2" and found["seed"] == 7
    found = parse_parameters(format_parameters(**found))
    batch = {"prompt": ("a", "b"), "batch_size": 3, "seed": 7}
    assert batch_in(found) == (batch, None)
    alone = described(request.replace(prompt="a", batch_size=1), GENERATION, (8, 8), "")
    assert of_grid(alone, 1) == alone[0]


WALKS = (
    {"prompt": ["a red apple", 'two "cats", AND a dog'], "seed": 1},
    {"prompt": "a", "seed": [3, 2**64 - 1, 5], "closed": True, "frames": 24},
    {
        "prompt": ["a", "b"],
        "negative_prompt": ["c", ""],
        "prompt_2": ["d", "e"],
        "negative_prompt_2": "f",
        "seed": 3,
        "frames": 7,
        "batch_size": 3,
        "text_path": "spherical",
        "noise_path": "linear",
        "variation_seed": [4, 9],
        "variation_strength": 0.25,
        "num_steps": 5,
        "eta": 0.5,
        "rng": "torch",
    },
    {"task": "circular_walk", "prompt": "a", "negative_prompt": "b", "seed": [4, 8]},
    {"task": "circular_walk", "prompt": ["a", "b"], "negative_prompt": "", "seed": 0},
)


@pytest.mark.parametrize("fields", WALKS)
def test_a_walk_says_all_of_its_request(fields):
    request = Request(**{"task": "interpolate", **fields})
    told = described_walk(request, GENERATION, (64, 48), "emoji")
    found = parse_parameters(format_parameters(**told))
    assert (found["height"], found["width"], found["model"]) == (64, 48, "emoji")
    read = Request(task=found["Task"], **(walk_in(found) | fields_in(found)))
    written = {"num_steps", "sampler", "unconditional_guidance_scale"}  # the model's
    for name in set(read.given()) | set(request.given()):
        if name not in written or name in fields:
            one, other = getattr(read, name), getattr(request, name)
            if name == "prompt":
                other = other if isinstance(other, tuple) else (other,)
            assert is_same(one, other), (name, one, other)


def test_what_a_text_says_wrongly_is_refused():
    made = {"prompt": "a", "seed": 1, "Batch size": "2", "Batch pos": "1"}
    for wrong in (
        {"Batch pos": "x"},
        {"Batch pos": "2"},
        {"Batch size": "0"},
        {"Batch prompts": "{"},
        {"Batch prompts": "[]"},
        {"Batch prompts": "[1]"},
        {"Batch seeds": "x,y"},
        {"seed": 0},
    ):
        with pytest.raises((ValueError, TypeError), match="Received"):
            batch_in(made | wrong)
    for wrong in ({"Prompts": "7"}, {"Negative prompts": "["}, {"Batch size": "x"}):
        with pytest.raises((ValueError, TypeError), match="Received"):
            walk_in(made | wrong)
