"""Tasks that begin with a picture, beside diffusers' pipelines."""

import keras
import numpy as np
import pytest

from tests.tasks.test_image_to_image import APPLE, PICTURE, paint
from tests.tiny import TINY, tiny_model

diffusers = pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")

pytestmark = pytest.mark.every_backend_at_length


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """diffusers', of the same tiny model."""
    diffusers.utils.logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("pipeline") / "tiny"
    tiny_model(config=TINY).save_preset(folder)
    kind = diffusers.StableDiffusionImg2ImgPipeline
    pipeline = kind.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def whole_timesteps(pipeline):
    """Timesteps of PNDM from a later step on, the second of them twice as ever."""

    def get_timesteps(num_steps, strength, device):
        steps = torch.unique(pipeline.scheduler.timesteps).flip(0)
        steps = steps[num_steps - int(num_steps * strength) :]
        return torch.cat([steps[:2], steps[1:]]), len(steps)

    return get_timesteps


@pytest.mark.parametrize("strength", [0.4, 0.75])
@pytest.mark.parametrize(
    "sampler, name",
    [
        ("ddim", "DDIMScheduler"),
        ("euler", "EulerDiscreteScheduler"),
        ("euler_ancestral", "EulerAncestralDiscreteScheduler"),
        ("dpmpp_2m", "DPMSolverMultistepScheduler"),
        ("pndm", "PNDMScheduler"),
    ],
)
def test_the_latents_are_those_of_diffusers(
    tiny, pipeline, sampler, name, strength, monkeypatch
):
    """From the same latents, with PyTorch's own noise.

    PNDM makes its first step twice. diffusers cuts its list of timesteps behind the
    first half, and then takes a step for the second half; here its list is whole.
    """
    config = pipeline.scheduler.config
    options = {"skip_prk_steps": True} if sampler == "pndm" else {}
    pipeline.scheduler = getattr(diffusers, name).from_config(config, **options)
    if sampler == "pndm":
        monkeypatch.setattr(pipeline, "get_timesteps", whole_timesteps(pipeline))
    pixels = PICTURE[None].astype("float32") / 127.5 - 1.0
    encoded = keras.ops.convert_to_numpy(tiny.image_encoder(pixels))
    options = {"num_steps": 20, "sampler": sampler, "strength": strength}
    steps = []
    paint(tiny, rng="torch", callback=steps.append, **options)
    expected = pipeline(
        APPLE,
        image=torch.from_numpy(np.moveaxis(encoded, -1, 1).copy()),
        strength=strength,
        num_inference_steps=20,
        guidance_scale=7.5,
        generator=torch.Generator().manual_seed(1),
        output_type="latent",
    ).images
    expected = np.moveaxis(expected.numpy(), 1, -1)
    found = steps[-1].latents
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert error < 1e-3
