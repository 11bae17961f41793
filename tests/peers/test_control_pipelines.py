"""Pictures that are followed, beside diffusers' pipelines, to the latents."""

import keras
import numpy as np
import pytest

pytest.importorskip("transformers")
diffusers = pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")

from kerasdiffusion import Control  # noqa: E402
from tests.peers.networks import channels_first, channels_last  # noqa: E402
from tests.peers.quick import compiler, quick  # noqa: E402
from tests.peers.test_control_networks import random_peer  # noqa: E402
from tests.tiny import TINY, TINY_SDXL, tiny_model  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

HEIGHT, WIDTH = 32, 48
PROMPT, NEGATIVE = "a red apple", "blurry"
PICTURES = np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH, 3), np.uint8)
SAMPLERS = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "pndm": "PNDMScheduler",
}
# Two that differ most: one draws noise, one calls the network once more than it steps.
SOME = ["euler_ancestral", "pndm"]
STEPS = 8


class Pair:
    """One tiny model with networks that follow pictures, ours and diffusers'."""

    def __init__(self, config, folder, jit_compile="auto"):
        diffusers.utils.logging.disable_progress_bar()
        self.ours = tiny_model(
            config=config,
            img_height=HEIGHT,
            img_width=WIDTH,
            jit_compile=jit_compile,
        )
        self.ours.save_preset(folder / "model")
        unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "model/unet")
        self.folders = [folder / f"control{i}" for i in range(2)]
        self.networks = [
            random_peer(
                diffusers.ControlNetModel.from_unet,
                each,
                unet=unet,
                conditioning_embedding_out_channels=(8, 12),
                load_weights_from_unet=False,
            )
            for each in self.folders
        ]
        with torch.no_grad():  # the second is another
            for tensor in self.networks[1].parameters():
                tensor.mul_(0.9)
        self.networks[1].save_pretrained(self.folders[1])
        self.adapter_folder = folder / "adapter"
        self.adapter = random_peer(
            diffusers.T2IAdapter,
            self.adapter_folder,
            channels=list(config.diffusion_model.block_widths),
            num_res_blocks=1,
            downscale_factor=2,
        )
        self.folder, self.pipelines = folder / "model", {}

    def control(self, i=0, **options) -> Control:
        return Control(self.folders[i], PICTURES[i], **options)

    def follow(self, control, sampler="ddim", image=None, **options) -> np.ndarray:
        """The latents that ours ends with."""
        steps = []
        options = {
            "control": control,
            "negative_prompt": NEGATIVE,
            "num_steps": STEPS,
            "unconditional_guidance_scale": 7.5,
            "sampler": sampler,
            "seed": 1,
            "rng": "torch",
            "progress_bar": False,
            "callback": steps.append,
            **options,
        }
        if image is None:
            self.ours.text_to_image(PROMPT, **options)
        else:
            self.ours.image_to_image(image, PROMPT, **options)
        return steps[-1].latents

    def expected(self, kind, parts, sampler="ddim", **options) -> np.ndarray:
        """The latents that diffusers' ends with."""
        key = (kind, *parts)
        if key not in self.pipelines:
            pipeline = getattr(diffusers, kind).from_pretrained(self.folder, **parts)
            pipeline.set_progress_bar_config(disable=True)
            self.pipelines[key] = pipeline
        pipeline = self.pipelines[key]
        scheduler = getattr(diffusers, SAMPLERS[sampler])
        config = {**pipeline.scheduler.config, "skip_prk_steps": True}
        pipeline.scheduler = scheduler.from_config(config)
        pipeline.register_modules(**parts)
        latents = pipeline(
            PROMPT,
            negative_prompt=NEGATIVE,
            num_inference_steps=STEPS,
            guidance_scale=7.5,
            generator=torch.Generator().manual_seed(1),
            output_type="latent",
            **options,
        ).images
        return channels_last(latents)


@pytest.fixture(scope="module")
def pair(tmp_path_factory, pytestconfig):
    return Pair(TINY, tmp_path_factory.mktemp("sd1"), compiler(pytestconfig))


def as_tensor(i):
    return channels_first(PICTURES[i : i + 1].astype("float32") / 255.0)


def assert_close(found, expected, plain):
    assert found.shape == expected.shape == (1, HEIGHT // 2, WIDTH // 2, 4)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert error < 1e-3
    away = np.linalg.norm(plain - expected) / np.linalg.norm(expected)
    assert away > 0.02, "a picture that is not followed shows nothing"


@pytest.fixture(scope="module")
def plain(pair):
    """Latents of each sampler when what is followed counts nothing."""
    nothing = pair.control(scale=0.0)
    return {sampler: pair.follow(nothing, sampler) for sampler in SAMPLERS}


@pytest.mark.every_backend_at_length
@pytest.mark.parametrize("sampler", quick(SAMPLERS, "dpmpp_2m"))
def test_one_controlnet(pair, plain, sampler):
    found = pair.follow(pair.control(scale=0.7, start=0.2, end=0.7), sampler)
    expected = pair.expected(
        "StableDiffusionControlNetPipeline",
        {"controlnet": pair.networks[0]},
        sampler,
        image=as_tensor(0),
        controlnet_conditioning_scale=0.7,
        control_guidance_start=0.2,
        control_guidance_end=0.7,
    )
    assert_close(found, expected, plain[sampler])


@pytest.mark.parametrize("sampler", SOME)
def test_two_controlnets(pair, plain, sampler):
    controls = [pair.control(0, scale=0.6, end=0.5), pair.control(1, start=0.25)]
    found = pair.follow(controls, sampler)
    expected = pair.expected(
        "StableDiffusionControlNetPipeline",
        {"controlnet": diffusers.MultiControlNetModel(pair.networks)},
        sampler,
        image=[as_tensor(0), as_tensor(1)],
        controlnet_conditioning_scale=[0.6, 1.0],
        control_guidance_start=[0.0, 0.25],
        control_guidance_end=[0.5, 1.0],
    )
    assert_close(found, expected, plain[sampler])


# diffusers' PNDM begins a part of its steps with the second half of its first one.
@pytest.mark.parametrize("sampler", quick(list(SAMPLERS)[:-1], "euler"))
def test_image_to_image(pair, sampler):
    pixels = PICTURES[2:].astype("float32") / 127.5 - 1.0
    encoded = keras.ops.convert_to_numpy(pair.ours.image_encoder(pixels))
    options = {"strength": 0.75}
    found = pair.follow(pair.control(end=0.5), sampler, PICTURES[2], **options)
    expected = pair.expected(
        "StableDiffusionControlNetImg2ImgPipeline",
        {"controlnet": pair.networks[0]},
        sampler,
        image=channels_first(encoded),
        control_image=as_tensor(0),
        controlnet_conditioning_scale=1.0,
        control_guidance_end=0.5,
        **options,
    )
    nothing = pair.control(scale=0.0)
    plain = pair.follow(nothing, sampler, PICTURES[2], **options)
    assert_close(found, expected, plain)


@pytest.mark.parametrize("sampler", SOME)
def test_t2i_adapter(pair, plain, sampler):
    found = pair.follow(Control(pair.adapter_folder, PICTURES[0], scale=0.8), sampler)
    expected = pair.expected(
        "StableDiffusionAdapterPipeline",
        {"adapter": pair.adapter},
        sampler,
        image=as_tensor(0),
        height=HEIGHT,
        width=WIDTH,
        adapter_conditioning_scale=0.8,
    )
    assert_close(found, expected, plain[sampler])


def test_guess_mode(pair, plain):
    found = pair.follow(pair.control(guess_mode=True, scale=0.9))
    expected = pair.expected(
        "StableDiffusionControlNetPipeline",
        {"controlnet": pair.networks[0]},
        image=as_tensor(0),
        controlnet_conditioning_scale=0.9,
        guess_mode=True,
    )
    assert_close(found, expected, plain["ddim"])


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory):
    return Pair(TINY_SDXL, tmp_path_factory.mktemp("sdxl"))


@pytest.mark.every_backend_at_length
def test_sdxl(sdxl):
    found = sdxl.follow(sdxl.control(scale=0.7, end=0.5), "euler")
    expected = sdxl.expected(
        "StableDiffusionXLControlNetPipeline",
        {"controlnet": sdxl.networks[0]},
        "euler",
        image=as_tensor(0),
        controlnet_conditioning_scale=0.7,
        control_guidance_end=0.5,
    )
    assert_close(found, expected, sdxl.follow(sdxl.control(scale=0.0), "euler"))
