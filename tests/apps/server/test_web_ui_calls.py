"""AUTOMATIC1111's API: what programs write by hand, and what is refused."""

import json

import pytest

from tests.apps.server.test_web_ui import SHORT, picture_of
from tests.tiny import TEXTS


def test_a_call_by_hand_needs_a_prompt_alone(ask):
    """AutoGPT and the like send little; what they leave out is the model's."""
    answer = ask("POST", "/sdapi/v1/txt2img", {"prompt": TEXTS[0], "steps": 1})
    picture = picture_of(answer.body["images"][0])
    assert picture.size == (32, 32)
    info = json.loads(answer.body["info"])
    assert info["sampler_name"] == "DPM++ 2M" and info["seed"] >= 0


#: What other programs send, as their sources have it.
REPLAYS = {
    "Open WebUI": {
        "prompt": TEXTS[0],
        "batch_size": 1,
        "width": 32,
        "height": 32,
        "steps": 2,
        "negative_prompt": "blurry",
        "cfg_scale": 7.5,
        "scheduler": "Karras",
    },
    "SillyTavern": {
        "prompt": TEXTS[0],
        "negative_prompt": "blurry",
        "sampler_name": "Euler a",
        "scheduler": "Automatic",
        "steps": 2,
        "cfg_scale": 7,
        "width": 32,
        "height": 32,
        "restore_faces": False,
        "enable_hr": False,
        "hr_upscaler": "Latent",
        "hr_scale": 2,
        "hr_additional_modules": [],
        "denoising_strength": 0.7,
        "hr_second_pass_steps": 0,
        "seed": 3,
        "override_settings": {"CLIP_stop_at_last_layers": 1, "sd_vae": None},
        "override_settings_restore_afterwards": True,
        "clip_skip": 1,
        "save_images": True,
        "send_images": True,
        "do_not_save_grid": False,
        "do_not_save_samples": False,
    },
    "LibreChat": {
        "prompt": TEXTS[0],
        "negative_prompt": "blurry",
        "cfg_scale": 4.5,
        "steps": 2,
        "width": 32,
        "height": 32,
    },
}


@pytest.mark.parametrize("client", REPLAYS)
def test_what_other_clients_send_is_painted(ask, client):
    answer = ask("POST", "/sdapi/v1/txt2img", REPLAYS[client])
    assert answer.status == 200, answer.body
    assert picture_of(answer.body["images"][0]).size == (32, 32)


def test_what_is_echoed_is_json_again(ask):
    odd = {"s_tmax": float("inf"), "script_args": [float("nan"), "x"]}
    answer = ask("POST", "/sdapi/v1/txt2img", {"prompt": "", **SHORT, **odd})
    assert answer.status == 200
    told = answer.body["parameters"]
    assert (told["s_tmax"], told["script_args"]) == (None, [None, "x"])


@pytest.mark.parametrize(
    "more, rule",
    [
        ({"restore_faces": True}, "`restore_faces` is not here"),
        ({"tiling": True}, "`tiling` is not here"),
        ({"firstphase_width": 256}, "hr_resize_x and hr_resize_y"),
        ({"enable_hr": True, "hr_checkpoint_name": "x"}, "one model paints both"),
        ({"seed_resize_from_w": 10**9}, "from -1 to 8192"),
        ({"styles": ["ink"]}, "Did you mean Ink"),
        ({"styles": "Ink"}, "`styles` must be a list of names"),
        ({"script_name": "x/y/z plot"}, "`script_name` is not here"),
        ({"sampler": "Euler"}, "A field must be one that is known"),
        ({"sampler_name": "DPM adaptive"}, "`sampler` must be one of"),
        ({"scheduler": "turtle"}, "`spacing` must be one of"),
        ({"steps": 10**6}, "from 1 to 1000"),
        ({"steps": -1}, "from 1 to 1000"),
        ({"cfg_scale": float("nan")}, "must be finite"),
        ({"batch_size": 10**9}, "from 1 to 64"),
        ({"n_iter": 50, "batch_size": 50}, "at most 64 pictures"),
        ({"width": -8}, "from 8 to 8192"),
        ({"prompt": "a <lora:../x:1>"}, "must be one that this server has"),
        ({"prompt": ["a"]}, "must be a string"),
        ({"alwayson_scripts": {"ADetailer": {"args": [True]}}}, "A script must be one"),
        (
            {"alwayson_scripts": {"ControlNet": {"args": [{"model": "canny"}]}}},
            "must be one that this server has",
        ),
        ({"override_settings": {"sd_vae": "other"}}, "must be one of Automatic"),
        ({"override_settings": {"sd_model_checkpoint": "sd9"}}, "this server has"),
    ],
)
def test_what_is_not_here_is_refused_in_the_web_uis_way(ask, more, rule):
    answer = ask("POST", "/sdapi/v1/txt2img", {"prompt": "", **SHORT, **more})
    assert answer.status in (404, 422), answer.body
    assert set(answer.body) == {"error", "detail", "body", "errors"}
    assert rule in answer.body["detail"]
