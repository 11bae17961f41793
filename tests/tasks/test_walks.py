"""Walks between prompts and seeds, beside the steps of keras.io's guide."""

import keras
import numpy as np
import pytest
from scipy.spatial import geometric_slerp

from kerasdiffusion import Control
from kerasdiffusion.models.controlnet import ControlNet
from kerasdiffusion.sampling.noise import initial_noise
from kerasdiffusion.tasks.between import mix, positions
from tests.networks.test_control import CONFIG
from tests.tiny import TINY_SDXL, enliven, tiny_model

APPLE, CATS, DARK = "a red apple", "two cats", "dark"
QUICK = {"num_steps": 3, "progress_bar": False}
compiled = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch runs eagerly: nothing is traced"
)


def walk(model, prompt=(APPLE, CATS), **options):
    options = {"seed": 1, "frames": 5, **QUICK, **options}
    return model.interpolate(list(prompt), **options)


def assert_close(found, expected):
    assert found.shape == expected.shape and found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.every_backend_at_length
def test_a_walk_between_prompts_is_that_of_the_guide(tiny):
    """One noise, and encodings between two by `linspace`."""
    apple, cats = (tiny.encode_text(each)[0] for each in (APPLE, CATS))
    noise = initial_noise([1], tiny.latent_shape)[0]
    expected = tiny.generate_image(
        np.linspace(apple, cats, 5), batch_size=5, diffusion_noise=noise, **QUICK
    )
    found = walk(tiny)
    assert_close(found, expected)
    assert_close(found[:1], tiny.text_to_image(APPLE, seed=1, **QUICK))
    assert_close(found[-1:], tiny.text_to_image(CATS, seed=1, **QUICK))
    assert len(np.unique(found.reshape(5, -1), axis=0)) == 5


@pytest.mark.every_backend_at_length
def test_a_circular_walk_is_that_of_the_guide(tiny):
    """Cosine and sine of two noises; the guide paints the first frame twice."""
    one, other = initial_noise([1, 2], tiny.latent_shape)
    angles = np.linspace(0.0, 2.0, 6)[:-1] * np.pi
    noise = np.tensordot(np.cos(angles), one, 0) + np.tensordot(
        np.sin(angles), other, 0
    )
    expected = tiny.generate_image(
        tiny.encode_text(APPLE), batch_size=5, diffusion_noise=noise, **QUICK
    )
    found = tiny.circular_walk(APPLE, seed=1, frames=5, **QUICK)
    assert_close(found, expected)
    assert_close(tiny.circular_walk(APPLE, seed=[1, 2], frames=5, **QUICK), found)


def test_spherical_is_along_the_circle():
    rng = np.random.default_rng(0)
    ends = rng.normal(size=(2, 7))
    ends /= np.linalg.norm(ends, axis=1, keepdims=True)
    shares = np.linspace(0.0, 1.0, 9)
    expected = geometric_slerp(*ends, shares)
    assert np.allclose(mix(ends, shares, "spherical"), expected, atol=1e-6)
    # Each vector on its own: tokens one by one, noise as a whole.
    noise = rng.normal(size=(2, 8, 8, 4))
    between = mix(noise, [0.5], "spherical", axes=(1, 2, 3))
    assert abs(between.std() - 1.0) < 0.1
    assert abs(mix(noise, [0.5], "linear").std() - np.sqrt(0.5)) < 0.1
    # On one line, and from nothing, there is no circle.
    assert np.allclose(mix([ends[0], 2 * ends[0]], [0.5], "spherical"), 1.5 * ends[0])
    assert np.allclose(mix([0 * ends[0], ends[0]], [0.5], "spherical"), 0.5 * ends[0])


def test_frames_are_spread_evenly_and_pass_every_point():
    assert positions(3, 5, closed=False).tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert positions(3, 6, closed=True).tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert positions(1, 2, closed=False).tolist() == [0.0, 0.0]
    assert positions(4, 1, closed=False).tolist() == [0.0]
    points = np.eye(3)
    assert np.allclose(mix(points, [0.0, 1.0, 2.0, 3.0]), points[[0, 1, 2, 0]])
    assert np.allclose(mix(points, [2.5]), [[0.5, 0.0, 0.5]])


def test_prompts_and_seeds_are_passed_on_the_way(tiny):
    found = walk(tiny, (APPLE, CATS, DARK), seed=[5, 9])
    noise = initial_noise([5, 9], tiny.latent_shape)
    half = mix(noise, [0.5], "spherical", axes=(1, 2, 3))
    for frame, prompt, start in (
        (0, APPLE, noise[:1]),
        (2, CATS, half),
        (4, DARK, noise[1:]),
    ):
        expected = tiny.generate_image(
            tiny.encode_text(prompt), diffusion_noise=start, **QUICK
        )
        assert_close(found[frame : frame + 1], expected)
    closed = walk(tiny, (APPLE, CATS), seed=[5, 9], frames=4, closed=True)
    assert_close(closed[:1], found[:1])
    assert_close(walk(tiny, [CATS], seed=[5, 9])[-1:], closed[2:3])


def test_paths_are_chosen(tiny):
    usual = walk(tiny, seed=[1, 2], frames=3)
    for other in ({"text_path": "spherical"}, {"noise_path": "linear"}):
        found = walk(tiny, seed=[1, 2], frames=3, **other)
        assert_close(found[[0, 2]], usual[[0, 2]])
        assert np.abs(found[1].astype(int) - usual[1]).mean() > 1


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": "euler_ancestral"},
        {"negative_prompt": [DARK, CATS]},
        {"unconditional_guidance_scale": 1.0, "sag_scale": 0.5},
        {"variation_seed": 3, "variation_strength": 0.4},
        {"prompt": ["[cats:dark:2]", "[dark:cats:2]"]},
    ],
    ids=lambda options: ", ".join(options),
)
def test_the_ends_are_text_to_image_under_all_options(tiny, options):
    options = {"prompt": [APPLE, CATS], "seed": [1, 5], **QUICK, **options}
    found = tiny.interpolate(**options, frames=3, batch_size=2)
    assert_close(found[[0, 2]], tiny.text_to_image(**options))
    assert np.abs(found[1].astype(int) - found[0]).mean() > 1


def test_prompts_may_have_other_lengths_and_parts(tiny):
    """As `text_to_image` gives each, were they the only ones of the batch."""
    long = "a red apple on a blue background, " * 2
    for prompts in ((long, CATS), (f"{APPLE} AND {CATS}:0.5", DARK)):
        found = walk(tiny, prompts, frames=3, batch_size=2)
        expected = tiny.text_to_image(list(prompts), seed=[1, 1], **QUICK)
        assert_close(found[[0, 2]], expected)


def test_the_noise_of_steps_goes_along(tiny):
    """Frames next to one another differ little, also by samplers that add noise."""
    first, near, *_, last = walk(
        tiny, [APPLE], seed=[1, 2], frames=33, batch_size=5, sampler="euler_ancestral"
    ).astype(int)
    assert 0 < np.abs(near - first).mean() < np.abs(last - first).mean() / 5


def test_pooled_text_goes_along():
    model = tiny_model(config=TINY_SDXL)
    found = walk(model, frames=3)
    contexts, pooled = (
        np.concatenate([read(APPLE), read(CATS)])
        for read in (model.encode_text, model.encode_pooled)
    )
    half = model.generate_image(
        contexts.mean(0), pooled_text=pooled.mean(0), seed=1, **QUICK
    )
    assert_close(found[1:2], half)
    assert_close(found[2:], model.text_to_image(CATS, seed=1, **QUICK))


def test_a_refiner_walks_along(tiny):
    options = {"seed": [1, 2], "frames": 3, "sampler": "euler"}
    alone = walk(tiny, **options)
    refined = walk(tiny, refiner=tiny, refiner_start=0.5, batch_size=2, **options)
    assert_close(refined, alone)


def test_frames_follow_one_picture_or_one_each(tiny):
    network = ControlNet(CONFIG)
    enliven([network])
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    expected = [
        tiny.generate_image(
            context, seed=1, control=Control(network, picture), **QUICK
        )[0]
        for context, picture in zip(
            np.linspace(*tiny.encode_text([APPLE, CATS]), 3), pictures, strict=True
        )
    ]
    control = Control(network, list(pictures))
    assert_close(
        walk(tiny, frames=3, batch_size=2, control=control), np.stack(expected)
    )
    control = Control(network, pictures[1])
    assert_close(walk(tiny, frames=3, batch_size=2, control=control)[1], expected[1])
    with pytest.raises(ValueError, match="each of the 4 results. Received: 3"):
        walk(tiny, frames=4, control=Control(network, list(pictures)))


@compiled
def test_frames_compile_nothing_anew():
    model = tiny_model()
    walk(model, frames=5, batch_size=2)
    traces = dict(model.traces)
    walk(model, (APPLE, CATS, DARK), frames=9, batch_size=2, seed=[3, 4])
    model.circular_walk(APPLE, frames=3, batch_size=2, **QUICK)
    assert model.traces == traces
    assert traces["denoise"] == 1


def test_batches_paint_the_same(tiny):
    assert_close(walk(tiny, batch_size=2), walk(tiny))
    assert_close(walk(tiny, batch_size=50), walk(tiny))


def test_a_callback_ends_the_walk(tiny):
    seen = []

    def stop(step):
        seen.append(step.step)
        return len(seen) < 4

    assert len(walk(tiny, callback=stop, batch_size=2, frames=6)) == 4
    assert seen == [1, 2, 3, 1]


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"prompt": [APPLE]}, ValueError, "two prompts or two seeds.*one prompt and"),
        ({"frames": 0}, ValueError, "`frames` must be.* from 1 to.*: 0"),
        ({"frames": 2.5}, TypeError, "`frames` must be a whole number.*2.5"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be.* from 1 to.*: 0"),
        ({"text_path": "lin"}, ValueError, "Did you mean linear. Received: 'lin'"),
        (
            {"noise_path": 3},
            ValueError,
            "`noise_path` must be one of linear, spherical",
        ),
        ({"seed": []}, ValueError, "`seed` must not be an empty list"),
        ({"seed": [1, -2]}, ValueError, "from 0 to .*Received: -2"),
        ({"frame": 3}, TypeError, "Did you mean frames.*Received: 'frame'"),
        ({"prompt": [3, APPLE]}, TypeError, "`prompt` must be a string"),
    ],
)
def test_bad_arguments(tiny, arguments, error, message):
    with pytest.raises(error, match=message):
        walk(tiny, **arguments)


def test_a_circle_has_two_seeds(tiny):
    with pytest.raises(ValueError, match="Two seeds span a circle.*3 seeds"):
        tiny.circular_walk(APPLE, seed=[1, 2, 3], frames=2)


def test_what_fits_in_no_memory_is_said_ahead(monkeypatch):
    from kerasdiffusion.networks import room

    monkeypatch.setattr(room, "most_bytes", lambda: 2**20)
    model = tiny_model()
    with pytest.raises(MemoryError, match="must fit in memory.*Received: 100000 of"):
        model.circular_walk("a cat", frames=100_000)
    with pytest.raises(MemoryError, match="must fit in memory.*Received: 4096 of"):
        model.text_to_image("a cat", batch_size=4096)
