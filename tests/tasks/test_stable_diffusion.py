"""Text to pictures: prompts, seeds, guidance, callbacks, and what reaches a run."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.networks.latent_diffusion import LatentDiffusion
from kerasdiffusion.sampling import loop
from kerasdiffusion.sampling.driver import Step
from kerasdiffusion.sampling.noise import initial_noise
from kerasdiffusion.sampling.samplers import make_table
from kerasdiffusion.tasks import run as run_module
from tests.tiny import TINY, tiny_tokenizer

SHAPE = (32, 32, 3)
LATENTS = (16, 16, 4)
APPLE, CATS = "a red apple", "two cats"

compiled = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch runs eagerly: nothing is traced"
)


def paint(model, prompt=CATS, **options):
    """Pictures in three steps from seed 1, unless told otherwise."""
    options = {"seed": 1, "num_steps": 3, "progress_bar": False, **options}
    return model.text_to_image(prompt, **options)


def final_latents(model, **options):
    """What the last step leaves, and the picture of it."""
    steps = []
    picture = paint(model, callback=steps.append, **options)
    return steps[-1].latents, picture


def assert_close(pictures, others, levels=1):
    assert pictures.shape == others.shape
    difference = np.abs(pictures.astype(int) - others.astype(int))
    assert difference.max() <= levels


def assert_differ(pictures, others):
    assert pictures.shape == others.shape
    assert np.abs(pictures.astype(int) - others.astype(int)).mean() > 5


@pytest.fixture
def asked(tiny, monkeypatch):
    """The loops that are to be walked; they are left as they begin."""
    seen = []

    def denoise(loop, pace, began):
        seen.append(loop)
        yield Step(1, 1, 0.0, loop.latents)

    monkeypatch.setattr(run_module, "denoise", denoise)
    return seen


@pytest.mark.every_backend
def test_each_picture_has_its_own_seed_in_any_batch(tiny):
    both = paint(tiny, [APPLE, CATS], seed=4)
    assert both.shape == (2, *SHAPE) and both.dtype == np.uint8
    assert both.std() > 30
    assert_close(both[:1], paint(tiny, APPLE, seed=4))
    assert_close(both[1:], paint(tiny, CATS, seed=5))
    listed = paint(tiny, CATS, batch_size=2, seed=[9, 5], sampler="euler_ancestral")
    alone = paint(tiny, CATS, seed=5, sampler="euler_ancestral")
    assert_close(listed[1:], alone)
    assert_differ(listed[:1], alone)


@pytest.mark.every_backend
def test_prompt_seed_sampler_steps_and_negative_prompt_change_the_picture(tiny):
    first = paint(tiny)
    assert (paint(tiny) == first).all()
    assert (paint(tiny, negative_prompt="") == first).all()
    for change in (
        {"prompt": APPLE},
        {"seed": 2},
        {"sampler": "euler"},
        {"num_steps": 5},
        {"negative_prompt": "blurry, dark"},
        {"unconditional_guidance_scale": 2},
    ):
        assert (paint(tiny, **change) != first).mean() > 0.1, change


@pytest.mark.every_backend
def test_the_two_halves_are_the_whole(tiny):
    encoded = tiny.encode_text([APPLE, CATS])
    assert encoded.shape == (2, 12, 32) and encoded.dtype == np.float32
    expected = tiny.text_encoder(tiny_tokenizer()([APPLE, CATS]))
    assert encoded == pytest.approx(ops.convert_to_numpy(expected), abs=1e-5)
    halves = tiny.generate_image(
        encoded[1], seed=1, num_steps=3, progress_bar=False, negative_prompt=APPLE
    )
    assert (halves == paint(tiny, CATS, negative_prompt=APPLE)).all()


@pytest.mark.every_backend
def test_a_callback_sees_every_step_and_changes_nothing(tiny):
    steps = []
    pictures = paint(tiny, sampler="heun", callback=steps.append)
    assert [(step.step, step.num_steps) for step in steps] == [(1, 3), (2, 3), (3, 3)]
    sigmas = make_table(TINY.schedule, "heun", 3).sigmas
    assert [step.sigma for step in steps] == pytest.approx(sigmas[1:])
    for step in steps:
        assert step.latents.shape == (1, *LATENTS)
        assert step.latents.dtype == np.float32
        assert 0.1 < step.latents.std() < 100
    assert (paint(tiny, sampler="heun") == pictures).all()
    assert (paint(tiny, sampler="heun", progress_bar=True) == pictures).all()


@pytest.mark.every_backend
def test_a_callback_stops_the_run(tiny):
    steps = []

    def stop(step):
        steps.append(step.step)
        return False

    pictures = paint(tiny, callback=stop)
    assert steps == [1]
    assert pictures.shape == (1, *SHAPE) and pictures.dtype == np.uint8
    assert (pictures != paint(tiny)).mean() > 0.1


@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_guidance_takes_one_call_of_twice_the_batch(scale, asked, tiny):
    paint(tiny, [APPLE, CATS], unconditional_guidance_scale=scale)
    batches = []

    def network(inputs):
        batches.append(inputs["latents"].shape[0])
        assert inputs["crossattn"].shape == (batches[-1], 12, 32)
        assert inputs["timestep"].shape == (batches[-1],)
        return inputs["latents"]

    table = asked[0].settings.table
    LatentDiffusion._denoise(
        None,
        (),
        network,
        asked[0].branches,
        scale,
        asked[0].shares,
        asked[0].settings.methods,
        (),
        loop.start(asked[0].latents),
        table.rows,
        np.zeros((1, 2, *LATENTS), "float32"),
        0,
        len(table),
    )
    assert set(batches) == {2 if scale == 1.0 else 4}


@pytest.mark.every_backend_at_length
def test_guidance_of_one_is_no_guidance(tiny):
    plain = paint(tiny, unconditional_guidance_scale=1)
    assert_close(plain, paint(tiny, unconditional_guidance_scale=1.00001))
    unread = paint(tiny, unconditional_guidance_scale=1, negative_prompt=APPLE)
    assert (unread == plain).all()


def test_pictures_follow_their_prompts_and_negative_prompts(tiny, asked):
    contexts = tiny.encode_text([APPLE, CATS, "x", "y"])
    paint(tiny, [APPLE, CATS], negative_prompt=["x", "y"], batch_size=2, seed=8)
    paint(tiny, [APPLE, CATS], negative_prompt=["x"], batch_size=2)
    repeated = np.repeat(contexts, 2, axis=0)
    without, to = (branch["crossattn"] for branch in asked[0].branches)
    assert (to == repeated[None, :4]).all() and (without == repeated[None, 4:]).all()
    assert asked[0].settings.seeds == [8, 9, 10, 11]
    assert (asked[1].branches[0]["crossattn"] == repeated[None, [4] * 4]).all()


def test_what_is_not_given_is_the_presets(tiny, asked):
    tiny.text_to_image(CATS)
    settings = asked[0].settings
    assert settings.table.sampler == "dpmpp_2m_karras"
    assert (settings.table.num_steps, settings.guidance_scale) == (4, 7.5)
    assert settings.request.given() == {"prompt": CATS}
    tiny.text_to_image(CATS)
    assert asked[1].settings.seeds != settings.seeds, "a random seed each time"


def test_noise_of_the_callers(tiny, asked):
    encoded = tiny.encode_text(CATS)
    noise = initial_noise([5], LATENTS)
    for given in (noise, noise[0], np.repeat(noise, 2, axis=0)):
        tiny.generate_image(encoded, batch_size=2, diffusion_noise=given, seed=3)
        scale = np.float32(asked[-1].settings.table.initial_scale)
        assert (asked[-1].latents == np.repeat(noise * scale, 2, axis=0)).all()
    tiny.generate_image(encoded, seed=5)
    assert (asked[-1].latents == noise * scale).all()


def test_noise_options_reach_the_run(asked, tiny):
    shape = (2, 16, 16, 4)
    tiny.text_to_image("two cats", batch_size=2, seed=4, rng="torch", num_steps=1)
    plain = asked[-1].latents
    assert plain.shape == shape
    tiny.text_to_image(
        "two cats",
        batch_size=2,
        seed=4,
        rng="torch",
        num_steps=1,
        variation_seed=7,
        variation_strength=1.0,
    )
    # All have the first seed, and the variations are one after another.
    assert asked[-1].settings.seeds == [4, 4] and asked[
        -1
    ].settings.variation_seeds == [7, 8]
    assert not (asked[-1].latents[1] == plain[1]).all()
    tiny.text_to_image("two cats", seed=4, seed_resize_from=(8, 16), num_steps=1)
    assert asked[-1].settings.drawn == (4, 8)
    for options, message in (
        ({"rng": "cuda"}, "`rng` must be one of numpy, torch, torch-cuda"),
        ({"variation_strength": 2}, "`variation_strength` must be from 0 to 1"),
        ({"seed_resize_from": (512, 9000)}, "whole numbers, from 0 to 8192"),
        ({"spacing": "karas"}, "Did you mean karras"),
        ({"timesteps": [1], "num_steps": 2}, "take the place of `num_steps`"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny.text_to_image("two cats", **options)
