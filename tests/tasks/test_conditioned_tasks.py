"""Tasks of U-Nets that see more than latents."""

import keras
import numpy as np
import pytest

from kerasdiffusion.tasks.editing import two_guidances
from tests.tiny import TINY_DEPTH, TINY_EDITING, TINY_UPSCALER, tiny_model

PICTURE = np.random.default_rng(0).integers(0, 256, (29, 19, 3), np.uint8)
DEPTH = np.linspace(0.0, 1.0, 64).reshape(8, 8)
APPLE = "a red apple"

pytestmark = pytest.mark.every_backend_at_length


@pytest.fixture(scope="module")
def models():
    """The model of each task."""
    configs = {
        "depth_to_image": TINY_DEPTH,
        "edit": TINY_EDITING,
        "upscale": TINY_UPSCALER,
    }
    return {task: tiny_model(config=config) for task, config in configs.items()}


def paint(models, task, image=PICTURE, prompt=APPLE, **options):
    options = {"seed": 1, "num_steps": 4, "progress_bar": False, **options}
    if task == "depth_to_image" and "depth_estimator" not in options:
        options.setdefault("depth", DEPTH)
    return getattr(models[task], task)(image, prompt, **options)


TASKS = ("depth_to_image", "edit", "upscale")


@pytest.mark.parametrize("task", TASKS)
def test_what_is_given_beside_the_latents_counts(models, task):
    first = paint(models, task)
    # The picture's own size, or the small picture's by the autoencoder's factor.
    sides = (58, 38) if task == "upscale" else (29, 19)
    assert first.shape == (1, *sides, 3) and first.dtype == np.uint8
    assert (paint(models, task) == first).all()
    beside = {
        "depth_to_image": {"depth": DEPTH.T, "strength": 1.0},
        "edit": {"image": PICTURE[::-1]},
        "upscale": {"image": PICTURE[::-1]},
    }[task]
    same = {"strength": 1.0} if task == "depth_to_image" else {}
    before = paint(models, task, **same).astype(int)
    assert np.abs(paint(models, task, **beside) - before).mean() > 1.0


@pytest.mark.parametrize("task", TASKS)
def test_a_result_depends_on_its_own_prompt_picture_and_seed(models, task):
    pictures, prompts = [PICTURE, PICTURE[::-1]], [APPLE, "two cats"]
    two = paint(models, task, pictures, prompts)
    (alone,) = paint(models, task, pictures[1], prompts[1], seed=2)
    assert np.abs(two[1].astype(int) - alone).max() <= 1
    both = paint(models, task, pictures[1], prompts[1], batch_size=2)
    assert np.abs(both[1].astype(int) - alone).max() <= 1


def test_both_scales_guide_an_edit(models):
    """One branch alone at scales of 1 and 1; the picture's own weight otherwise."""
    plain = paint(models, "edit").astype(int)
    for options in (
        {"image_guidance_scale": 3.0},
        {"unconditional_guidance_scale": 2.0},
        {"unconditional_guidance_scale": 0.0},
        {"unconditional_guidance_scale": 1.0, "image_guidance_scale": 1.0},
    ):
        assert np.abs(paint(models, "edit", **options) - plain).mean() > 0.5, options


@pytest.mark.parametrize("by_text, by_image", [(7.5, 1.5), (1.0, 1.0), (0.0, 2.0)])
def test_two_guidances_are_the_papers_equation(by_text, by_image):
    nothing, picture, text = np.random.default_rng(0).normal(size=(3, 5))
    shares, scale = two_guidances(np.ones((1, 1)), by_text, by_image)
    found = nothing + scale * (
        shares[0] * (picture - nothing) + shares[1] * (text - nothing)
    )
    expected = nothing + by_image * (picture - nothing) + by_text * (text - picture)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_noise_on_the_small_picture_is_the_seeds(models):
    low, high = (paint(models, "upscale", noise_level=n) for n in (0, 29))
    assert np.abs(low.astype(int) - high).mean() > 1.0
    assert (paint(models, "upscale", noise_level=29) == high).all()


def test_a_depth_map_may_be_estimated(models):
    seen = []

    def estimate(picture):
        seen.append(picture)
        return DEPTH

    found = paint(models, "depth_to_image", depth_estimator=estimate)
    assert (found == paint(models, "depth_to_image")).all()
    assert len(seen) == 1 and (seen[0] == PICTURE).all()


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch runs eagerly: nothing is traced"
)
@pytest.mark.parametrize("task", TASKS)
def test_nothing_but_a_size_compiles_anew(models, task):
    paint(models, task)
    traces = dict(models[task].traces)
    turned = {
        "depth_to_image": {"strength": 0.4, "depth": DEPTH.T},
        "edit": {"image_guidance_scale": 1.0, "unconditional_guidance_scale": 1.0},
        "upscale": {"noise_level": 7},
    }[task]
    paint(models, task, PICTURE[::-1], "two cats", seed=5, num_steps=7, **turned)
    paint(models, task, sampler="euler_ancestral", unconditional_guidance_scale=3.0)
    assert models[task].traces == traces


def wrong(task, error, message, **arguments):
    return pytest.param(task, arguments, error, message, id=f"{task}: {message[:30]}")


@pytest.mark.parametrize(
    "task, arguments, error, message",
    [
        wrong("depth_to_image", ValueError, "from 0 to 1.*: 1.5", strength=1.5),
        wrong("depth_to_image", ValueError, "shape .2, 2, 2", depth=np.ones([2] * 4)),
        wrong("depth_to_image", ValueError, "or NaN", depth=DEPTH * np.nan),
        wrong("depth_to_image", TypeError, "must be a path, a PIL.*: 5", depth=5),
        wrong(
            "depth_to_image",
            ValueError,
            "one for each of the 1 pictures. Received: 3 maps",
            depth=[DEPTH] * 3,
        ),
        wrong(
            "depth_to_image",
            TypeError,
            "must be a function of a picture.*: 'midas'",
            depth_estimator="midas",
        ),
        wrong("edit", ValueError, "`image_guidance_scale` must be .*0.*: -1",
              image_guidance_scale=-1),
        wrong("edit", TypeError, "`image_guidance_scale` must be a number.*: '1'",
              image_guidance_scale="1"),
        wrong("edit", TypeError, "`instruction` must be a string", prompt=5),
        wrong("edit", ValueError, "`edit` takes no `refiner`", refiner="sdxl-refiner"),
        wrong("edit", TypeError, "`strength`: it is for image_to",
              strength=1.0),
        wrong("upscale", ValueError, "a whole number from 0 to 29. Received: 30",
              noise_level=30),
        wrong("upscale", TypeError, "`noise_level` must be a whole number.*: 2.5",
              noise_level=2.5),
        wrong("upscale", TypeError, "must be a path, a PIL image.*: 5", image=5),
    ],
)  # fmt: skip
def test_bad_arguments(models, task, arguments, error, message):
    traces = dict(models[task].traces)
    with pytest.raises(error, match=message):
        paint(models, task, **arguments)
    assert models[task].traces == traces


@pytest.mark.parametrize(
    "task, message",
    [
        ("depth_to_image", "a depth map beside latents: it must take 5 channels"),
        ("edit", "a picture's latents beside latents: it must take 8 channels"),
        ("upscale", "its noise level beside latents: it must take 7 channels and"),
    ],
)
def test_a_model_that_takes_nothing_beside_text(tiny, task, message):
    options = {"depth": DEPTH} if task == "depth_to_image" else {}
    with pytest.raises(ValueError, match=message + ".*Received: a U-Net of 4 channels"):
        getattr(tiny, task)(PICTURE, APPLE, **options)


@pytest.mark.parametrize("task", TASKS)
def test_text_alone_is_not_enough(models, task):
    with pytest.raises(ValueError, match="paints from a picture beside the text"):
        models[task].text_to_image(APPLE)


def test_nothing_to_estimate_depth_by(models, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install ...depth.. in.*depth=None"):
        paint(models, "depth_to_image", depth_estimator=None)
