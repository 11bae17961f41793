"""Parameters of other programs as options of this one."""

import json

import pytest

from kerasdiffusion.apps.fetching import refuse
from kerasdiffusion.apps.foreign import as_ours, program_of
from kerasdiffusion.apps.reproduce import keywords, sampling_options, unsupported
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


@pytest.mark.parametrize(
    "told, expected",
    [("512x768", {"seed_resize_from": (768, 512)}), ("-1x-1", {}), ("0x0", {})],
)
def test_a_seed_of_another_size(told, expected):
    text = f"a\nSteps: 2, Sampler: Euler, Seed: 1, Seed resize from: {told}"
    found, labels = keywords(parse_parameters(text))
    assert {k: x for k, x in found.items() if k != "prompt_weighting"} == expected
    assert unsupported(parse_parameters(text), labels) == []


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


@pytest.mark.parametrize(
    "name",
    [
        *("Hires upscale", "ENSD", "Token merging ratio", "NGMS", "Emphasis", "VAE"),
        *("Noise Schedule", "CFG Rescale phi", "Dynamic thresholding enabled"),
        *("Hypernet", "Skip Early CFG", "Face restoration", "ADetailer model"),
        *("Script", "Other text", "What nobody has thought of"),
    ],
)
def test_whatever_is_not_known_to_be_followed_or_harmless_is_named(name):
    assert unsupported({"version": "v1.9.0", name: "x"}) == [name]


@pytest.mark.parametrize(
    ("name", "value"),
    [("Eta", "0"), ("Emphasis", "Original"), ("Model hash", "x"), ("RNG", "NV")],
)
def test_what_changes_nothing_is_not(name, value):
    assert unsupported({"version": "v1.9.0", "sampler": "Euler", name: value}) == []


def test_stable_diffusion_cpp():
    line = "Steps: 20, CFG scale: 7, Guidance: 3.5, Eta: 0, Seed: 42, Size: 64x64, "
    line += "Model: x, RNG: {}, Sampler: {}, Version: stable-diffusion.cpp"
    parameters = parse_parameters("a cat\n" + line.format("cpu", "euler discrete"))
    options = sampling_options(parameters, SD1)
    assert options == {
        "sampler": "euler",
        "spacing": "normal",
        "num_steps": 20,
        "rng": "webui-cpu",
    }
    assert unsupported(parameters, {"model"}) == ["Guidance"]
    parameters = parse_parameters("a cat\n" + line.format("cuda", "euler_a karras"))
    options = sampling_options(parameters, SD1)
    assert (options["sampler"], options["eta"]) == ("euler_ancestral", 0.0)
    assert (options["spacing"], options["rng"]) == ("karras", "torch-cuda")


@pytest.mark.parametrize(
    ("version", "sampler", "expected"),
    [
        ("SwarmUI 0.9", "dpmpp_2m_sde_gpu", ("dpmpp_2m_sde", "comfy-gpu", "normal")),
        ("Fooocus 2.4.3", "dpmpp_2m", ("dpmpp_2m", "comfy", "normal")),
        ("InvokeAI 3.3.0", "dpmpp_2m_k", ("dpmpp_2m", "torch", "karras")),
        ("InvokeAI 3.3.0", "euler_a", ("euler_ancestral", "torch", None)),
        ("InvokeAI", "k_lms", ("lms", "torch", None)),
        ("NovelAI", "k_euler_ancestral", ("euler_ancestral", "torch", None)),
        ("Draw Things", "DPM++ 2M Karras", ("dpmpp_2m", "torch", "karras")),
        ("Easy Diffusion", "euler_a", ("euler_ancestral", "torch", None)),
    ],
)
def test_other_programs_names(version, sampler, expected):
    parameters = {"version": version, "sampler": sampler, "steps": 5, "seed": 1}
    options = sampling_options(parameters, SD1)
    found = options["sampler"], options["rng"], options.get("spacing")
    assert found == expected
    unknown = any("noise of" in name for name in unsupported(parameters))
    assert unknown == version.startswith(("NovelAI", "Draw", "Easy"))


@pytest.mark.parametrize("steps", [10**9, 0, -1, 2.5, "many", float("nan")])
def test_steps_without_end_are_refused(steps):
    with pytest.raises(ValueError, match="`steps` in a picture must be.*Received"):
        sampling_options({"steps": steps, "sampler": "DPM2", "version": "v1.9"}, SD1)


@pytest.mark.parametrize(
    ("version", "text", "ours"),
    [
        ("NovelAI", "{{a}} [b] (c)", r"((a:1.05):1.05) (b:0.9524) \(c\)"),
        ("NovelAI", "{a", "{a"),
        ("ComfyUI", "[a] b", r"\[a\] b"),
        ("v1.9.0", "[a] {b}", "[a] {b}"),
    ],
)
def test_prompts_of_other_languages(version, text, ours):
    assert as_ours(text, program_of(version)) == (ours, None)


def test_weights_of_other_kinds():
    assert as_ours("(a:1.2)", program_of("ComfyUI"))[1].startswith("weights of words")
    assert keywords({"version": "InvokeAI"})[0] == {"prompt_weighting": "compel"}
    found, labels = keywords({"version": "ComfyUI", "Timesteps": "999,899"})
    assert list(found["timesteps"]) == [999, 899] and labels == {"Timesteps"}


def test_a_picture_fetches_nothing_unasked(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    refuse({"preset": "emoji", "vae": "vae.safetensors"}, "a.png")
    for named in (
        {"preset": "sd1.5"},
        {"vae": "hf://owner/name"},
        {"refiner": "https://example.org/x"},
        {"text_encoder": "//host/share"},
    ):
        with pytest.raises(
            ValueError, match="add --fetch for .*Received: --from a.png"
        ):
            refuse(named, "a.png")
    (tmp_path / "models--owner--name/snapshots/1").mkdir(parents=True)
    refuse({"vae": "hf://owner/name@main"}, "a.png")


def test_the_web_uis_second_pass_is_followed():
    line = (
        "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, "
        "Denoising strength: 0.6, Hires upscale: 1.5, Hires steps: 10, "
        "Hires upscaler: {}, Hires sampler: DDIM, Version: v1.10.1"
    )
    found, labels = keywords(parse_parameters(line.format("Latent (antialiased)")))
    assert found == {
        "hires_scale": 1.5,
        "hires_upscaler": "Latent (antialiased)",
        "hires_strength": 0.6,
        "hires_steps": 10,
        "hires_sampler": "ddim",
    }
    assert {"strength", "Hires upscale", "Hires sampler"} <= labels
    parameters = parse_parameters(line.format("R-ESRGAN 4x+"))
    assert keywords(parameters) == ({}, set())  # a network that is not here
    named = " ".join(unsupported(parameters, set()))
    assert "Hires upscale" in named and "Hires upscaler" in named
