"""A refiner that takes the last steps: the latents, the noise and the stages go on.

Against diffusers' refiner: `tests/peers/test_family_pipelines.py`.
"""

import numpy as np
import pytest

from kerasdiffusion.requests.request import Request
from kerasdiffusion.tasks.refining import with_refiner
from tests.tasks.test_stable_diffusion import (
    assert_close,
    assert_differ,
    final_latents,
    paint,
)
from tests.tiny import tiny_model


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": "euler_ancestral", "rng": "torch"},
        {"sampler": "euler", "s_churn": 2.0},
        {"sampler": "heun", "spacing": "trailing"},
        {"sampler": "ddim", "sigmas": [12.0, 6.0, 3.0, 1.5, 0.7, 0.2]},
        {"variation_seed": 3, "variation_strength": 0.4, "sampler": "lcm"},
        {"prompt": "[cats:dark:3]", "negative_prompt": "[red:blue:1]"},
        {"sampler": "euler", "apg": {"momentum": 0.0}, "guidance_rescale": 0.5},
    ],
    ids=lambda options: options.get("sampler", "editing"),
)
@pytest.mark.parametrize("share", [0.4, 0.01])
def test_a_model_that_refines_itself_paints_the_same(tiny, options, share):
    """By samplers that remember nothing from step to step."""
    options = {"sampler": "euler", **options}
    if "sigmas" not in options:
        options["num_steps"] = 6
    else:
        options["num_steps"] = None
    expected, _ = final_latents(tiny, **options)
    found, _ = final_latents(tiny, refiner=tiny, refiner_start=share, **options)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-4


def test_another_model_paints_another_picture(tiny):
    other = tiny_model(seed=1)
    options = {"sampler": "euler", "num_steps": 6}
    mixed = paint(tiny, refiner=other, refiner_start=0.3, **options)
    assert_differ(mixed, paint(tiny, **options))
    assert_differ(mixed, paint(other, **options))
    # A share that no step is behind leaves nothing to refine.
    late = paint(tiny, refiner=other, refiner_start=0.9999, **options)
    assert_close(late, paint(tiny, **options))


def test_a_callback_ends_both(tiny):
    other, steps = tiny_model(seed=1), []

    def stop(step):
        steps.append(step)
        return len(steps) < 2

    options = {"sampler": "euler", "num_steps": 6, "callback": stop}
    stopped = paint(tiny, refiner=other, refiner_start=0.8, **options)
    assert len(steps) == 2
    steps.clear()
    assert_close(stopped, paint(tiny, **options))


def test_a_refiner_reads_texts(tiny):
    context = tiny.encode_text("cats")
    with pytest.raises(ValueError, match="with `refiner`, prompts must be text"):
        paint(tiny, context, refiner=tiny)
    with pytest.raises(TypeError, match="must be a `StableDiffusion`.*Received: 3"):
        paint(tiny, refiner=3)
    with pytest.raises(ValueError, match="A model is a preset .*Received: 'x'"):
        paint(tiny, refiner="x")
    with pytest.raises(ValueError, match="with `refiner`, prompts must be text"):
        tiny.generate_image(context, refiner=tiny)


def test_a_refiner_may_be_named(tmp_path):
    """As JSON names it: it is made once, as the base is computed."""
    base, other = tiny_model(), tiny_model(1)
    other.save_preset(tmp_path / "other")
    asked = {"num_steps": 3, "seed": 1, "refiner_start": 0.5, "progress_bar": False}
    found = base.text_to_image("two cats", refiner=str(tmp_path / "other"), **asked)
    expected = base.text_to_image("two cats", refiner=other, **asked)
    assert np.array_equal(found, expected)
    request = Request(task="text_to_image", prompt="x", refiner=str(tmp_path / "other"))
    made = with_refiner(base, request).refiner
    assert with_refiner(base, request).refiner is made
