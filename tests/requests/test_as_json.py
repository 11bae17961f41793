"""Requests to JSON and back, and the schema of that."""

import json

import jsonschema
import numpy as np
import pytest
from PIL import Image

from kerasdiffusion import Control, Request
from kerasdiffusion.requests.fields import TASKS
from kerasdiffusion.requests.request import FIELDS, fields_of
from tests.requests.test_request import least

PICTURE = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
#: A value of each field that is not its default.
VALUES = {
    "image": PICTURE,
    "mask": [Image.fromarray(PICTURE), "mask.png"],
    "depth": PICTURE[..., 0] / 255.0,
    "prompt": ["two cats", "a (dog:1.2)"],
    "instruction": "make it winter",
    "encoded_text": np.random.default_rng(1).normal(size=(1, 12, 32)),
    "pooled_text": np.ones((1, 32), "float16"),
    "diffusion_noise": np.ones((4, 4, 4), "float32"),
    "negative_prompt": "dark",
    "adapters": [("detail.safetensors", 0.8), ("style", -0.3, 0.1 + 0.2)],
    "batch_size": 2,
    "num_steps": 7,
    "unconditional_guidance_scale": 0.1 + 0.2,
    "seed": [3, 2**64 - 1],
    "left": 8,
    "right": 16,
    "top": 24,
    "bottom": 32,
    "overlap": 9,
    "image_guidance_scale": 1.25,
    "noise_level": 5,
    "strength": 0.3,
    "feather": 4,
    "padding": 16,
    "frames": 5,
    "closed": True,
    "text_path": "spherical",
    "noise_path": "linear",
    "sampler": "euler_ancestral",
    "spacing": "karras",
    "timesteps": [900, 500, 1],
    "sigmas": [9.5, 3.25, 0.1],
    "eta": 0.5,
    "s_churn": 1.5,
    "s_noise": 1.01,
    "rng": "torch",
    "variation_seed": 4,
    "variation_strength": 0.25,
    "seed_resize_from": (24, 16),
    "hires_scale": 1.5,
    "hires_size": (1024, 768),
    "hires_upscaler": "Lanczos",
    "hires_strength": 0.4,
    "hires_steps": 9,
    "hires_sampler": "ddim",
    "hires_spacing": "karras",
    "hires_prompt": "a cat, (sharp:1.2)",
    "hires_negative_prompt": "soft",
    "guidance_rescale": 0.7,
    "guidance_interval": (0.5,),
    "dynamic_thresholding": (5.0, 0.9),
    "apg": (0.5, 5.0, -0.5),
    "pag_scale": 3.0,
    "pag_applied_layers": ["down", "mid"],
    "sag_scale": 0.75,
    "freeu": (1.5, 1.6, 0.9, 0.2),
    "deep_cache": (3, 1),
    "ucache": (0.75, 0.1, 0.9, 0.5, 0.0, 1.0),
    "easy_cache": (0.125, 0.25, 1.0),
    "noise_cache": (3.0, 0.1, 0.9, 0.75),
    "spectrum": (0.7, 4.0, 0.1, 3.0, 0.25, 5.0, 0.8),
    "merge_tokens": 0.5,
    "clip_skip": 2,
    "prompt_weighting": "compel",
    "prompt_2": "two dogs",
    "negative_prompt_2": "blurry",
    "original_size": (512, 768),
    "crop": (4, 8),
    "target_size": (1024, 512),
    "aesthetic_score": 7.0,
    "negative_aesthetic_score": 1.5,
    "refiner": "emoji",
    "refiner_start": 0.6,
    "control": [Control("canny", PICTURE, scale=0.5), Control("depth", "d.png")],
}
UNWRITTEN = {"callback", "progress_bar", "depth_estimator"}


def full(task):
    """A request with a value for every field of its task."""
    names = [name for name in fields_of(task) if name in VALUES]
    return Request(task=task, **{name: VALUES[name] for name in names})


def test_every_field_has_a_value_here():
    assert set(FIELDS) - UNWRITTEN == set(VALUES)


@pytest.mark.parametrize("task", TASKS)
def test_json_gives_the_request_back(task):
    for request in (least(task), full(task)):
        text = request.to_json()
        again = Request.from_json(text)
        if task == "inpaint" and request.mask != "mask.png":
            assert again.mask[1] == "mask.png"  # (a PIL image comes back as an array)
            assert np.array_equal(again.mask[0], PICTURE)
            again = again.replace(mask=request.mask)
        assert again == request and again.given().keys() == request.given().keys()
        values = json.loads(text)
        for schema in (Request.schema(task), Request.schema()):
            # (A schema is looked at once, by `test_the_schema_is_one`.)
            assert not list(jsonschema.Draft202012Validator(schema).iter_errors(values))


def test_what_is_given_nowhere_is_not_written():
    text = least("text_to_image", num_steps=None, seed=3, progress_bar=False).to_json()
    assert json.loads(text) == {
        "task": "text_to_image",
        "prompt": "two cats",
        "seed": 3,
    }


@pytest.mark.parametrize("task", TASKS)
def test_the_schema_is_one_and_has_every_field(task):
    schema = Request.schema(task)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == {"task", *fields_of(task)} - UNWRITTEN
    assert all(
        each["description"]
        for name, each in schema["properties"].items()
        if name != "task"
    )


@pytest.mark.parametrize(
    "values",
    [
        {"batch_size": 0},
        {"batch_size": "2"},
        {"num_steps": 1001},
        {"rng": "random"},
        {"freeu": [1, 2, 3]},
        {"refiner_start": 1.0},
        {"sigmas": []},
        {"seed": 2**64},
        {"mask": "a.png"},
        {"steps": 3},
    ],
    ids=str,
)
def test_the_schema_and_the_reader_refuse_the_same(values):
    values = {"task": "text_to_image", "prompt": "x", **values}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, Request.schema("text_to_image"))
    with pytest.raises((TypeError, ValueError)):
        Request.from_json(json.dumps(values))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "must be an object with a `task`"),
        ('{"prompt": "x"}', "must be an object with a `task`"),
        ("{", "request"),
        ('{"task": "text_to_image", "promt": "x"}', "Did you mean prompt"),
        ('{"task": "text_to_image", "callback": "x"}', "fields that are known"),
        ('{"task": "upscale", "prompt": "", "image": {"png": "a"}}', "base64"),
        ('{"task": "upscale", "prompt": "", "image": {"gif": ""}}', "base64"),
        ('{"task": "upscale", "prompt": "", "image": {"png": "YWJj"}}', "a PNG that"),
        ('{"task": "upscale", "prompt": "", "image": {"npy": "YWJj"}}', "as numpy"),
        ('{"task": "text_to_image", "prompt": "", "control": [3]}', "a network and"),
    ],
)
def test_what_is_no_request_is_refused(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        Request.from_json(text)
    assert len(str(caught.value)) < 1500


def test_an_array_that_states_more_than_it_has_is_refused():
    import base64
    import io

    file = io.BytesIO()
    np.save(file, np.zeros(4))
    content = file.getvalue().replace(b"(4,)", b"(9,)")
    text = base64.b64encode(content).decode()
    values = {"task": "generate_image", "encoded_text": {"npy": text}}
    with pytest.raises(ValueError, match="bytes in place of"):
        Request.from_json(json.dumps(values))


@pytest.mark.parametrize(
    "values",
    [
        {"task": "upscale", "prompt": "", "image": "/etc/hostname"},
        {"task": "upscale", "prompt": "", "image": [{"png": ""}, "a.png"]},
        {"task": "text_to_image", "prompt": "x", "refiner": "/models/x"},
        {
            "task": "text_to_image",
            "prompt": "x",
            "control": {"network": "canny", "picture": "a.png"},
        },
        {
            "task": "text_to_image",
            "prompt": "x",
            "control": {"network": "../net", "picture": {"png": ""}},
        },
    ],
    ids=str,
)
def test_strangers_name_no_files(values):
    with pytest.raises(ValueError, match="files of this machine may not be named"):
        Request.from_json(json.dumps(values), files=False)


def test_what_cannot_be_written_leads_to_what_can():
    with pytest.raises(ValueError, match="pass the map it makes as `depth`"):
        least("depth_to_image", depth_estimator=lambda picture: picture).to_json()
    model = type("Model", (), {"latent_shape": (1, 1, 4)})()
    with pytest.raises(ValueError, match="save the model by `save_preset`"):
        least("text_to_image", refiner=model).to_json()
    control = Control(object(), PICTURE)
    with pytest.raises(ValueError, match="`control: network` must be a name"):
        least("text_to_image", control=control).to_json()
    floats = Image.fromarray(np.zeros((16, 16), "float32"))
    with pytest.raises(ValueError, match="a mode that PNG holds"):
        least("image_to_image").replace(image=floats).to_json()
