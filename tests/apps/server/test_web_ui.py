"""AUTOMATIC1111's API, asked by the clients that people use: against a real server."""

import base64
import io
import json
import threading
import time

import numpy as np
import pytest
import webuiapi
from PIL import Image
from safetensors.numpy import save_file
from sd_backend_client.api.a1111_webservice import A1111Webservice
from sd_backend_client.api.shared_data.diffusion_params import DiffusionParams
from sd_backend_client.api.webui.diffusion_request_body import DiffusionRequestBody

from kerasdiffusion.apps.reproduce import sampling_options
from kerasdiffusion.compute import backend
from kerasdiffusion.models.t2i_adapter import T2IAdapter
from kerasdiffusion.pictures.generation_parameters import parse_parameters
from kerasdiffusion.presets.config import T2IAdapterConfig
from kerasdiffusion.requests.request import Request
from tests.tiny import TEXTS, enliven
from tests.weights.test_controls import tensors_of

SIZE = {"width": 32, "height": 32}
SHORT = {**SIZE, "steps": 2, "sampler_name": "Euler a", "seed": 5}


@pytest.fixture(scope="module")
def web_ui(server):
    return webuiapi.WebUIApi(baseurl=f"{server.url}/sdapi/v1")


@pytest.fixture(scope="module")
def service(server):
    return A1111Webservice(server.url)


def near(one, other):
    """Alike up to the rounding of a batch."""
    one, other = (np.asarray(each).astype(int) for each in (one, other))
    return one.shape == other.shape and np.abs(one - other).max() <= 1


def picture_of(text):
    return Image.open(io.BytesIO(base64.b64decode(text)))


def noise(seed=0, size=(32, 32)):
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8))


def disc():
    mask = Image.new("L", (32, 32))
    mask.paste(255, (8, 8, 24, 24))
    return mask


def test_webuiapi_paints_what_the_web_ui_would(web_ui, models):
    found = web_ui.txt2img(
        prompt=TEXTS[0],
        negative_prompt=TEXTS[2],
        cfg_scale=7,
        scheduler="karras",
        batch_size=2,
        **SHORT,
    )
    told = {"version": "v1.10.1", "sampler": "Euler a", "schedule_type": "Karras"}
    model = models.get("emoji")
    request = Request(
        task="text_to_image",
        prompt=TEXTS[0],
        negative_prompt=TEXTS[2],
        unconditional_guidance_scale=7.0,
        batch_size=2,
        seed=5,
        **sampling_options({**told, "steps": 2}, model.config.schedule),
    )
    assert request.rng == "torch-cuda"  # whose noise a seed is there
    wanted = model.run(request).pictures()
    assert all(map(near, found.images, wanted))
    assert found.info["all_seeds"] == [5, 6]
    assert found.info["sampler_name"] == "Euler a"
    assert found.info["infotexts"][0].startswith(TEXTS[0])
    said = parse_parameters(found.image.info["parameters"])
    assert (said["seed"], said["schedule_type"], said["steps"]) == (5, "Karras", 2)
    assert found.parameters["prompt"] == TEXTS[0]


def test_webuiapi_paints_over_pictures(web_ui):
    found = web_ui.img2img(
        images=[noise()], prompt=TEXTS[1], denoising_strength=0.5, **SHORT
    )
    assert found.image.size == (32, 32) and found.info["denoising_strength"] == 0.5
    small = web_ui.img2img(
        images=[noise(size=(40, 64))], prompt=TEXTS[1], resize_mode=1, **SHORT
    )
    assert small.image.size == (32, 32)


@pytest.mark.parametrize("full, fill", [(False, 0), (True, 1)])
def test_webuiapi_paints_a_part(web_ui, full, fill):
    before = noise()
    found = web_ui.img2img(
        images=[before],
        mask_image=disc(),
        mask_blur=0,
        prompt=TEXTS[1],
        inpaint_full_res=full,
        inpainting_fill=fill,
        denoising_strength=0.8,
        **SHORT,
    )
    changed = (np.asarray(found.image) != np.asarray(before)).any(axis=-1)
    assert changed[8:24, 8:24].any()
    changed[8:24, 8:24] = False
    assert not changed.any()


def test_a_mask_may_be_turned(web_ui):
    before = noise()
    found = web_ui.img2img(
        images=[before],
        mask_image=disc(),
        mask_blur=0,
        inpainting_mask_invert=1,
        prompt=TEXTS[1],
        inpaint_full_res=False,
        **SHORT,
    )
    inside = (slice(8, 24), slice(8, 24))
    assert (np.asarray(found.image)[inside] == np.asarray(before)[inside]).all()


@pytest.mark.parametrize("upscaler", ["Lanczos", "Latent"])
def test_a_second_pass_is_larger(web_ui, upscaler):
    found = web_ui.txt2img(
        prompt=TEXTS[0],
        enable_hr=True,
        hr_scale=1.5,
        hr_upscaler=webuiapi.HiResUpscaler[upscaler],
        denoising_strength=0.5,
        **SHORT,
    )
    assert found.image.size == (48, 48) and found.info["all_seeds"] == [5]
    told = found.info["infotexts"][0]
    assert f"Hires upscaler: {upscaler}" in told and "Size: 32x32" in told
    assert "Hires upscale: 1.5" in told and "Denoising strength: 0.5" in told


def test_an_upscaler_that_is_not_here_is_refused(web_ui):
    with pytest.raises(RuntimeError, match="must be one of Latent, "):
        web_ui.txt2img(prompt="", enable_hr=True, hr_upscaler="ESRGAN_4x", **SHORT)


def test_subseeds_go_from_one_noise_to_another(web_ui):
    def at(strength, subseed=9):
        return web_ui.txt2img(
            prompt=TEXTS[0], subseed=subseed, subseed_strength=strength, **SHORT
        )

    found = at(0.5)
    assert (found.info["subseed"], found.info["subseed_strength"]) == (9, 0.5)
    assert not near(found.image, at(0.0).image)


def test_noise_of_another_size_lies_in_the_middle(ask):
    def at(width, **more):
        asked = {"prompt": TEXTS[0], "width": width, **SHORT, **more}
        answer = ask("POST", "/sdapi/v1/txt2img", asked)
        assert answer.status == 200, answer.body
        return answer.body["images"][0], json.loads(answer.body["info"])

    from_size = {"seed_resize_from_w": 32, "seed_resize_from_h": 32}
    picture, told = at(48, **from_size)
    assert (told["seed_resize_from_w"], told["seed_resize_from_h"]) == (32, 32)
    assert "Seed resize from: 32x32" in told["infotexts"][0]
    assert picture != at(48)[0]
    one_side = at(48, seed_resize_from_w=32, seed_resize_from_h=-1)  # says nothing
    assert one_side[0] == at(48)[0] and one_side[1]["seed_resize_from_w"] == -1


def test_styles_stand_around_prompts(web_ui, models):
    path = models.folder / "styles.csv"
    path.write_text("name,prompt,negative_prompt\nsoft,mist,harsh\n", "utf-8")
    soft = {"name": "soft", "prompt": "mist", "negative_prompt": "harsh"}
    assert soft in web_ui.get_prompt_styles()
    more = {"enable_hr": True, "hr_prompt": "b", "hr_upscaler": "Nearest"}
    found = web_ui.txt2img(prompt="a", styles=["soft", "Ink"], **more, **SHORT)
    around = "ink drawing of {}, mist, black lines on white paper"
    assert found.info["all_prompts"] == [around.format("a")]
    assert found.info["negative_prompt"] == "harsh, colour, photograph"
    assert found.info["styles"] == ["soft", "Ink"]
    assert f'Hires prompt: "{around.format("b")}"' in found.info["infotexts"][0]
    path.unlink()


def test_settings_of_one_call_are_its_own(web_ui):
    plain = web_ui.txt2img(prompt=TEXTS[0], **SHORT)
    own = {"randn_source": "CPU", "CLIP_stop_at_last_layers": 2}
    other = web_ui.txt2img(prompt=TEXTS[0], override_settings=own, **SHORT)
    assert other.info["clip_skip"] == 2 and not near(plain.image, other.image)
    assert near(web_ui.txt2img(prompt=TEXTS[0], **SHORT).image, plain.image)


def test_options_are_given_and_taken_whole_as_open_webui_does(web_ui, ask):
    options = web_ui.get_options()
    assert options["sd_model_checkpoint"] == "emoji"
    assert ask("POST", "/sdapi/v1/options", options).status == 200
    web_ui.set_options({"CLIP_stop_at_last_layers": 2})
    try:
        assert web_ui.get_options()["CLIP_stop_at_last_layers"] == 2
        assert web_ui.txt2img(prompt="", **SHORT).info["clip_skip"] == 2
    finally:
        web_ui.set_options({"CLIP_stop_at_last_layers": 1})
    web_ui.util_set_model("emoji")
    assert web_ui.util_get_current_model() == "emoji"


@pytest.mark.parametrize(
    "values",
    [
        {"sd_model_checkpoint": "../../etc/passwd"},
        {"sd_model_checkpoint": 1},
        {"outdir_samples": "/tmp"},
        {"CLIP_stop_at_last_layers": 99},
        {"samples_save": True},
        {"randn_source": "moon"},
    ],
)
def test_options_that_are_not_here_are_refused_and_nothing_is_set(ask, values):
    before = ask("GET", "/sdapi/v1/options").body
    answer = ask("POST", "/sdapi/v1/options", {"randn_source": "CPU", **values})
    assert answer.status in (404, 422) and "Received" in answer.body["detail"]
    assert ask("GET", "/sdapi/v1/options").body == before


def test_what_there_is_is_listed(web_ui, service):
    assert "DPM++ 2M" in web_ui.util_get_sampler_names()
    assert web_ui.util_get_scheduler_names().count("karras") == 1
    assert web_ui.util_get_model_names() == ["emoji"]
    for name in ("loras", "sd_vae", "upscalers", "latent_upscale_modes", "scripts"):
        getattr(web_ui, f"get_{name}")()
    for name in ("embeddings", "memory", "cmd_flags", "prompt_styles", "hypernetworks"):
        getattr(web_ui, f"get_{name}")()
    web_ui.refresh_checkpoints()
    assert [each.name for each in service.list_checkpoints()] == ["emoji"]
    assert "karras" in [each.name for each in service.list_schedulers()]
    assert "euler_ancestral" in [each.name for each in service.list_samplers()]
    assert service.list_loras() == service.list_vaes() == []
    abilities = service.get_capabilities()
    assert abilities.scheduler and not abilities.interrogate
    assert service.get_controlnet_version() == 3
    assert "canny" in service.get_controlnet_modules().module_list


def test_each_sampler_and_scheduler_that_is_listed_is_one(web_ui):
    from kerasdiffusion.apps.server.web_ui_lists import SCHEDULERS, samplers
    from kerasdiffusion.presets.config import ScheduleConfig

    schedule = ScheduleConfig(align_your_steps="sd1")
    for label in SCHEDULERS.values():
        told = {"version": "v1.10.1", "sampler": "Euler", "schedule_type": label}
        sampling_options({**told, "steps": 4}, schedule)
    for each in samplers():
        sampling_options({"version": "v1.10.1", "sampler": each["name"]}, schedule)


def test_the_other_client_paints_too(service):
    body = DiffusionRequestBody(prompt=TEXTS[0], steps=2, seed=3, **SIZE)
    handle = service.submit_txt2img(body)
    result = handle.wait()
    assert result.seeds == [3] and result.images[0].size == (32, 32)
    params = DiffusionParams(
        prompt=TEXTS[1], init_images=[noise()], mask=disc(), steps=2, seed=1, **SIZE
    )
    assert service.submit_inpaint(params).wait().images[0].size == (32, 32)
    assert service.submit_img2img(params).wait().seeds == [1]
    assert service.submit_upscale(noise(), 64, 48).wait().images[0].size == (64, 48)


def test_progress_and_interrupt(web_ui, server):
    found = {}
    long = {**SHORT, "steps": 1000, "sampler_name": "Euler"}

    def paint():
        found["result"] = web_ui.txt2img(prompt=TEXTS[0], **long)

    other = webuiapi.WebUIApi(baseurl=f"{server.url}/sdapi/v1")
    thread = threading.Thread(target=paint)
    thread.start()
    while (told := other.get_progress())["state"]["sampling_step"] < 2:
        time.sleep(0.01)
    assert told["state"]["job_count"] == 1 and told["state"]["sampling_steps"] == 1000
    assert 0.0 < told["progress"] < 1.0 and told["eta_relative"] > 0.0
    picture = picture_of(told["current_image"])
    assert picture.size == (16, 16)  # a pixel for each latent
    other.interrupt()
    thread.join()
    assert found["result"].image.size == (32, 32)
    other.util_wait_for_ready(0.01)  # its thread may end behind the answer
    assert other.get_progress()["progress"] == 0.0


def test_pictures_are_enlarged(web_ui):
    found = web_ui.extra_single_image(noise(), upscaler_1="Lanczos", upscaling_resize=2)
    assert found.image.size == (64, 64)
    found = web_ui.extra_batch_images(
        [noise(), noise(1)],
        resize_mode=1,
        upscaler_1="Nearest",
        upscaling_resize_w=48,
        upscaling_resize_h=32,
    )
    assert [each.size for each in found.images] == [(48, 32)] * 2
    with pytest.raises(RuntimeError, match="must be one of None, Lanczos, Nearest"):
        web_ui.extra_single_image(noise(), upscaler_1="R-ESRGAN 4x+")
    with pytest.raises(RuntimeError, match="there are no such networks"):
        web_ui.extra_single_image(noise(), gfpgan_visibility=1)


def test_a_png_says_how_it_was_made(web_ui, ask):
    painted = web_ui.txt2img(prompt=TEXTS[0], **SHORT)
    encoded = io.BytesIO()
    chunks = webuiapi.webuiapi.PngImagePlugin.PngInfo()
    chunks.add_text("parameters", painted.image.info["parameters"])
    painted.image.save(encoded, "PNG", pnginfo=chunks)
    text = base64.b64encode(encoded.getvalue()).decode()
    found = ask("POST", "/sdapi/v1/png-info", {"image": text}).body
    assert found["info"] == painted.info["infotexts"][0]
    assert found["parameters"]["Seed"] == "5"
    assert web_ui.png_info(noise()).info == ""


def test_edges_are_shown_as_a_network_sees_them(web_ui, service):
    found = web_ui.controlnet_detect([noise()], module="canny")
    edges = np.asarray(found.image.convert("L"))
    assert set(np.unique(edges)) <= {0, 255}


def save_network(folder):
    """A tiny T2I-Adapter in diffusers' layout, that follows something."""
    config = T2IAdapterConfig(block_widths=(32, 64), downsampling=2)
    with backend.empty_weights():
        network = T2IAdapter(config)
    enliven([network], 5)
    folder.mkdir()
    save_file(tensors_of(network), folder / "diffusion_pytorch_model.safetensors")
    values = {"_class_name": "T2IAdapter", "adapter_type": "full_adapter"}
    values |= {"channels": [32, 64], "downscale_factor": 2, "num_res_blocks": 2}
    (folder / "config.json").write_text(json.dumps(values))


def test_a_picture_is_followed(web_ui, models):
    plain = web_ui.txt2img(prompt=TEXTS[0], **SHORT)
    save_network(models.controls / "edges")
    assert web_ui.controlnet_model_list() == ["edges"]
    unit = webuiapi.ControlNetUnit(image=noise(size=(40, 64)), model="edges")
    found = web_ui.txt2img(prompt=TEXTS[0], controlnet_units=[unit], **SHORT)
    assert not near(found.image, plain.image)
    unit.weight = 0.0
    found = web_ui.txt2img(prompt=TEXTS[0], controlnet_units=[unit], **SHORT)
    assert near(found.image, plain.image)
    unit.module, unit.weight = "canny", 1.0
    over = web_ui.img2img([noise()], prompt="", controlnet_units=[unit], **SHORT)
    assert over.image.size == (32, 32)
    for name, value, rule in (
        ("module", "openpose", "A module must be one"),
        ("model", "pose", "must be one that this server has"),
        ("control_mode", 1, "`control_mode` must be"),
        ("resize_mode", "Sideways", "`resize_mode` must be"),
    ):
        other = webuiapi.ControlNetUnit(image=noise(), model="edges")
        setattr(other, name, value)
        with pytest.raises(RuntimeError, match=rule):
            web_ui.txt2img(prompt="", controlnet_units=[other], **SHORT)
