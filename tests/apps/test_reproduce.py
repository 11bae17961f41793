"""Parameters of other programs as options of this one."""

import json

import pytest

from kerasdiffusion.apps.reproduce import sampling_options, unsupported
from kerasdiffusion.pictures.comfy_parameters import parse_graph
from kerasdiffusion.pictures.generation_parameters import parse_parameters
from kerasdiffusion.presets.config import ScheduleConfig

SD1 = ScheduleConfig()
GRAPH = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 8566257,
            "steps": 20,
            "cfg": 8,
            "sampler_name": "dpmpp_2m",
            "scheduler": "karras",
            "denoise": 1,
            "model": ["4", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "4": {
        "class_type": "CheckpointLoaderSimple",
        "inputs": {"ckpt_name": "v1-5-pruned.safetensors"},
    },
    "5": {
        "class_type": "EmptyLatentImage",
        "inputs": {"width": 512, "height": 768, "batch_size": 1},
    },
    "6": {
        "class_type": "CLIPTextEncode",
        "inputs": {"text": "a cat", "clip": ["4", 1]},
    },
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "dark", "clip": ["4", 1]}},
}


def web_ui(line):
    return sampling_options(parse_parameters(f"a cat\n{line}, Seed: 1"), SD1)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, Version: v1.10.1",
            {"sampler": "dpmpp_2m", "spacing": "karras", "num_steps": 20},
        ),
        (
            "Steps: 20, Sampler: DPM++ 2M, Version: v1.10.1",
            {"sampler": "dpmpp_2m", "spacing": "karras", "num_steps": 20},
        ),
        (
            "Steps: 20, Sampler: DPM++ 2M, Version: v1.6.0",
            {"sampler": "dpmpp_2m", "spacing": "normal", "num_steps": 20},
        ),
        (
            "Steps: 9, Sampler: DPM++ 2M SDE Exponential, RNG: CPU",
            {
                "sampler": "dpmpp_2m_sde",
                "spacing": "exponential",
                "num_steps": 9,
                "rng": "webui-cpu",
            },
        ),
        (
            "Steps: 20, Sampler: Euler a, Eta: 0.5, Variation seed: 7, "
            "Variation seed strength: 0.2",
            {
                "sampler": "euler_ancestral",
                "spacing": "normal",
                "num_steps": 20,
                "eta": 0.5,
                "variation_seed": 7,
                "variation_strength": 0.2,
            },
        ),
        ("Steps: 20, Sampler: DDIM", {"sampler": "ddim", "num_steps": 20}),
    ],
)
def test_the_web_ui(line, expected):
    assert web_ui(line) == {"rng": "torch-cuda", **expected}


def test_where_the_web_ui_leaves_the_last_level_but_one_out():
    options = web_ui("Steps: 4, Sampler: DPM2 a, Schedule type: Karras")
    # k-diffusion's get_sigmas_karras(5, 0.0291672, 14.6146), less its fifth.
    roots = [14.6146 ** (1 / 7), 0.0291672 ** (1 / 7)]
    expected = [(roots[0] + i / 4 * (roots[1] - roots[0])) ** 7 for i in range(4)]
    assert options["sampler"] == "dpm_2_ancestral" and "num_steps" not in options
    assert options["sigmas"] == pytest.approx(expected, rel=1e-4)


def test_what_is_not_followed_is_named():
    text = "a\nSteps: 2, Sampler: Euler, Clip skip: 2, Hires upscale: 2, Seed: 1"
    assert unsupported(parse_parameters(text)) == ["clip_skip", "Hires upscale"]


def test_comfys_graph():
    parameters = parse_graph(json.dumps(GRAPH))
    assert parameters == {
        "prompt": "a cat",
        "negative_prompt": "dark",
        "steps": 20,
        "sampler": "dpmpp_2m",
        "schedule_type": "karras",
        "guidance_scale": 8,
        "seed": 8566257,
        "width": 512,
        "height": 768,
        "model": "v1-5-pruned.safetensors",
        "version": "ComfyUI",
    }
    assert sampling_options(parameters, SD1) == {
        "sampler": "dpmpp_2m",
        "spacing": "karras",
        "num_steps": 20,
        "rng": "comfy",
    }
    parameters["sampler"] = "dpmpp_2m_sde_gpu"
    assert sampling_options(parameters, SD1)["rng"] == "comfy-gpu"


@pytest.mark.parametrize("text", ["[]", "{", '{"1": {"class_type": "Other"}}'])
def test_other_graphs_are_refused(text):
    with pytest.raises(ValueError, match="ComfyUI's graph must"):
        parse_graph(text)
