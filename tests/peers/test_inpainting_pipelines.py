"""Inpainting beside diffusers' pipeline, to the latents, with U-Nets of both kinds."""

from dataclasses import replace

import numpy as np
import pytest

from kerasdiffusion import Control
from tests.peers.quick import compiler, quick
from tests.peers.test_control_networks import random_peer
from tests.peers.test_pipelines import CASES, SD15
from tests.tasks.test_image_to_image import APPLE, PICTURE
from tests.tasks.test_inpainting import MASK
from tests.tiny import TINY, tiny_model

diffusers = pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")

SEEDS = [3, 4]
EDGES = PICTURE[::-1, ::-1].copy()
NINE = TINY.replace(diffusion_model=replace(TINY.diffusion_model, in_channels=9))
pytestmark = pytest.mark.every_backend_at_length


class Pair:
    """One model, ours and as diffusers' pipeline of the folder that we write."""

    def __init__(self, config, folder, jit_compile):
        self.ours = tiny_model(config=config, jit_compile=jit_compile)
        self.ours.save_preset(folder)
        kind = diffusers.StableDiffusionInpaintPipeline
        self.pipeline = kind.from_pretrained(folder)
        self.pipeline.set_progress_bar_config(disable=True)

        # A ControlNet sees nothing but the latents.
        four = {**self.pipeline.unet.config, "in_channels": 4}
        self.network = folder.parent / "controlnet"
        controlnet = random_peer(
            diffusers.ControlNetModel.from_unet,
            self.network,
            unet=diffusers.UNet2DConditionModel.from_config(four),
            conditioning_embedding_out_channels=(8, 12),
            load_weights_from_unet=False,
        )
        kind = diffusers.StableDiffusionControlNetInpaintPipeline
        self.following = kind(**self.pipeline.components, controlnet=controlnet)
        self.following.set_progress_bar_config(disable=True)

    def latents(self, **options) -> np.ndarray:
        """What ours ends with."""
        steps = []
        self.ours.inpaint(
            PICTURE,
            MASK,
            [APPLE] * 2,
            negative_prompt="blurry, dark",
            seed=SEEDS,
            rng="torch",
            unconditional_guidance_scale=7.5,
            callback=steps.append,
            progress_bar=False,
            **options,
        )
        return steps[-1].latents

    def expected(self, scheduler, **options) -> np.ndarray:
        """What diffusers' ends with."""
        from PIL import Image

        pipeline = self.following if "control_image" in options else self.pipeline
        pipeline.scheduler = scheduler
        latents = pipeline(
            [APPLE] * 2,
            image=Image.fromarray(PICTURE),
            mask_image=Image.fromarray(MASK),
            height=32,
            width=32,
            negative_prompt=["blurry, dark"] * 2,
            guidance_scale=7.5,
            generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
            output_type="latent",
            **options,
        ).images
        return np.moveaxis(latents.numpy(), 1, -1)


@pytest.fixture(scope="module", params=[4, 9], ids=["4 channels", "9 channels"])
def pair(request, tmp_path_factory):
    how = compiler(request.config)
    diffusers.utils.logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("inpainting") / "model"
    return Pair(NINE if request.param == 9 else TINY, folder, how)


@pytest.fixture(autouse=True)
def no_draw_from_the_autoencoder(monkeypatch):
    """diffusers draws what the encoder gives; we take its mean."""
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution as Drawn

    monkeypatch.setattr(Drawn, "sample", lambda self, generator=None: self.mode())


# With less strength, diffusers begins PNDM and Heun within the trial of a step.
WHOLE = ["ddim", "euler", "euler_ancestral", "dpmpp_2m", "pndm", "heun"]
RUNS = [(name, 1.0) for name in WHOLE] + [(name, 0.6) for name in WHOLE[:4]]
SOME = [("euler_ancestral", 1.0), ("pndm", 1.0), ("ddim", 0.6)]


@pytest.mark.parametrize("sampler, strength", quick(RUNS, *SOME))
def test_the_latents_are_those_of_diffusers(pair, sampler, strength):
    """From PyTorch's own noise, the fresh one of later steps too."""
    _, name, config, _ = CASES[sampler]
    scheduler = getattr(diffusers, name).from_config({**SD15, **config})
    found = pair.latents(num_steps=10, sampler=sampler, strength=strength)
    expected = pair.expected(scheduler, num_inference_steps=10, strength=strength)
    assert found.shape == expected.shape == (2, 16, 16, 4)
    assert np.abs(expected[0] - expected[1]).max() > 0.1, "their noise differs"
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 1e-3


@pytest.mark.parametrize("sampler", quick(WHOLE[:5], "euler"))
def test_a_picture_is_followed_as_by_diffusers(pair, sampler):
    from PIL import Image

    _, name, config, _ = CASES[sampler]
    scheduler = getattr(diffusers, name).from_config({**SD15, **config})
    expected = pair.expected(
        scheduler,
        num_inference_steps=6,
        control_image=Image.fromarray(EDGES),
        controlnet_conditioning_scale=0.7,
        control_guidance_start=0.2,
        control_guidance_end=0.7,
    )

    def error(scale):
        control = Control(pair.network, EDGES, scale, start=0.2, end=0.7)
        found = pair.latents(num_steps=6, sampler=sampler, control=control)
        assert found.shape == expected.shape == (2, 16, 16, 4)
        return np.linalg.norm(found - expected) / np.linalg.norm(expected)

    assert error(0.7) < 1e-3
    if sampler == "euler":
        assert error(0.0) > 0.02, "a picture that is not followed shows nothing"
