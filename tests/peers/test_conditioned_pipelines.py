"""Depth, editing and upscaling beside diffusers' pipelines, to the latents."""

import sys

import keras
import numpy as np
import pytest

from kerasdiffusion.sampling.noise import initial_noise, picture_noise, step_noise
from tests.tiny import TINY_DEPTH, TINY_EDITING, TINY_UPSCALER, tiny_model

diffusers = pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")

from tests.peers.networks import channels_first, channels_last  # noqa: E402
from tests.peers.quick import compiler, quick  # noqa: E402

pytestmark = [
    pytest.mark.every_backend_at_length,
    pytest.mark.filterwarnings("ignore:__array__ implementation"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

SAMPLERS = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "pndm": "PNDMScheduler",
}
# The samplers' rows are numpy, and the loop that follows them has tests of its own. One
# draws noise.
SOME = quick(SAMPLERS, "euler_ancestral")
if keras.backend.backend() != "tensorflow":
    SOME = ["ddim"]
PROMPTS, NEGATIVE = ["a red apple on a blue background", "two cats"], "blurry, dark"
SEEDS, STEPS, GUIDANCE = [3, 4], 12, 7.5
HEIGHT, WIDTH = 32, 48
RANDOM = np.random.default_rng(0)
PICTURES = RANDOM.integers(0, 256, (2, HEIGHT, WIDTH, 3), np.uint8)
DEPTHS = RANDOM.normal(size=(2, 37, 21)).astype("float32")


class Pair:
    """One model, ours and as diffusers' pipeline of the folder that we write."""

    def __init__(self, config, kind, folder, jit_compile, **more):
        diffusers.utils.logging.disable_progress_bar()
        self.ours = tiny_model(config=config, jit_compile=jit_compile)
        self.ours.save_preset(folder)
        whole = diffusers.DiffusionPipeline.from_pretrained(folder)
        parts = {
            name: getattr(whole, name)
            for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
        }
        self.pipeline = getattr(diffusers, kind)(**parts, **more)
        self.pipeline.set_progress_bar_config(disable=True)

    def found(self, task, *args, **options) -> np.ndarray:
        """The latents that ours ends with."""
        steps = []
        getattr(self.ours, task)(
            *args,
            negative_prompt=NEGATIVE,
            num_steps=STEPS,
            unconditional_guidance_scale=GUIDANCE,
            seed=SEEDS,
            callback=steps.append,
            progress_bar=False,
            **options,
        )
        return steps[-1].latents

    def expected(self, sampler, opening, monkeypatch, **options) -> np.ndarray:
        """The latents that diffusers' ends with.

        Args:
            opening: The noises that the pipeline itself draws.
        """
        kind = getattr(diffusers, SAMPLERS[sampler])
        # As Stable Diffusion's own files have PNDM.
        more = {"skip_prk_steps": True} if sampler == "pndm" else {}
        config = self.pipeline.scheduler.config
        self.pipeline.scheduler = kind.from_config(config, **more)
        pipeline = sys.modules[type(self.pipeline).__module__]
        scheduler = sys.modules[kind.__module__]
        shape = (HEIGHT // 2, WIDTH // 2, 4)
        if "upscale" in pipeline.__name__:
            shape = (HEIGHT, WIDTH, 4)
        fresh = iter(step_noise(SEEDS, STEPS, shape))
        for module, noises in ((pipeline, iter(opening)), (scheduler, fresh)):

            def draw(*args, noises=noises, **more):
                return channels_first(next(noises))

            monkeypatch.setattr(module, "randn_tensor", draw, raising=False)
        latents = self.pipeline(
            PROMPTS,
            negative_prompt=[NEGATIVE] * 2,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            output_type="latent",
            **options,
        ).images
        return channels_last(latents)


def assert_close(found, expected):
    assert found.shape == expected.shape
    assert expected.std() > 0.1, "latents that hardly vary show nothing"
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert error < 1e-3


def tensor(pictures) -> torch.Tensor:
    """As the pipelines take pictures: channels first, in [-1, 1]."""
    return channels_first(pictures.astype("float32") / 127.5 - 1.0)


@pytest.fixture(scope="module")
def depth(tmp_path_factory, pytestconfig):
    folder = tmp_path_factory.mktemp("depth") / "model"
    kind = "StableDiffusionDepth2ImgPipeline"
    none = {"depth_estimator": None, "feature_extractor": None}
    return Pair(TINY_DEPTH, kind, folder, compiler(pytestconfig), **none)


@pytest.mark.parametrize("sampler", SOME)
def test_depth(depth, sampler, monkeypatch):
    strength = 0.75
    noise = initial_noise(SEEDS, (HEIGHT // 2, WIDTH // 2, 4))
    if sampler == "pndm":
        # Cut short, diffusers' leaves out the step that begins PNDM; so all of it, from
        # noise alone.
        strength = 1.0
        monkeypatch.setattr(
            diffusers.PNDMScheduler, "add_noise", lambda _, image, noise, step: noise
        )
    encoded = [depth.ours.image_encoder(tensor_last(each)) for each in PICTURES]
    encoded = np.concatenate([keras.ops.convert_to_numpy(each) for each in encoded])
    # The pipeline reads a size from pictures alone: so it gets the latents after.
    monkeypatch.setattr(
        depth.pipeline.image_processor, "preprocess", lambda _: channels_first(encoded)
    )
    expected = depth.expected(
        sampler,
        [noise],
        monkeypatch,
        image=list(tensor(PICTURES)),
        depth_map=torch.from_numpy(DEPTHS),
        strength=strength,
    )
    options = {"depth": DEPTHS, "strength": strength, "sampler": sampler}
    found = depth.found("depth_to_image", list(PICTURES), PROMPTS, **options)
    assert_close(found, expected)


def tensor_last(picture) -> np.ndarray:
    return picture[None].astype("float32") / 127.5 - 1.0


@pytest.fixture(scope="module")
def editing(tmp_path_factory, pytestconfig):
    folder = tmp_path_factory.mktemp("editing") / "model"
    kind = "StableDiffusionInstructPix2PixPipeline"
    none = {"safety_checker": None, "feature_extractor": None}
    none["requires_safety_checker"] = False
    return Pair(TINY_EDITING, kind, folder, compiler(pytestconfig), **none)


@pytest.mark.parametrize("sampler", SOME)
def test_edit(editing, sampler, monkeypatch):
    expected = editing.expected(
        sampler,
        [],
        monkeypatch,
        image=tensor(PICTURES),
        latents=channels_first(initial_noise(SEEDS, (HEIGHT // 2, WIDTH // 2, 4))),
        image_guidance_scale=1.4,
    )
    options = {"image_guidance_scale": 1.4, "sampler": sampler}
    found = editing.found("edit", list(PICTURES), PROMPTS, **options)
    assert_close(found, expected)


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory, pytestconfig):
    folder = tmp_path_factory.mktemp("upscaler") / "model"
    diffusers.utils.logging.disable_progress_bar()
    low_res = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear"}
    return Pair(
        TINY_UPSCALER,
        "StableDiffusionUpscalePipeline",
        folder,
        compiler(pytestconfig),
        low_res_scheduler=diffusers.DDPMScheduler(**low_res),
    )


@pytest.mark.parametrize("sampler", SOME)
def test_upscale(upscaler, sampler, monkeypatch):
    expected = upscaler.expected(
        sampler,
        [picture_noise(SEEDS, (HEIGHT, WIDTH, 3))],
        monkeypatch,
        image=tensor(PICTURES),
        latents=channels_first(initial_noise(SEEDS, (HEIGHT, WIDTH, 4))),
        noise_level=25,
    )
    options = {"noise_level": 25, "sampler": sampler}
    found = upscaler.found("upscale", list(PICTURES), PROMPTS, **options)
    assert_close(found, expected)


def test_upscale_draws_noise_in_the_pipelines_order(upscaler, monkeypatch):
    """The small picture's, the latents', the steps': by PyTorch, for a seed."""
    kind = diffusers.EulerAncestralDiscreteScheduler
    scheduler = kind.from_config(upscaler.pipeline.scheduler.config)
    monkeypatch.setattr(upscaler.pipeline, "scheduler", scheduler)
    expected = upscaler.pipeline(
        PROMPTS,
        image=tensor(PICTURES),
        negative_prompt=[NEGATIVE] * 2,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        noise_level=25,
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
        output_type="latent",
    ).images
    options = {"noise_level": 25, "sampler": "euler_ancestral", "rng": "torch"}
    found = upscaler.found("upscale", list(PICTURES), PROMPTS, **options)
    assert_close(found, channels_last(expected))
