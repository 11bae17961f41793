"""A request by itself: what it takes, refuses and says."""

import dataclasses
import math
import pickle

import numpy as np
import pytest

from kerasdiffusion import Control
from kerasdiffusion.requests.fields import POSITIONAL, REQUIRED, TASKS
from kerasdiffusion.requests.request import FIELDS, Request, fields_of

#: What each task cannot do without.
LEAST = {
    "prompt": "two cats",
    "instruction": "make it snow",
    "encoded_text": np.zeros((12, 32), "float32"),
    "image": "photo.png",
    "mask": "mask.png",
}


def least(task, **more):
    return Request(
        task=task,
        **{name: LEAST[name] for name in REQUIRED if needs(task, name)},
        **more,
    )


def needs(task, name):
    return name in POSITIONAL[task]


@pytest.mark.parametrize("task", TASKS)
def test_a_request_has_the_defaults_of_its_task(task):
    request = least(task)
    assert set(request.given()) == {name for name in REQUIRED if needs(task, name)}
    for name, field in fields_of(task).items():
        if not field.is_required(task):
            assert getattr(request, name) == field.default_for(task)
    assert dataclasses.replace(request) == request
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.seed = 3


def test_defaults_differ_by_task():
    assert least("inpaint").strength == 1.0
    assert least("image_to_image").strength == 0.8
    assert least("interpolate").frames == 24
    assert least("circular_walk").frames == 60


def test_values_are_kept_as_plain_ones():
    request = least(
        "text_to_image",
        sampler="Euler a",
        spacing="Karras",
        seed=np.int64(3),
        pag_scale=np.float32(2),
        sigmas=np.array([3.0, 1.0]),
        apg=True,
        freeu={"s2": 4, "b1": 1, "b2": 2, "s1": 3},
        deep_cache=3,
        guidance_interval=(0.5,),
        original_size=[512, 768],
        negative_prompt=np.str_("dark"),
    )
    assert request.given() == {
        "prompt": "two cats",
        "negative_prompt": "dark",
        "seed": 3,
        "sampler": "euler_ancestral",
        "spacing": "karras",
        "sigmas": (3.0, 1.0),
        "guidance_interval": (0.5, math.inf),
        "apg": (0.0, 7.5, -0.75),
        "pag_scale": 2.0,
        "freeu": (1.0, 2.0, 3.0, 4.0),
        "deep_cache": (3, 0),
        "original_size": (512, 768),
    }
    assert type(request.negative_prompt) is str and type(request.seed) is int
    assert least("text_to_image", apg=False).given() == least("text_to_image").given()


def test_arrays_of_strings_are_prompts():
    request = Request(task="text_to_image", prompt=np.array(["a", "b"]))
    assert request.prompt == ("a", "b")


def test_minus_one_is_a_random_seed_as_in_other_programs():
    assert least("text_to_image", seed=-1).seed is None


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"task": "texttoimage"}, ValueError, "Did you mean text_to_image"),
        ({"prompt": None}, TypeError, "`text_to_image` must have `prompt`"),
        ({"mask": "a.png"}, TypeError, "must go without `mask`, which inpaint take"),
        ({"prompt": 5}, TypeError, "`prompt` must be a string or a list .*: 5"),
        ({"prompt": []}, ValueError, "`prompt` must not be an empty list"),
        ({"batch_size": 0}, ValueError, "from 1 to 4096. Received: 0"),
        ({"batch_size": 10**9}, ValueError, "from 1 to 4096. Received: 1000000000"),
        ({"batch_size": True}, TypeError, "`batch_size` must be a whole number.*True"),
        ({"num_steps": 1001}, ValueError, "from 1 to 1000. Received: 1001"),
        ({"num_steps": 2.5}, TypeError, "`num_steps` must be a whole number"),
        ({"seed": -2}, ValueError, r"to 2\*\*64 - 1. Received: -2"),
        ({"seed": 1.0}, TypeError, "`seed` must be a whole number"),
        ({"seed": [1, -1]}, ValueError, "`seed` must be a whole number"),
        ({"sampler": "eular"}, ValueError, "Did you mean euler"),
        ({"rng": "torhc"}, ValueError, "`rng` must be one of .*Did you mean torch"),
        ({"prompt_weighting": "A1111"}, ValueError, "must be one of a1111, compel"),
        ({"eta": math.nan}, ValueError, "`eta` must be finite. Received: nan"),
        ({"eta": 10**400}, ValueError, "`eta` must be finite."),
        ({"sigmas": "321"}, TypeError, "`sigmas` must be numbers. Received: '321'"),
        ({"sigmas": []}, ValueError, "`sigmas` must not be empty"),
        ({"crop": (1, 2, 3)}, ValueError, "`crop` must be a height and a width, whole"),
        ({"deep_cache": 2.5}, TypeError, "`deep_cache: interval` must be a whole"),
        ({"refiner_start": 1.0}, ValueError, "over 0 and under 1. Received: 1.0"),
        ({"freeu": (1, 2, 3, None)}, TypeError, "`freeu: s2` must be a number"),
        ({"refiner": 3}, TypeError, "`refiner` must be a `StableDiffusion`"),
        ({"control": "canny"}, TypeError, r"`control` must be a `Control\(network"),
        ({"callback": 3}, TypeError, "`callback` must be a function. Received: 3"),
        ({"progress_bar": 3}, TypeError, "`progress_bar` must be True or False"),
    ],
)
def test_what_it_refuses(keywords, error, message):
    with pytest.raises(error, match=message) as caught:
        Request(**{"task": "text_to_image", "prompt": "x", **keywords})
    assert "Received" in str(caught.value) and len(str(caught.value)) < 2000


def test_requests_are_alike_where_their_fields_are():
    picture = np.zeros((16, 16, 3), "uint8")
    one, same = (least("image_to_image", seed=1) for _ in range(2))
    assert one == same and hash(one) == hash(same)
    assert one != dataclasses.replace(one, image=picture)
    assert dataclasses.replace(one, image=picture) == dataclasses.replace(
        one, image=picture.copy()
    )
    assert one != dataclasses.replace(one, image=picture + 1)
    control = Control("canny", picture)
    assert least("text_to_image", control=control).control == (control,)


def test_every_field_says_what_it_is():
    for field in FIELDS.values():
        assert field.asked.help and "\n" not in field.asked.help
        assert field.asked.tasks and set(field.asked.tasks) <= set(TASKS)
    for task in TASKS:  # a text says one thing by a word
        labels = [each.asked.label for each in fields_of(task).values()]
        labels = [label for label in labels if label]
        assert len(labels) == len(set(labels))


def test_a_request_from_another_process_is_as_good():
    """Its defaults are told from what is given by being the same objects."""
    request = Request(
        task="inpaint", image="a.png", mask="b.png", prompt="a cat", seed=1, eta=0.5
    )
    again = pickle.loads(pickle.dumps(request))
    assert again == request and again.given() == request.given()
    assert again.replace(seed=2) == request.replace(seed=2)
