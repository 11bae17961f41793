import numpy as np
import pytest

from kerasdiffusion import StableDiffusion
from kerasdiffusion.models.diffusion_model import DiffusionModel
from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.requests.guidance import (
    check_layers,
    guidance_methods,
    self_attentions,
    within_interval,
    without_guidance,
)
from kerasdiffusion.requests.request import Request
from kerasdiffusion.sampling.samplers import make_table
from kerasdiffusion.sampling.table import COLUMNS
from tests.tiny import TINY, TINY_SDXL

LAYERS = [
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1",
    "mid_block.attentions.0.transformer_blocks.0.attn1",
]


def asked(**fields):
    return Request(task="text_to_image", prompt="x", **fields)


def methods(**fields):
    return guidance_methods(asked(**fields))


def table():
    return make_table(ScheduleConfig(), "euler", 5)


def test_everything_is_off_by_default():
    assert methods() == {}
    assert methods(pag_scale=0, sag_scale=0.0, guidance_rescale=0, apg=False) == {}
    before = table()
    assert within_interval(before, asked()) is before
    assert set(before.values[:, COLUMNS.guidance]) == {1.0}


def test_numbers_by_place_or_by_name():
    by_place = methods(apg=(0.5, 3), freeu=[1, 2, 3, 4], dynamic_thresholding=(7,))
    by_name = methods(
        apg={"norm_threshold": 3, "eta": 0.5},
        freeu={"s1": 3, "s2": 4, "b1": 1, "b2": 2},
        dynamic_thresholding={"mimic_scale": 7, "percentile": 1},
    )
    for found in (by_place, by_name):
        assert found["apg"] == {"eta": 0.5, "norm_threshold": 3.0, "momentum": -0.75}
        assert found["freeu"].tolist() == [1, 2, 3, 4]
        assert found["thresholding"] == {"mimic_scale": 7.0, "percentile": 1.0}
        assert found["freeu"].dtype == found["apg"]["eta"].dtype == np.float32


def test_adaptive_projected_guidance_by_default_and_without_a_bound():
    assert methods(apg=True)["apg"] == {
        "eta": 0.0,
        "norm_threshold": 7.5,
        "momentum": -0.75,
    }
    assert methods(apg={"norm_threshold": 0})["apg"]["norm_threshold"] == np.inf


def test_layers_are_keys_in_one_order():
    found = methods(pag_scale=3, pag_applied_layers=["mid", "down", "mid"])
    assert found == {"pag": 3.0, "pag_layers": {"down": (), "mid": ()}}
    assert list(found["pag_layers"]) == ["down", "mid"]


def test_the_interval_is_open_below_and_closed_above():
    sigmas = table().values[:, COLUMNS.sigma]
    interval = (sigmas[3], sigmas[1])
    found = within_interval(table(), asked(guidance_interval=interval))
    assert found.values[:, COLUMNS.guidance].tolist() == [0, 1, 1, 0, 0]
    found = within_interval(table(), asked(guidance_interval={"low": sigmas[0]}))
    assert found.values[:, COLUMNS.guidance].tolist() == [0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"guidance_rescale": 1.5}, ValueError, "from 0 to 1. Received: 1.5"),
        ({"guidance_rescale": "a"}, TypeError, "`guidance_rescale` must be a number"),
        ({"pag_scale": -1}, ValueError, "`pag_scale` must be 0 or more. Received: -1"),
        ({"pag_scale": True}, TypeError, "`pag_scale` must be a number.*: True"),
        ({"sag_scale": float("nan")}, ValueError, "`sag_scale` must be finite.*: nan"),
        ({"sag_scale": float("inf")}, ValueError, "`sag_scale` must be finite.*: inf"),
        (
            {"pag_applied_layers": 3},
            TypeError,
            "`pag_applied_layers` must be a string or a list of strings. Received: 3",
        ),
        ({"pag_applied_layers": []}, ValueError, "must not be empty. Received: "),
        (
            {"freeu": (1.5, 1.6, 0.9)},
            ValueError,
            r"`freeu` must be \(b1, b2, s1, s2\), .*; s2 is missing. Received: \(1.5,",
        ),
        ({"freeu": 1.5}, TypeError, r"`freeu` must be \(b1, b2, s1, s2\).*: 1.5"),
        ({"freeu": {"b3": 1}}, ValueError, "by these names. Received: 'b3'"),
        ({"freeu": (1, 2, 3, None)}, TypeError, "`freeu: s2` must be a number.*None"),
        ({"apg": (0, 1, 2, 3)}, ValueError, r"`apg` must be \(eta, norm_threshold, mo"),
        ({"apg": {"momentum": -2}}, ValueError, "`apg: momentum` must be from -1 to 1"),
        ({"apg": (0, -1)}, ValueError, "`apg: norm_threshold` must be 0 or more.*: -1"),
        (
            {"dynamic_thresholding": (7, 99.9)},
            ValueError,
            "`dynamic_thresholding: percentile` must be from 0 to 1. Received: 99.9",
        ),
        ({"dynamic_thresholding": {}}, ValueError, "mimic_scale is missing.*: {}"),
        ({"dynamic_thresholding": True}, TypeError, r"must be \(mimic_scale, perc"),
    ],
)
def test_errors_state_the_rule(options, error, message):
    with pytest.raises(error, match=message):
        methods(**options)


@pytest.mark.parametrize(
    "interval, error, message",
    [
        ((5, 1), ValueError, r"\(low, high\) with low <= high. Received: \(5, 1\)"),
        ((-1, 1), ValueError, "`guidance_interval: low` must be 0 or more.*: -1"),
        (3.0, TypeError, r"`guidance_interval` must be \(low, high\).*: 3.0"),
    ],
)
def test_no_interval(interval, error, message):
    with pytest.raises(error, match=message):
        within_interval(table(), asked(guidance_interval=interval))


def test_layers_that_are_not_there():
    check_layers(methods(pag_scale=1, pag_applied_layers="down_blocks.0"), LAYERS)
    unknown = methods(pag_scale=1, pag_applied_layers=["mid", "down_block.0"])
    rule = (
        r"self-attention \(down_blocks.0, mid_block\) or layers in them. Did you mean"
    )
    with pytest.raises(ValueError, match=rule + " down_blocks.0.* Received: 'down_bl"):
        check_layers(unknown, LAYERS)
    check_layers(methods(sag_scale=0.75), LAYERS)
    with pytest.raises(ValueError, match="`sag_scale` must be 0 for .*Received: 0.75"):
        check_layers(methods(sag_scale=0.75), LAYERS[:1])


@pytest.mark.parametrize("config", [TINY, TINY_SDXL], ids=["sd1", "sdxl"])
def test_the_layers_are_known_before_the_network_is_built(config):
    network = DiffusionModel(config.diffusion_model)
    assert self_attentions(config.diffusion_model) == network.self_attentions()


def test_unknown_layers_are_refused_before_anything_is_built():
    model = StableDiffusion(weights=None)  # Stable Diffusion 1 at its full size
    with pytest.raises(ValueError, match="Did you mean up_blocks.*Received: 'up_bloks"):
        model.text_to_image("x", pag_scale=3.0, pag_applied_layers="up_bloks.1")
    assert not model.built


@pytest.mark.every_backend
def test_outside_of_the_interval_the_prompt_alone_is_seen(tiny, monkeypatch):
    """Which changes nothing but the time."""
    model, latents = tiny, []
    options = {
        "seed": 1,
        "num_steps": 6,
        "guidance_interval": (0.5, 5.0),
        "progress_bar": False,
        "callback": lambda step: latents.append(step.latents),
    }
    seen, program = [], model.program

    def counted(branches, *state):
        seen.append(len(branches))
        return program("denoise")(branches, *state)

    monkeypatch.setattr(
        model, "program", lambda name, *_: {"denoise": counted}.get(name, program(name))
    )
    model.text_to_image("two cats", **options)
    assert set(seen) == {1, 2} and len(seen) == 6
    monkeypatch.setattr(
        "kerasdiffusion.tasks.denoising.without_guidance",
        lambda table, *_: np.zeros(len(table), bool),
    )
    model.text_to_image("two cats", **options)
    assert seen[6:] == [2] * 6
    found, expected = latents[5], latents[11]
    assert found == pytest.approx(expected, abs=1e-4 * float(abs(expected).max()))


def test_with_other_methods_all_branches_are_seen():
    outside = within_interval(table(), asked(guidance_interval=(1.0, 5.0)))
    shares, two = np.ones((1, 3)), [{}, {}]
    assert 0 < without_guidance(outside, two, shares, {}).sum() < len(outside)
    assert without_guidance(outside, two, shares, {"freeu": 1}).any()
    assert not without_guidance(outside, two, shares, {"rescale": 0.5}).any()
    assert not without_guidance(outside, two, 0.5 * shares, {}).any()
    assert not without_guidance(outside, [{}] * 3, np.ones((2, 3)), {}).any()
    assert not without_guidance(table(), two, shares, {}).any()
