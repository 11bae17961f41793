"""Each method of guidance against diffusers', prompt to final latents."""

import keras
import numpy as np
import pytest

from kerasdiffusion.sampling.noise import initial_noise
from tests.peers.test_pipelines import (
    CONFIG,
    HEIGHT,
    NEGATIVE,
    PROMPT,
    SD15,
    SEEDS,
    SHAPE,
    WIDTH,
    channels_first,
    channels_last,
)
from tests.tiny import tiny_model

diffusers = pytest.importorskip("diffusers", minversion="0.36")
torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.every_backend_at_length,
    pytest.mark.filterwarnings("ignore:__array__ implementation"),
]

STEPS = 4
FREEU = {"b1": 1.5, "b2": 1.6, "s1": 0.9, "s2": 0.2}
ALL_LAYERS = ["down_blocks.0", "mid", "up_blocks.1.attentions.1"]
# Case: our options; diffusers' pipeline and what it takes. Those of several methods, or
# without the scale, are not compiled: `tests/sampling/test_guidance.py` has such too.
CASES = {
    "rescale": ({"guidance_rescale": 0.7}, "StableDiffusionPipeline", {}),
    "freeu": ({"freeu": tuple(FREEU.values())}, "StableDiffusionPipeline", {}),
    "pag": ({"pag_scale": 3.0}, "StableDiffusionPAGPipeline", {}),
    "pag alone": (
        {"pag_scale": 3.0, "unconditional_guidance_scale": 1.0},
        "StableDiffusionPAGPipeline",
        {"guidance_scale": 0.0},
    ),
    "pag of three layers, rescale and freeu": (
        {
            "pag_scale": 2.0,
            "pag_applied_layers": ALL_LAYERS,
            "guidance_rescale": 0.4,
            "freeu": FREEU,
        },
        "StableDiffusionPAGPipeline",
        {},
    ),
    "sag": ({"sag_scale": 0.75}, "StableDiffusionSAGPipeline", {}),
    "sag alone": (
        {"sag_scale": 1.0, "unconditional_guidance_scale": 1.0},
        "StableDiffusionSAGPipeline",
        {"guidance_scale": 1.0},
    ),
}


@pytest.fixture(scope="module")
def model():
    return tiny_model(config=CONFIG)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    folder = tmp_path_factory.mktemp("guidance") / "tiny"
    tiny_model(config=CONFIG).save_preset(folder)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    # Those of PAG and SAG compare it with a number, without need.
    pipeline.unet.register_to_config(sample_size=64)
    return pipeline


def theirs(pipeline, name, ours, options):
    """The latents that a pipeline of diffusers ends with."""
    parts = {**pipeline.components, "scheduler": scheduler()}
    if "PAG" in name:
        parts["pag_applied_layers"] = ours.get("pag_applied_layers", "mid")
    chosen = getattr(diffusers, name)(**parts, requires_safety_checker=False)
    chosen.set_progress_bar_config(disable=True)
    shared = {
        key: ours[key]
        for key in ("pag_scale", "sag_scale", "guidance_rescale")
        if key in ours
    }
    before = chosen.unet.attn_processors
    if "freeu" in ours:
        chosen.unet.enable_freeu(**FREEU)
    try:
        latents = chosen(
            [PROMPT] * 2,
            negative_prompt=[NEGATIVE] * 2,
            height=HEIGHT,
            width=WIDTH,
            num_inference_steps=STEPS,
            latents=noise(),
            output_type="latent",
            **{"guidance_scale": 7.5, **shared, **options},
        ).images
    finally:
        chosen.unet.disable_freeu()
        chosen.unet.set_attn_processor(before)
    return channels_last(latents.detach())


def scheduler():
    return diffusers.DDIMScheduler.from_config(SD15)


def noise():
    return channels_first(initial_noise(SEEDS, SHAPE))


def final_latents(model, **options):
    steps = []
    model.text_to_image(
        [PROMPT] * 2,
        negative_prompt=NEGATIVE,
        num_steps=STEPS,
        seed=SEEDS,
        callback=steps.append,
        progress_bar=False,
        sampler="ddim",
        **{"unconditional_guidance_scale": 7.5, **options},
    )
    return steps[-1].latents


def assert_same(found, expected, plain):
    """Within a thousandth of the largest value, where the method moves it by 5 %."""
    assert found.shape == expected.shape == (2, *SHAPE)
    largest = np.abs(expected).max()
    assert np.abs(expected - plain).max() / largest > 0.05, "nothing to see"
    assert np.abs(found - expected).max() / largest < 1e-3


@pytest.fixture(scope="module")
def plain(model):
    """Without guidance but the scale's."""
    return final_latents(model)


def params(cases):
    """PyTorch compiles nothing, and runs all of them."""
    eager = keras.backend.backend() == "torch"
    reason = "compiled by the methods alone"
    for case in cases:
        several = " " in case
        skip = pytest.mark.skipif(several and not eager, reason=reason)
        yield pytest.param(case, marks=skip)


@pytest.mark.parametrize("case", [*params(CASES)])
def test_pipelines_end_with_the_same_latents(case, model, pipeline, plain):
    ours, name, options = CASES[case]
    expected = theirs(pipeline, name, ours, options)
    assert_same(final_latents(model, **ours), expected, plain)


def guided_by(guider, pipeline):
    """Final latents where a guider of diffusers is fed denoised predictions."""
    steps = scheduler()
    steps.set_timesteps(STEPS)
    prompts, negatives = pipeline.encode_prompt(
        [PROMPT] * 2, "cpu", 1, True, [NEGATIVE] * 2
    )
    latents, context = noise(), torch.cat([negatives, prompts])
    for i, t in enumerate(steps.timesteps):
        alpha = steps.alphas_cumprod[t]
        with torch.no_grad():
            predicted = pipeline.unet(torch.cat([latents] * 2), t, context).sample
        clean = torch.cat([latents] * 2) - (1 - alpha).sqrt() * predicted
        without, to = (clean / alpha.sqrt()).chunk(2)
        guider.set_state(step=i, num_inference_steps=STEPS, timestep=t)
        guider.prepare_inputs({"prompts": ("prompts", "prompts")})
        denoised = guider.forward(to, without).pred
        predicted = (latents - alpha.sqrt() * denoised) / (1 - alpha).sqrt()
        latents = steps.step(predicted, t, latents).prev_sample
    return channels_last(latents)


@pytest.mark.parametrize(
    "eta, norm_threshold, momentum", [(0.0, 7.5, -0.75), (0.4, 0.0, 0.3)]
)
def test_adaptive_projected_guidance(
    eta, norm_threshold, momentum, model, pipeline, plain
):
    guider = diffusers.AdaptiveProjectedGuidance(
        guidance_scale=6.5,  # what the original formulation calls 7.5
        use_original_formulation=True,
        eta=eta,
        adaptive_projected_guidance_rescale=norm_threshold,
        adaptive_projected_guidance_momentum=momentum,
    )
    expected = guided_by(guider, pipeline)
    found = final_latents(model, apg=(eta, norm_threshold, momentum))
    assert_same(found, expected, plain)


def test_the_interval_is_where_diffusers_guides(model, pipeline, plain):
    guider = diffusers.ClassifierFreeGuidance(7.5, start=0.25, stop=0.75)
    expected = guided_by(guider, pipeline)
    sigmas = []
    model.text_to_image(
        PROMPT, num_steps=STEPS, sampler="ddim", progress_bar=False,
        callback=lambda step: sigmas.append(step.sigma),
    )  # fmt: skip
    # Sigmas after each step: the second and the third step begin at the first two.
    found = final_latents(model, guidance_interval=(sigmas[2], sigmas[0]))
    assert_same(found, expected, plain)


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch runs eagerly: nothing is traced"
)
def test_numbers_compile_nothing_anew(model):
    """Of a method that is on; on and off are two programs, each made once."""
    for first in ({}, {"apg": True}, {"guidance_rescale": 0.5}):
        final_latents(model, **first)
    before = model.traces
    assert before["denoise"] >= 3
    for change in (
        {"apg": (0.5, 0.0, 0.1)},
        {"apg": True, "guidance_interval": (1.0, 10.0)},
        {"apg": False, "guidance_rescale": 0.9, "pag_scale": 0, "freeu": None},
        {"guidance_interval": (0.0, 5.0), "sag_scale": 0.0},
    ):
        assert np.isfinite(final_latents(model, **change)).all()
    assert model.traces == before
