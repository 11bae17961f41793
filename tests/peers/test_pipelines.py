"""Whole pipelines against diffusers', prompt to picture, with every sampler."""

import functools
import sys

import keras
import numpy as np
import pytest

from kerasdiffusion.presets.config import AutoencoderConfig, GenerationConfig
from kerasdiffusion.sampling.noise import initial_noise, step_noise
from tests.tiny import TINY, tiny_model

diffusers = pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")

# diffusers' own; numpy 2 warns of how PyTorch tensors become arrays.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

# Stable Diffusion 1.5's scheduler_config.json.
SD15 = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
KARRAS = {"use_karras_sigmas": True}
# Case: our options; diffusers' class, its configuration and its pipeline's options.
CASES = {
    "ddim": ({}, "DDIMScheduler", {}, {}),
    "ddim, eta 1": ({"sampler": "ddim", "eta": 1.0}, "DDIMScheduler", {}, {"eta": 1.0}),
    "ddpm": ({}, "DDPMScheduler", {}, {}),
    "pndm": ({}, "PNDMScheduler", {}, {}),
    "plms": ({}, "PNDMScheduler", {}, {}),
    "euler": ({}, "EulerDiscreteScheduler", {}, {}),
    "euler_ancestral": ({}, "EulerAncestralDiscreteScheduler", {}, {}),
    "lms": ({}, "LMSDiscreteScheduler", {}, {}),
    "heun": ({}, "HeunDiscreteScheduler", {}, {}),
    "dpmpp_2m": ({}, "DPMSolverMultistepScheduler", {}, {}),
    "dpmpp_2m_karras": ({}, "DPMSolverMultistepScheduler", KARRAS, {}),
}
# On every backend; the others' loops are compared there by `test_samplers`.
REPRESENTATIVE = ("ddim", "euler_ancestral", "heun", "dpmpp_2m_karras")
PROMPT, NEGATIVE = "a red apple on a blue background", "blurry, dark"
SEEDS = [3, 4]
# Eight pixels to a latent as in SD; not square, and odd in latents.
AUTOENCODER = AutoencoderConfig(
    block_widths=(8, 8, 16, 16), blocks_per_level=1, norm_groups=8
)
HEIGHT, WIDTH = 56, 72
SHAPE = (7, 9, 4)
CONFIG = TINY.replace(
    autoencoder=AUTOENCODER, generation=GenerationConfig(HEIGHT, WIDTH)
)


def runs():
    """Every sampler; at length with more steps, and on TensorFlow by XLA too."""
    for compiler in ("auto", "xla"):
        for case in CASES:
            for num_steps in (5, 20, 50):
                quick, marks = num_steps == 5, [pytest.mark.heavy] * (num_steps > 20)
                if compiler == "auto":
                    everywhere = quick and case in REPRESENTATIVE
                    length = "every_backend" + "_at_length" * (not everywhere)
                    marks.append(getattr(pytest.mark, length))
                elif not (quick and case in REPRESENTATIVE):
                    marks.append(pytest.mark.heavy)
                yield pytest.param(compiler, case, num_steps, marks=marks)


@pytest.fixture(scope="module")
def models():
    """A model for each compiler, which compiles for the first sampler alone."""
    return functools.cache(
        lambda compiler: tiny_model(
            config=CONFIG, jit_compile=compiler == "xla" or "auto"
        )
    )


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    diffusers.utils.logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("pipeline") / "tiny"
    tiny_model(config=CONFIG).save_preset(folder)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def reference(pipeline):
    """Latents and pictures that diffusers' pipeline ends with."""

    @functools.lru_cache
    def run(case, num_steps):
        _, name, config, options = CASES[case]
        kind = getattr(diffusers, name)
        pipeline.scheduler = kind.from_config({**SD15, **config})
        noise = iter(step_noise(SEEDS, num_steps, SHAPE))

        def drawn(*args, **kwargs):
            return channels_first(next(noise))

        with pytest.MonkeyPatch.context() as patch:
            module = sys.modules[kind.__module__]
            patch.setattr(module, "randn_tensor", drawn, raising=False)
            latents = pipeline(
                [PROMPT] * 2,
                negative_prompt=[NEGATIVE] * 2,
                height=HEIGHT,
                width=WIDTH,
                num_inference_steps=num_steps,
                guidance_scale=7.5,
                latents=channels_first(initial_noise(SEEDS, SHAPE)),
                output_type="latent",
                **options,
            ).images
        with torch.no_grad():
            scaled = latents / pipeline.vae.config.scaling_factor
            pictures = pipeline.vae.decode(scaled).sample
        pictures = pipeline.image_processor.postprocess(pictures, output_type="np")
        return channels_last(latents), np.round(pictures * 255).astype("uint8")

    return run


def channels_first(array):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, 1)))


def channels_last(tensor):
    return np.moveaxis(tensor.numpy(), 1, -1)


@pytest.mark.parametrize("compiler, case, num_steps", list(runs()))
def test_latents_and_pictures(compiler, case, num_steps, models, reference):
    if compiler == "xla" and keras.backend.backend() != "tensorflow":
        pytest.skip("XLA is off by default on TensorFlow's CPU alone")
    model, steps = models(compiler), []
    pictures = model.text_to_image(
        [PROMPT] * 2,
        negative_prompt=NEGATIVE,
        num_steps=num_steps,
        unconditional_guidance_scale=7.5,
        seed=SEEDS,
        callback=steps.append,
        progress_bar=False,
        **{"sampler": case, **CASES[case][0]},
    )
    expected, expected_pictures = reference(case, num_steps)
    found = steps[-1].latents
    assert found.shape == expected.shape == (2, *SHAPE)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-3
    assert pictures.shape == expected_pictures.shape == (2, HEIGHT, WIDTH, 3)
    assert expected_pictures.std() > 30, "a picture that hardly varies shows nothing"
    off = np.abs(pictures.astype(int) - expected_pictures.astype(int))
    assert off.max() <= 1
