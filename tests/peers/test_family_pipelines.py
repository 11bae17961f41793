"""Pipelines beyond Stable Diffusion 1 against diffusers', to the latents."""

from dataclasses import replace

import keras
import numpy as np
import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import diffusers  # noqa: E402
import torch  # noqa: E402

from kerasdiffusion.sampling.noise import initial_noise  # noqa: E402
from tests.peers.networks import channels_first, channels_last  # noqa: E402
from tests.tiny import TINY, TINY_REFINER, TINY_SD2, TINY_SDXL, tiny_model  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

PROMPT, PROMPT_2, NEGATIVE = "a red apple on a blue background", "two cats", "blurry"
HEIGHT, WIDTH = 32, 48
SEEDS = [3, 4]
SHAPE = (16, 24, 4)
BETAS = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "steps_offset": 1,
}


class Pair:
    """One model, ours and as diffusers' pipeline of the folder that we write."""

    def __init__(self, config, folder, seed=0):
        self.ours = tiny_model(seed, config=config, img_height=HEIGHT, img_width=WIDTH)
        self.ours.save_preset(folder)
        self.pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
        self.pipeline.set_progress_bar_config(disable=True)

    def latents(self, **options) -> np.ndarray:
        """What ours ends with."""
        steps = []
        self.ours.text_to_image(
            [PROMPT] * 2,
            seed=SEEDS,
            callback=steps.append,
            progress_bar=False,
            **options,
        )
        return steps[-1].latents

    def expected(self, scheduler, **options) -> np.ndarray:
        """What diffusers' ends with."""
        self.pipeline.scheduler = scheduler
        options.setdefault("latents", channels_first(initial_noise(SEEDS, SHAPE)))
        if "image" not in options:
            options |= {"height": HEIGHT, "width": WIDTH}
        else:
            del options["latents"]
        latents = self.pipeline([PROMPT] * 2, output_type="latent", **options).images
        return channels_last(latents)


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory):
    diffusers.utils.logging.disable_progress_bar()
    return Pair(TINY_SDXL, tmp_path_factory.mktemp("sdxl") / "model")


def assert_close(found, expected):
    assert found.shape == expected.shape == (2, *SHAPE)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-3


@pytest.mark.every_backend_at_length
def test_sdxl(sdxl):
    scheduler = diffusers.EulerDiscreteScheduler(**BETAS, timestep_spacing="leading")
    found = sdxl.latents(
        num_steps=6,
        unconditional_guidance_scale=5.0,
        prompt_2=PROMPT_2,
        negative_prompt=NEGATIVE,
        original_size=(64, 80),
        crop=(4, 8),
    )
    expected = sdxl.expected(
        scheduler,
        num_inference_steps=6,
        guidance_scale=5.0,
        prompt_2=[PROMPT_2] * 2,
        negative_prompt=[NEGATIVE] * 2,
        original_size=(64, 80),
        crops_coords_top_left=(4, 8),
        target_size=(HEIGHT, WIDTH),
    )
    assert_close(found, expected)
    # What is turned here turns the picture.
    assert np.abs(sdxl.latents(num_steps=6) - found).max() > 0.05


@pytest.mark.every_backend_at_length
def test_sdxl_without_a_negative_prompt(sdxl):
    """Vectors of zeros, which are not those of the empty prompt."""
    scheduler = diffusers.EulerDiscreteScheduler(**BETAS, timestep_spacing="leading")
    options = {"num_inference_steps": 4, "guidance_scale": 5.0}
    assert_close(sdxl.latents(), sdxl.expected(scheduler, **options))
    empty = sdxl.expected(scheduler, negative_prompt=["", ""], **options)
    assert_close(sdxl.latents(negative_prompt=""), empty)
    assert np.abs(empty - sdxl.latents()).max() > 0.01


def test_turbo_takes_one_step_without_guidance(sdxl):
    kind = diffusers.EulerAncestralDiscreteScheduler
    scheduler = kind(**BETAS, timestep_spacing="trailing")
    found = sdxl.latents(
        num_steps=1,
        unconditional_guidance_scale=1.0,
        sampler="euler_ancestral",
        spacing="trailing",
    )
    expected = sdxl.expected(scheduler, num_inference_steps=1, guidance_scale=0.0)
    assert_close(found, expected)


def test_the_refiner_takes_the_last_steps(sdxl, tmp_path):
    refiner = Pair(TINY_REFINER, tmp_path / "refiner", seed=1)
    scheduler = diffusers.EulerDiscreteScheduler(**BETAS, timestep_spacing="leading")
    options = {"num_inference_steps": 10, "guidance_scale": 5.0}
    texts = {"negative_prompt": [NEGATIVE] * 2}
    half = sdxl.expected(scheduler, denoising_end=0.7, **texts, **options)
    scheduler = diffusers.EulerDiscreteScheduler(**BETAS, timestep_spacing="leading")
    expected = refiner.expected(
        scheduler,
        image=channels_first(half),
        denoising_start=0.7,
        original_size=(HEIGHT, WIDTH),
        target_size=(HEIGHT, WIDTH),
        **texts,
        **options,
    )
    found = sdxl.latents(
        num_steps=10,
        unconditional_guidance_scale=5.0,
        negative_prompt=NEGATIVE,
        refiner=refiner.ours,
        refiner_start=0.7,
    )
    assert_close(found, expected)
    alone = sdxl.latents(num_steps=10, negative_prompt=NEGATIVE)
    assert np.abs(alone - found).max() > 0.05


SD2_SCHEDULERS = {
    "ddim": lambda: diffusers.DDIMScheduler(
        **BETAS,
        set_alpha_to_one=False,
        prediction_type="v_prediction",
        clip_sample=False,
    ),
    # The first step is from noise alone.
    "euler": lambda: diffusers.EulerDiscreteScheduler(
        **BETAS,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    ),
}


@pytest.fixture(scope="module")
def sd2(tmp_path_factory):
    return Pair(TINY_SD2, tmp_path_factory.mktemp("sd2") / "model")


@pytest.mark.parametrize("sampler", SD2_SCHEDULERS)
def test_sd2_predicts_v(sd2, sampler, monkeypatch):
    options = {"sampler": sampler}
    if sampler == "euler":
        schedule = replace(TINY_SD2.schedule, zero_terminal_snr=True)
        monkeypatch.setattr(sd2.ours, "config", TINY_SD2.replace(schedule=schedule))
        options["spacing"] = "trailing"
    found = sd2.latents(
        num_steps=8,
        negative_prompt=NEGATIVE,
        unconditional_guidance_scale=7.5,
        **options,
    )
    expected = sd2.expected(
        SD2_SCHEDULERS[sampler](),
        num_inference_steps=8,
        negative_prompt=[NEGATIVE] * 2,
        guidance_scale=7.5,
    )
    assert_close(found, expected)


def test_lcm_is_told_its_guidance(tmp_path):
    """Its embedding, its timesteps, and fresh noise as PyTorch draws it."""
    network = replace(TINY.diffusion_model, guidance_width=16)
    both = Pair(TINY.replace(diffusion_model=network), tmp_path / "lcm")
    found = both.latents(
        sampler="lcm",
        num_steps=4,
        unconditional_guidance_scale=8.0,
        rng="torch",
    )
    expected = both.expected(
        diffusers.LCMScheduler(**BETAS),
        num_inference_steps=4,
        guidance_scale=8.0,
        latents=None,
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
    )
    assert_close(found, expected)
    weaker = both.latents(
        sampler="lcm", num_steps=4, unconditional_guidance_scale=2.0, rng="torch"
    )
    assert np.abs(weaker - found).max() > 0.01


def test_an_original_file_is_the_same_model(sdxl, tmp_path):
    """Both text encoders, in OpenCLIP's fused layout and in CLIP's."""
    from kerasdiffusion import StableDiffusion

    path = tmp_path / "model.safetensors"
    sdxl.ours.save_preset(path)
    again = StableDiffusion.from_preset(path, tokenizer=sdxl.ours.tokenizer)
    assert again.config == sdxl.ours.config
    for part in again.config.parts:
        pairs = zip(
            getattr(again, part).weights, getattr(sdxl.ours, part).weights, strict=True
        )
        for found, expected in pairs:
            arrays = map(keras.ops.convert_to_numpy, (found, expected))
            np.testing.assert_array_equal(*arrays)


def test_another_size_and_second_prompt_compile_nothing(sdxl):
    if keras.backend.backend() == "torch":
        pytest.skip("PyTorch runs eagerly: nothing is traced")
    sdxl.latents()
    traces = dict(sdxl.ours.traces)
    assert set(traces) == {"encode", "encode_2", "denoise", "decode"}
    sdxl.latents(original_size=(8, 8), prompt_2=PROMPT_2, negative_prompt=NEGATIVE)
    assert sdxl.ours.traces == traces


@pytest.mark.every_backend_at_length
def test_encoded_text_comes_with_pooled_text(sdxl):
    options = {"seed": 1, "num_steps": 2, "progress_bar": False}
    model = sdxl.ours
    encoded, pooled = model.encode_text(PROMPT), model.encode_pooled(PROMPT)
    assert encoded.shape == (1, 12, 72) and pooled.shape == (1, 24)
    found = model.generate_image(encoded, pooled_text=pooled, **options)
    np.testing.assert_array_equal(found, model.text_to_image(PROMPT, **options))
    with pytest.raises(ValueError, match="pass what `encode_pooled` gives.*None"):
        model.generate_image(encoded, **options)
