"""Runs with cached steps against the plain methods, around the same U-Net."""

import itertools

import numpy as np
import pytest
from keras import ops

from kerasdiffusion import Control
from kerasdiffusion.compute.backend import Program
from kerasdiffusion.models.controlnet import ControlNet
from kerasdiffusion.requests.request import Request
from kerasdiffusion.sampling import loop
from kerasdiffusion.sampling.names import SAMPLERS
from kerasdiffusion.sampling.noise import initial_noise
from kerasdiffusion.sampling.table import COLUMNS
from kerasdiffusion.tasks.batches import apart
from tests.networks.test_control import CONFIG, PICTURE, lively_network
from tests.peers.quick import quick
from tests.sampling.plain_caches import Spectrum, UCache
from tests.tiny import TEXTS

PROMPTS, SEEDS, SCALE = [TEXTS[0], TEXTS[1]], [3, 8], 3.0
STEPS = 16
CACHES = {
    "ucache": ((0.5, 0.1, 1.0), UCache, {"threshold": 0.5, "start": 0.1, "end": 1.0}),
    "easy_cache": (0.3, UCache, {"threshold": 0.3, "easy": True}),
    "noise_cache": (
        (4, 0.1, 1.0, 100.0),
        UCache,
        {"threshold": 100.0, "start": 0.1, "end": 1.0, "noise": True, "interval": 4},
    ),
    "spectrum": ((1.0, 2, 0.1), Spectrum, {"w": 1.0, "m": 2, "lam": 0.1}),
}


def asked(prompt, seed, sampler="euler", **options):
    return Request(
        task="text_to_image",
        prompt=prompt,
        seed=seed,
        sampler=sampler,
        num_steps=STEPS,
        unconditional_guidance_scale=SCALE,
        **options,
    )


def final(model, request):
    """The last step of a run."""
    run = model.run(request)
    run.pictures()
    return run.step


@pytest.fixture(scope="module")
def unet(tiny):
    """The U-Net by itself, compiled."""
    network = tiny.diffusion_model
    return Program(lambda inputs: network(inputs), [network])


def by_hand(model, unet, request, cache):
    """Final latents of one picture, the cache around calls of the U-Net."""
    settings = model.plan(request).settings
    contexts = [model.encode_text(text) for text in ("", request.prompt)]
    context = np.stack([ops.convert_to_numpy(each) for each in contexts])
    noise = initial_noise([request.seed], model.latent_shape, request.rng)
    table = settings.table

    def denoise(x, row):
        row, x = ops.convert_to_numpy(row), ops.convert_to_numpy(x)
        seen = x * row[COLUMNS.c_in]
        step = int(row[COLUMNS.call])

        def network():
            inputs = {"latents": np.repeat(seen, 2, axis=0)}
            inputs["crossattn"] = context.reshape(2, -1, context.shape[-1])
            inputs["timestep"] = np.repeat(row[COLUMNS.timestep], 2)
            empty, prompt = ops.convert_to_numpy(unet(inputs))[:, None]
            return [prompt, empty]

        def clean(outputs):
            prompt, empty = outputs
            guided = empty + SCALE * (prompt - empty)
            return row[COLUMNS.c_skip] * x + row[COLUMNS.c_out] * guided

        if isinstance(cache, Spectrum):
            found = cache(lambda: clean(network()))
            return ops.array(found.astype("float32"))
        return ops.array(clean(cache(step, seen, network)))

    carry = loop.start(noise * np.float32(table.initial_scale))
    for row in table.rows:
        carry = loop.step(denoise, carry, ops.array(row), 0.0 * carry.x)
    return ops.convert_to_numpy(carry.x)


#: All caches with a sampler that remembers nothing, and one of each kind with another.
CASES = [("euler", name) for name in CACHES]
CASES += [("dpmpp_2m", "ucache"), ("dpmpp_2m", "spectrum")]


@pytest.mark.every_backend_at_length
@pytest.mark.parametrize(
    "sampler, name", quick(itertools.product(["euler", "dpmpp_2m"], CACHES), *CASES)
)
def test_each_picture_of_a_batch_is_the_plain_method_s(tiny, unet, name, sampler):
    value, plain, options = CACHES[name]
    step = final(tiny, asked(PROMPTS, SEEDS, sampler, **{name: value}))
    uncached = final(tiny, asked(PROMPTS, SEEDS, sampler)).latents
    skipped = []
    for i, (prompt, seed) in enumerate(zip(PROMPTS, SEEDS, strict=True)):
        cache = plain(STEPS, **options)
        expected = by_hand(tiny, unet, asked(prompt, seed, sampler), cache)[0]
        skipped.append(cache.skipped)
        moved = np.abs(expected - uncached[i]).max()
        assert moved > 0.003 * np.abs(expected).max(), "nothing to see"
        assert np.abs(step.latents[i] - expected).max() < 0.02 * moved
    assert step.left_out.tolist() == skipped
    assert min(skipped) > 2


@pytest.mark.every_backend_at_length
def test_the_threshold_is_no_new_program_and_one_under_all_is_the_plain_run(tiny):
    how = {"prompt": PROMPTS, "seed": SEEDS, "num_steps": 8, "progress_bar": False}
    plain = tiny.text_to_image(**how)
    assert np.array_equal(tiny.text_to_image(**how, ucache=0), plain)
    assert np.array_equal(tiny.text_to_image(**how, ucache=1e-30), plain)
    assert np.array_equal(tiny.text_to_image(**how, noise_cache=1), plain)
    traces = tiny.traces
    some = tiny.text_to_image(**how, ucache=(3.0, 0.1, 1.0))
    same = tiny.text_to_image(**how, noise_cache=3)
    assert not np.array_equal(same, plain) and not np.array_equal(same, some)
    heun = tiny.text_to_image(**how, easy_cache=2.0, sampler="heun")
    assert tiny.traces == traces
    assert not np.array_equal(some, plain) and not np.array_equal(heun, some)
    # A step at a time, as for a callback.
    left_out = []
    seen = tiny.text_to_image(
        **how,
        ucache=(3.0, 0.1, 1.0),
        callback=lambda step: left_out.append(step.left_out.tolist()),
    )
    assert np.array_equal(seen, some)
    assert left_out[0] == [0, 0] and min(left_out[-1]) > 1
    window_of_one = {"window": 1, "flex": 0.0}
    assert np.array_equal(tiny.text_to_image(**how, spectrum=window_of_one), plain)
    traces = tiny.traces
    assert not np.array_equal(tiny.text_to_image(**how, spectrum=True), plain)
    assert tiny.traces == traces


@pytest.mark.parametrize("name", ["deep_cache", "noise_cache", "spectrum"])
def test_what_was_kept_of_another_word_serves_no_step(tiny, name):
    """In a prompt whose words take turns: `[a|b]` says a, a, b, a, b, a."""
    how = {"prompt": "[cats|dark]", "seed": 3, "num_steps": 6, "progress_bar": False}
    # DeepCache's second step may take the first one's features, and no other any.
    expected = tiny.text_to_image(**how, deep_cache=2 if name == "deep_cache" else None)
    found = tiny.text_to_image(**how, **{name: {"deep_cache": 5, **MOST}[name]})
    assert np.abs(found.astype(int) - expected).max() <= 1


#: Of each cache, a value that leaves out what it may.
MOST = {
    "ucache": 100.0,
    "easy_cache": 100.0,
    "noise_cache": 3,
    "spectrum": {"window": 3},
}


@pytest.mark.heavy
@pytest.mark.parametrize("name", MOST)
def test_every_sampler_leaves_calls_out_by_one_program(tiny, name):
    traces = None
    for sampler in SAMPLERS:
        request = asked(PROMPTS, SEEDS, sampler, **{name: MOST[name]})
        step = final(tiny, request)
        assert np.isfinite(step.latents).all(), sampler
        assert (step.left_out > 3).all(), sampler
        plain = final(tiny, asked(PROMPTS, SEEDS, sampler)).latents
        # Led away, but to a picture of the same kind.
        away = np.abs(step.latents - plain).max() / np.abs(plain).max()
        assert 1e-4 < away < 3.0, sampler
        assert traces in (None, tiny.traces), sampler
        traces = tiny.traces


#: What else may be asked of two pictures; and the tasks that begin with one.
BESIDE = {
    "a part is kept": {"task": "inpaint", "image": PICTURE, "mask": PICTURE[..., 0]},
    "begins later": {"task": "image_to_image", "image": PICTURE, "strength": 0.7},
    "is told nothing at last": {"guidance_interval": (1.0, 100.0)},
    "other guidance": {"apg": True, "pag_scale": 2.0, "guidance_rescale": 0.5},
    "blurred": {"sag_scale": 1.0},
    "the prompt changes": {"negative_prompt": "[dark:blurry:0.5]"},
    "merged": {"merge_tokens": 0.5},
    "a second size": {"hires_scale": 2.0, "hires_strength": 0.5},
}


@pytest.mark.heavy
@pytest.mark.parametrize("name", CACHES)
@pytest.mark.parametrize("beside", [*BESIDE, "is followed", "is refined"])
def test_a_picture_is_the_one_that_is_painted_alone(tiny, name, beside):
    options = dict(BESIDE.get(beside, {}))
    if beside == "blurred" and name != "spectrum":
        pytest.skip("refused")
    if beside == "is followed":
        network = lively_network(ControlNet, CONFIG)
        options["control"] = Control(network, PICTURE, start=0.2, end=0.6)
    if beside == "is refined":
        options |= {"refiner": tiny, "refiner_start": 0.5}
    options = {"task": "text_to_image", **options, name: CACHES[name][0]}
    how = {"num_steps": 12, "sampler": "dpmpp_2m_karras", **options}
    whole = Request(prompt=PROMPTS, seed=SEEDS, **how)
    together = tiny.run(whole)
    pictures = together.pictures().astype(int)
    for i, each in enumerate(apart(whole)):
        run = tiny.run(each)
        assert np.abs(run.pictures()[0] - pictures[i]).max() <= 1
        assert run.step.left_out[0] == together.step.left_out[i]
    assert together.step.left_out.max() > 0
