import dataclasses

import numpy as np
import pytest
from keras import ops

from kerasdiffusion.models.diffusion_model import DiffusionModel
from kerasdiffusion.presets.config import DiffusionModelConfig, ScheduleConfig
from kerasdiffusion.requests.cheaper_steps import (
    cheaper_methods,
    cheaper_table,
    kept_shape,
    whole_steps,
)
from kerasdiffusion.requests.request import Request
from kerasdiffusion.sampling.samplers import make_table
from kerasdiffusion.sampling.table import COLUMNS
from tests.tiny import TINY, lively, tiny_model

UNET = TINY.diffusion_model
CAT = {"prompt": "two cats", "num_steps": 4, "seed": 3, "progress_bar": False}


def asked(**fields):
    return Request(task="text_to_image", prompt="x", **fields)


def whole(table, interval, kinds=None):
    kinds = np.zeros(len(table), bool) if kinds is None else kinds
    return whole_steps(table, interval, kinds).values[:, COLUMNS.whole].tolist()


def test_everything_is_off_by_default():
    assert cheaper_methods(asked(), UNET) == {}
    table = make_table(ScheduleConfig(), "euler", 5)
    assert set(table.values[:, COLUMNS.whole]) == {1.0}


def test_what_a_program_is_made_for_is_a_key():
    options = asked(deep_cache=3, merge_tokens=0.5)
    found = cheaper_methods(options, UNET)
    assert found == {"deep_cache": {"0": ()}, "merge_tokens": {"0.5": ()}}
    same = [3, 3.0, (3,), (3, 0), {"interval": 3}, {"branch": 0, "interval": 3}]
    assert {asked(deep_cache=each).deep_cache for each in same} == {(3, 0)}
    assert asked(deep_cache=(2, 1)).deep_cache == (2, 1)


def test_what_caches_judge_by_is_numbers():
    found = cheaper_methods(asked(ucache=0.5), UNET)["reuse"]
    assert (found["threshold"], found["decay"], found["drift"]) == (0.5, 1.0, 0.5)
    easy = cheaper_methods(asked(easy_cache=True), UNET)["reuse"]
    assert easy.keys() == found.keys() and easy["threshold"] == np.float32(0.2)
    assert cheaper_methods(asked(spectrum=True), UNET) == {"forecast": ()}
    # Nothing stays under a threshold of 0.
    assert cheaper_methods(asked(ucache=0), UNET) == {}
    assert cheaper_methods(asked(easy_cache=0.0), UNET) == {}


def kinds_of(unguided, controls=(), **options):
    """Which rows of six may do without the network, of those that follow one."""
    table = make_table(ScheduleConfig(), "euler", 6)
    table = table.with_column(COLUMNS.variant, options.pop("variants", 0))
    request = asked(**options)
    methods = cheaper_methods(request, UNET)
    table, told = cheaper_table(table, request, methods, unguided, controls)
    assert told.get("reuse", {"steps": 6})["steps"] == 6
    return table.values[:, COLUMNS.whole].tolist()


def test_a_step_that_is_asked_something_else_is_computed():
    plain, always = np.zeros(6, bool), {"ucache": (1.0, 0.0, 1.0)}
    assert kinds_of(plain, **always) == [0, 0, 0, 0, 0, 1]
    assert kinds_of(np.arange(6) > 1, **always) == [0, 0, 1, 0, 0, 1]
    assert kinds_of(plain, variants=[0, 0, 0, 1, 1, 1], **always) == [0, 0, 0, 1, 0, 1]
    control = {"calls": np.array([1.0, 4.0], "float32")}
    assert kinds_of(plain, [control], **always) == [0, 1, 0, 0, 1, 1]
    deep = {"deep_cache": 3}
    assert kinds_of(plain, **deep) == [1, 0, 0, 1, 0, 0]
    assert kinds_of(plain, variants=[0, 0, 1, 1, 1, 1], **deep) == [1, 0, 1, 0, 0, 1]
    assert kinds_of(plain, [control], **deep) == [1, 1, 0, 0, 1, 0]
    spectrum = {"spectrum": {"warmup": 2, "stop": 1.0, "flex": 0.0, "window": 4}}
    assert kinds_of(plain, **spectrum) == [1, 1, 0, 0, 0, 1]
    assert kinds_of(np.arange(6) > 2, **spectrum) == [1, 1, 0, 1, 1, 0]


def test_every_so_many_steps_are_whole_from_the_first_of_a_run_on():
    table = make_table(ScheduleConfig(), "euler", 6)
    assert whole(table, 1) == [1] * 6
    assert whole(table, 2) == [1, 0, 1, 0, 1, 0]
    assert whole(table, 4) == [1, 0, 0, 0, 1, 0]
    assert whole(table.since(1), 2) == [1, 0, 1, 0, 1]
    later = make_table(ScheduleConfig(), "euler", 6, first_step=3)
    assert whole(later, 2) == [1, 0, 1]


def test_the_calls_of_a_step_are_alike():
    table = make_table(ScheduleConfig(), "heun", 4)
    assert table.steps.tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert whole(table, 2) == [1, 1, 0, 0, 1, 1, 0]
    assert whole(table, 2, list("aaabbbb")) == [1, 1, 1, 1, 0, 0, 1]


def test_where_guidance_begins_or_ends_a_step_is_whole():
    table = make_table(ScheduleConfig(), "euler", 7)
    kinds = np.array([1, 1, 0, 0, 0, 0, 1], bool)
    assert whole(table, 3, kinds) == [1, 0, 1, 0, 0, 1, 1]


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"deep_cache": 0}, ValueError, "interval` must be 1 or more. Received: 0"),
        ({"deep_cache": 1.5}, TypeError, "`deep_cache.*whole number.*: 1.5"),
        ({"deep_cache": True}, TypeError, "`deep_cache.*: True"),
        ({"deep_cache": "3"}, TypeError, "`deep_cache.*: '3'"),
        ({"deep_cache": (3, -1)}, ValueError, "branch` must be 0 or more.*: -1"),
        ({"deep_cache": (3, 4)}, ValueError, "branch` must be at most 3, .*: 4"),
        ({"deep_cache": {"branch": 1}}, ValueError, r"\(interval, branch\), or a dict"),
        ({"deep_cache": {"steps": 1}}, ValueError, "by these names. .*'steps'"),
        ({"deep_cache": 2, "sag_scale": 1}, ValueError, "`sag_scale` must be 0 with"),
        ({"ucache": -1}, ValueError, "`ucache: threshold` must be 0 or more.*: -1"),
        ({"ucache": (1, 0.5, 0.5)}, ValueError, "`ucache` must have start < end, and"),
        ({"ucache": {"reset": 0.5}}, ValueError, "relative and reset of 0 or 1. Rec"),
        ({"easy_cache": (0.2, 0.9, 0.1)}, ValueError, "`easy_cache` must have start"),
        ({"easy_cache": "on"}, TypeError, "`easy_cache` must be a number, .*: 'on'"),
        ({"spectrum": {"m": 2.5}}, ValueError, "whole numbers for m, window and war"),
        ({"spectrum": {"m": 6}}, ValueError, "`spectrum: m` must be from 1 to 5.*: 6"),
        ({"spectrum": 0.4}, TypeError, "`spectrum` must be"),
        ({"ucache": 1, "sag_scale": 1}, ValueError, "0 with `ucache`: it looks"),
        ({"ucache": 1, "deep_cache": 2}, ValueError, r"`spectrum` one may be given,"),
        ({"merge_tokens": 0.8}, ValueError, "from 0 to 0.75. Received: 0.8"),
        ({"merge_tokens": -0.1}, ValueError, "from 0 to 0.75. Received: -0.1"),
        ({"merge_tokens": True}, TypeError, "`merge_tokens` must be a number.*True"),
        ({"merge_tokens": float("nan")}, ValueError, "`merge_tokens` must be.*: nan"),
    ],
)
def test_errors_state_the_rule_before_anything_is_built(options, error, message):
    from kerasdiffusion import StableDiffusion

    model = StableDiffusion(32, 32, config=TINY, weights=None)
    with pytest.raises(error, match=message):
        model.text_to_image("a cat", **options)
    assert not model.built


def test_tokens_that_do_not_attend_cannot_be_merged():
    config = dataclasses.replace(UNET, transformer_depths=(0, 0))
    with pytest.raises(ValueError, match="whose pixels do not attend.* Received: 0.5"):
        cheaper_methods(asked(merge_tokens=0.5), config)


@pytest.fixture(scope="module")
def unet():
    """Three levels of two blocks; its skips are at seven places."""
    config = DiffusionModelConfig(
        block_widths=(16, 32, 48),
        blocks_per_level=(1, 2, 1),
        transformer_depths=(1, 0, 0),
        heads=(2, 2, 2),
        context_width=8,
        norm_groups=4,
    )
    network = DiffusionModel(config)
    random = np.random.default_rng(0)
    for variable in network.variables:
        variable.assign(lively(random, variable.path, tuple(variable.shape)))
    return network


def inputs_of(seed):
    random = np.random.default_rng(seed)
    shapes = {"latents": (2, 7, 9, 4), "crossattn": (2, 3, 8), "timestep": (2,)}
    return {
        name: ops.array(random.normal(size=shape).astype("float32"))
        for name, shape in shapes.items()
    }


#: Of seven: the first layer's, what is made smaller, a block within, the last.
QUICK = (0, 2, 3, 6)


def test_kept_features_are_what_the_whole_network_has_there(unet, pytestconfig):
    inputs = inputs_of(0)
    plain = ops.convert_to_numpy(unet(inputs))
    places = range(len(unet.config.skip_widths))
    for branch in places if pytestconfig.getoption("--full-size") else QUICK:
        prediction, kept = unet(inputs, branch=branch)
        assert kept.shape == kept_shape(unet.config, branch, (2, 7, 9, 4), 1)
        np.testing.assert_allclose(ops.convert_to_numpy(prediction), plain, atol=1e-5)
        again, same = unet(inputs, branch=branch, kept=kept)
        np.testing.assert_allclose(ops.convert_to_numpy(again), plain, atol=1e-5)
        assert same.shape == kept.shape
        others, _ = unet(inputs_of(1), branch=branch, kept=kept)
        assert np.abs(ops.convert_to_numpy(others) - plain).max() > 1e-3


def test_what_the_outer_layers_leave_out_does_not_run(unet):
    """Deep layers broken on purpose are not noticed."""
    inputs = inputs_of(0)
    expected, kept = unet(inputs, branch=1)
    deep = [v for v in unet.mid_block.variables if v.path.endswith("kernel")]
    before = [ops.convert_to_numpy(variable) for variable in deep]
    try:
        for variable in deep:
            variable.assign(np.full(variable.shape, np.nan, "float32"))
        found, _ = unet(inputs, branch=1, kept=kept)
        assert np.isnan(ops.convert_to_numpy(unet(inputs))).any()
    finally:
        for variable, values in zip(deep, before, strict=True):
            variable.assign(values)
    np.testing.assert_allclose(
        ops.convert_to_numpy(found), ops.convert_to_numpy(expected), atol=1e-5
    )


@pytest.mark.every_backend
def test_the_interval_is_no_new_program_and_1_is_the_plain_run():
    model = tiny_model()
    plain = model.text_to_image(**CAT)
    assert np.array_equal(model.text_to_image(**CAT, deep_cache=1), plain)
    traces = model.traces
    two = model.text_to_image(**CAT, deep_cache=2)
    three = model.text_to_image(**CAT, deep_cache=3)
    heun = model.text_to_image(**CAT, deep_cache=2, sampler="heun")
    assert model.traces == traces
    away = [np.abs(each.astype(int) - plain).mean() for each in (two, three)]
    assert 0.5 < away[0] < away[1] < 20.0
    assert not np.array_equal(heun, two)
    # A step at a time, as for a callback.
    seen = model.text_to_image(**CAT, deep_cache=3, callback=lambda step: None)
    assert np.array_equal(seen, three)


@pytest.mark.every_backend_at_length
def test_from_a_picture_and_with_steps_that_nothing_guides(tiny):
    """Other numbers of images."""
    plain = tiny.text_to_image(**CAT)
    begun = tiny.image_to_image(
        plain[0], **CAT, deep_cache=2, strength=0.5, guidance_interval=(0.0, 2.0)
    )
    assert begun.shape == plain.shape
