"""What other programs write is read by their own names, and the rest is kept."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from kerasdiffusion.pictures.metadata import read_texts

READ = {"prompt": "a cat", "negative_prompt": "blurry", "seed": 7, "steps": 20}
READ |= {"guidance_scale": 5.5, "width": 512, "height": 768}

SWARM = {
    "sui_image_params": {
        "prompt": "a cat",
        "negativeprompt": "blurry",
        "model": "sd15",
        "seed": 7,
        "steps": 20,
        "cfgscale": 5.5,
        "aspectratio": "2:3",
        "width": 512,
        "height": 768,
        "sampler": "dpmpp_2m",
        "scheduler": "karras",
        "swarm_version": "0.9.1.1",
        "clipstopatlayer": -2,
        "freeu_applied": True,
    },
    "sui_extra_data": {"date": "2024-08-07", "generation_time": "1 s"},
}
FOOOCUS = {
    "prompt": "a cat",
    "negative_prompt": "blurry",
    "base_model": "sdxl",
    "guidance_scale": 5.5,
    "resolution": "(512, 768)",
    "sampler": "dpmpp_2m_sde_gpu",
    "scheduler": "karras",
    "seed": "7",
    "steps": 20,
    "sharpness": 2,
    "styles": "['Fooocus V2']",
    "loras": [["a.safetensors", 0.5]],
    "refiner_model": "None",
    "refiner_switch": 0.5,
    "metadata_scheme": "fooocus",
    "version": "Fooocus v2.4.3",
}
INVOKE = {
    "app_version": "3.3.0",
    "generation_mode": "txt2img",
    "positive_prompt": "a cat",
    "negative_prompt": "blurry",
    "width": 512,
    "height": 768,
    "seed": 7,
    "rand_device": "cpu",
    "cfg_scale": 5.5,
    "steps": 20,
    "scheduler": "dpmpp_2m_k",
    "clip_skip": 1,
    "model": {"model_name": "sd15", "base_model": "sd-1"},
    "controlnets": [],
    "loras": [{"lora": "x", "weight": 1}],
}
INVOKE_2 = {
    "model_weights": "sd15",
    "app_id": "invoke-ai/InvokeAI",
    "app_version": "2.3.0",
    "image": {
        "prompt": [{"prompt": "a cat [blurry]", "weight": 1.0}],
        "steps": 20,
        "cfg_scale": 5.5,
        "threshold": 0,
        "height": 768,
        "width": 512,
        "seed": 7,
        "hires_fix": False,
        "type": "txt2img",
        "postprocessing": [{"type": "esrgan"}],
        "sampler": "k_lms",
        "variations": [],
    },
}
NOVEL = {
    "prompt": "a cat",
    "uc": "blurry",
    "steps": 20,
    "sampler": "k_euler_ancestral",
    "seed": 7,
    "scale": 5.5,
    "width": 512,
    "height": 768,
    "sm": True,
    "n_samples": 1,
}
DRAW = {
    "c": "a cat",
    "uc": "blurry",
    "model": "sd.ckpt",
    "sampler": "DPM++ 2M Karras",
    "scale": 5.5,
    "seed": 7,
    "seed_mode": "Torch CPU Compatible",
    "size": "512x768",
    "steps": 20,
    "strength": 1,
    "lora": [{"model": "x"}],
}
EASY = {
    "prompt": "a cat",
    "negative_prompt": "blurry",
    "seed": "7",
    "num_inference_steps": "20",
    "guidance_scale": "5.5",
    "width": "512",
    "height": "768",
    "sampler_name": "euler_a",
    "use_stable_diffusion_model": "C:\\models\\sd15",
    "clip_skip": "True",
    "use_lora_model": "x",
}
TEXTS = [
    ({"parameters": json.dumps(SWARM, indent=2)}, "SwarmUI 0.9.1.1", {"freeu_applied"}),
    ({"UserComment": json.dumps(SWARM)}, "SwarmUI 0.9.1.1", {"freeu_applied"}),
    ({"parameters": json.dumps(FOOOCUS)}, "Fooocus 2.4.3", {"sharpness", "loras"}),
    ({"invokeai_metadata": json.dumps(INVOKE)}, "InvokeAI 3.3.0", {"loras"}),
    ({"sd-metadata": json.dumps(INVOKE_2)}, "InvokeAI 2.3.0", {"postprocessing"}),
    (
        {"Dream": '"a cat [blurry]" -s 20 -S 7 -W 512 -H 768 -C 5.5 -A k_lms -G 0.8'},
        "InvokeAI",
        {"-G"},
    ),
    (
        {"Software": "NovelAI", "Comment": json.dumps(NOVEL), "Source": "SD XL"},
        "NovelAI",
        {"sm"},
    ),
    (
        {"stealth": json.dumps({"Software": "NovelAI", "Comment": json.dumps(NOVEL)})},
        "NovelAI",
        {"sm"},
    ),
    ({"XMP": json.dumps(DRAW)}, "Draw Things", {"lora"}),
    (EASY, "Easy Diffusion", {"use_lora_model"}),
    ({"UserComment": json.dumps(EASY)}, "Easy Diffusion", {"use_lora_model"}),
]


@pytest.mark.parametrize(
    ("texts", "version", "named"), TEXTS, ids=[f"{t[1]} {list(t[0])[0]}" for t in TEXTS]
)
def test_each_is_read(texts, version, named):
    found = read_texts(texts)
    assert {name: found.get(name) for name in READ} == READ
    assert found["version"] == version
    assert named <= set(found), "what is not ours keeps its name"
    assert not {"aspectratio", "n_samples", "metadata_scheme", "variations"} & set(
        found
    )


def test_details_that_mean_the_same_by_another_number():
    assert read_texts(TEXTS[0][0])["clip_skip"] == 2, "-2 of ComfyUI"
    assert read_texts(TEXTS[3][0])["clip_skip"] == 2, "1 of InvokeAI"
    assert read_texts({"XMP": json.dumps(DRAW)})["RNG"] == "CPU"
    assert "strength" not in read_texts({"XMP": json.dumps(DRAW)})
    found = read_texts({"parameters": json.dumps(FOOOCUS)})
    assert "refiner_switch" not in found and found["sampler"] == "dpmpp_2m_sde_gpu"


def test_what_is_none_of_them_is_nothing():
    assert read_texts({}) is None
    assert read_texts({"Title": "x", "Comment": "a photo"}) is None


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"invokeai_metadata": "[1]"}, "must be an object"),
        ({"invokeai_metadata": "{"}, "must be JSON"),
        ({"sd-metadata": '{"image": 5}'}, "`image` must be a JSON object"),
        ({"Dream": "a cat -s 5"}, "prompt in quotes"),
        ({"Software": "NovelAI", "Comment": "[]"}, "`Comment` must be a JSON object"),
        ({"parameters": '{"sui_image_params": 5}'}, "must be a JSON object"),
        ({"parameters": "[" * 100_000 + "]" * 100_000}, None),
        ({"parameters": '{"a":' * 5000 + "1" + "}" * 5000}, "levels of nesting"),
    ],
)
def test_broken_ones_are_refused_in_a_sentence(texts, message):
    if message is None:
        assert read_texts(texts)["prompt"].startswith("[")
        return
    with pytest.raises(ValueError, match=message) as error:
        read_texts(texts)
    assert "Received: " in str(error.value) and len(str(error.value)) < 400


JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(max_size=8),
    lambda inner: (
        some.lists(inner, max_size=3)
        | some.dictionaries(some.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=200)
@given(some.data())
def test_a_changed_value_is_read_as_itself_or_refused(data):
    """One value is another: all others stay."""
    origin = data.draw(some.sampled_from([SWARM["sui_image_params"], FOOOCUS, INVOKE]))
    name = data.draw(some.sampled_from(sorted(origin)))
    values = origin | {name: data.draw(JSON)}
    if origin is SWARM["sui_image_params"]:
        texts = {"parameters": json.dumps({"sui_image_params": values})}
    else:
        key = "parameters" if origin is FOOOCUS else "invokeai_metadata"
        texts = {key: json.dumps(values)}
    try:
        found = read_texts(texts)
    except ValueError as error:
        assert "Received: " in str(error)
        return
    changed = [key for key, value in READ.items() if found.get(key) != value]
    assert len(changed) <= 2, "a resolution is two of them"
    assert all(isinstance(value, (str, int, float)) for value in found.values())
