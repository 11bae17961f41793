"""Playground 2.5 and CosXL, trained on a range of noise levels, against diffusers."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import diffusers  # noqa: E402
import torch  # noqa: E402

from kerasdiffusion.presets.families import COSXL, PLAYGROUND  # noqa: E402
from tests.peers.quick import quick  # noqa: E402
from tests.peers.test_family_pipelines import (  # noqa: E402
    NEGATIVE,
    PROMPT,
    SEEDS,
    Pair,
    assert_close,
)
from tests.tiny import TINY_SDXL  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


def tiny(family):
    """The family's noise and scale of latents, with small networks."""
    scale = {
        name: getattr(family.autoencoder, name)
        for name in ("latents_mean", "latents_std", "scale_factor")
    }
    return TINY_SDXL.replace(
        autoencoder=replace(TINY_SDXL.autoencoder, **scale), schedule=family.schedule
    )


@pytest.fixture(scope="module", params=quick(["playground", "cosxl"], "cosxl"))
def both(request, tmp_path_factory):
    diffusers.utils.logging.disable_progress_bar()
    family = {"playground": PLAYGROUND, "cosxl": COSXL}[request.param]
    folder = tmp_path_factory.mktemp(request.param) / "model"
    return request.param, Pair(tiny(family), folder)


@pytest.mark.every_backend_at_length
@pytest.mark.parametrize(
    ("scheduler", "sampler"),
    [
        (diffusers.EDMDPMSolverMultistepScheduler, "dpmpp_2m"),
        pytest.param(diffusers.EDMEulerScheduler, "euler", marks=pytest.mark.heavy),
    ],
)
def test_latents(both, scheduler, sampler):
    name, pair = both
    spacing = {"playground": "karras", "cosxl": "exponential"}[name]
    found = pair.latents(
        num_steps=12,
        sampler=f"{sampler}_{spacing}",
        negative_prompt=NEGATIVE,
        unconditional_guidance_scale=3.0,
    )
    expected = pair.expected(
        scheduler.from_config(pair.pipeline.scheduler.config),
        num_inference_steps=12,
        guidance_scale=3.0,
        negative_prompt=[NEGATIVE] * 2,
    )
    assert_close(found, expected)


def test_pictures_have_the_latents_own_mean_and_deviation(both):
    _, pair = both
    options = {"sampler": "euler_karras", "num_steps": 3}
    latents = pair.latents(**options)
    found = pair.ours.text_to_image(
        [PROMPT] * 2, seed=SEEDS, progress_bar=False, **options
    ).astype(int)
    config = pair.pipeline.vae.config
    std = np.array(config.latents_std or [1.0] * 4, "float32")
    mean = np.array(config.latents_mean or [0.0] * 4, "float32")
    unscaled = latents * std / config.scaling_factor + mean
    with torch.no_grad():
        sample = torch.from_numpy(unscaled.transpose(0, 3, 1, 2).copy())
        pictures = pair.pipeline.vae.decode(sample).sample.numpy()
    expected = np.clip(np.round((pictures + 1.0) * 127.5), 0, 255).astype(int)
    assert np.abs(found - expected.transpose(0, 2, 3, 1)).max() <= 1
    # And back again.
    pixels = pictures.transpose(0, 2, 3, 1).clip(-1.0, 1.0)
    mode = pair.pipeline.vae.encode(torch.from_numpy(pictures.clip(-1.0, 1.0)))
    mode = mode.latent_dist.mode().detach().numpy().transpose(0, 2, 3, 1)
    encoded = np.asarray(pair.ours.image_encoder.predict_on_batch(pixels))
    expected = (mode - mean) * config.scaling_factor / std
    assert encoded == pytest.approx(expected, abs=1e-4 * float(np.abs(expected).max()))
