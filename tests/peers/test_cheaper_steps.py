"""DeepCache and token merging against their authors' packages, in diffusers."""

import keras
import numpy as np
import pytest

from tests.peers import test_guidance
from tests.peers.test_guidance import final_latents
from tests.peers.test_pipelines import CONFIG
from tests.tiny import tiny_model

pipeline = test_guidance.pipeline

pytest.importorskip("diffusers", minversion="0.36")
pytest.importorskip("torch")

pytestmark = [
    pytest.mark.every_backend_at_length,
    pytest.mark.filterwarnings("ignore:__array__ implementation"),
]


@pytest.fixture(scope="module")
def model():
    return tiny_model(config=CONFIG)


@pytest.fixture(scope="module")
def plain(model):
    return final_latents(model)


def theirs(pipeline):
    return test_guidance.theirs(pipeline, "StableDiffusionPipeline", {}, {})


def assert_same(found, expected, plain):
    """Within a thousandth of what the option moves."""
    moved = np.abs(expected - plain).max()
    assert moved > 0.01 * np.abs(expected).max(), "nothing to see"
    assert np.abs(found - expected).max() < 1e-3 * moved


# Theirs counts three branches a level; the tiny U-Net's levels have two.
@pytest.mark.parametrize(
    "interval, branch, their_branch", [(3, 0, 0), (2, 1, 1), (2, 2, 3)]
)
def test_deep_cache(interval, branch, their_branch, model, pipeline, plain):
    if branch and keras.backend.backend() != "torch":
        pytest.skip("compiled by the branch, and runs alike in all backends")
    package = pytest.importorskip("DeepCache", reason="pip install DeepCache")
    # It finds the step by the scheduler's timesteps: the one that the pipeline has.
    steps = {}

    class Helper(package.DeepCacheSDHelper):
        def wrap_unet_forward(self):
            whole = self.function_dict["unet_forward"] = self.pipe.unet.forward

            def forward(sample, timestep, *args, **keywords):
                self.cur_timestep = steps.setdefault(float(timestep), len(steps))
                return whole(sample, timestep, *args, **keywords)

            self.pipe.unet.forward = forward

    helper = Helper(pipe=pipeline)
    helper.set_params(cache_interval=interval, cache_branch_id=their_branch)
    helper.enable()
    try:
        expected = theirs(pipeline)
    finally:
        helper.disable()
    assert len(steps) == test_guidance.STEPS
    found = final_latents(model, deep_cache=(interval, branch))
    assert_same(found, expected, plain)


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_token_merging(share, model, pipeline, plain):
    if share != 0.5 and keras.backend.backend() != "torch":
        pytest.skip("compiled by the share, and runs alike in all backends")
    package = pytest.importorskip("tomesd", reason="pip install tomesd")
    package.apply_patch(pipeline, ratio=share, use_rand=False)
    try:
        expected = theirs(pipeline)
    finally:
        package.remove_patch(pipeline)
    assert_same(final_latents(model, merge_tokens=share), expected, plain)


def test_steps_without_the_options_are_the_pipeline_s(pipeline, plain):
    """The peers leave it as it was."""
    assert np.abs(theirs(pipeline) - plain).max() < 1e-3 * np.abs(plain).max()
