import numpy as np
import pytest
from keras import ops

from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling.denoiser import denoiser
from kerasdiffusion.sampling.samplers import make_table
from kerasdiffusion.sampling.table import COLUMNS

pytestmark = pytest.mark.every_backend

SHAPE = (2, 4, 4, 4)
X = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
TEXT = np.random.default_rng(1).normal(size=(2, 3, 5)).astype("float32")

BRANCH = {"crossattn": TEXT[None]}


def row(prediction_type="epsilon"):
    config = ScheduleConfig(prediction_type=prediction_type)
    return ops.convert_to_tensor(make_table(config, "euler", 10).rows[3])


class Network:
    """Adds the text's mean to a tenth of the latents, and keeps what it was given."""

    def __init__(self):
        self.calls = []

    def __call__(self, inputs):
        self.calls.append(inputs)
        text = ops.mean(inputs["crossattn"], axis=(1, 2))
        return 0.1 * inputs["latents"] + text[:, None, None, None]


def evaluate(tensor):
    return ops.convert_to_numpy(tensor)


def test_without_an_unconditional_half_the_network_sees_the_batch():
    network = Network()
    at = row()
    result = evaluate(denoiser(network, [BRANCH])(ops.array(X), at))
    at = evaluate(at)
    output = 0.1 * X * at[COLUMNS.c_in] + TEXT.mean(axis=(1, 2))[:, None, None, None]
    assert result == pytest.approx(X - at[COLUMNS.sigma] * output, abs=1e-5)
    (call,) = network.calls
    assert tuple(call["latents"].shape) == SHAPE
    assert evaluate(call["timestep"]).tolist() == [at[COLUMNS.timestep]] * 2


@pytest.mark.parametrize("scale", [np.float32(7.5), np.array([7.5, 2.0], "float32")])
def test_guidance_takes_one_call_of_both_halves(scale):
    network = Network()
    denoise = denoiser(network, [{"crossattn": 0 * TEXT[None]}, BRANCH], scale)
    at = row()
    result = evaluate(denoise(ops.array(X), at))
    at = evaluate(at)
    guided = TEXT.mean(axis=(1, 2)) * scale
    output = 0.1 * X * at[COLUMNS.c_in] + guided[:, None, None, None]
    assert result == pytest.approx(X - at[COLUMNS.sigma] * output, abs=1e-5)
    (call,) = network.calls
    assert tuple(call["latents"].shape) == (4, 4, 4, 4)
    assert tuple(call["timestep"].shape) == (4,)
    # Those of an image side by side, the unconditional one first.
    expected = [0 * TEXT[0], TEXT[0], 0 * TEXT[1], TEXT[1]]
    assert (evaluate(call["crossattn"]) == np.stack(expected)).all()


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
def test_prediction_types(prediction_type):
    at = row(prediction_type)
    denoise = denoiser(Network(), [BRANCH])
    result = evaluate(denoise(ops.array(X), at))
    sigma = evaluate(at)[COLUMNS.sigma]
    alpha, deviation = 1 / np.hypot(sigma, 1), sigma / np.hypot(sigma, 1)
    output = 0.1 * X * alpha + TEXT.mean(axis=(1, 2))[:, None, None, None]
    expected = {
        "v_prediction": alpha * (alpha * X) - deviation * output,
        "sample": output,
    }
    assert result == pytest.approx(expected[prediction_type], abs=1e-5)


def test_a_network_in_half_precision_leaves_the_latents_in_float32():
    def network(inputs):
        return ops.cast(inputs["latents"], "bfloat16")

    denoise = denoiser(network, [BRANCH, BRANCH], np.float32(3))
    assert "float32" in str(denoise(ops.array(X), row()).dtype)


def test_branches_with_other_keys_are_refused():
    with pytest.raises(ValueError, match=r"Received: \['vector'\] and \['crossattn'\]"):
        denoiser(Network(), [{"vector": TEXT[None]}, BRANCH], 2.0)
    with pytest.raises(ValueError, match="one or more.* Received: none"):
        denoiser(Network(), [])


def test_several_branches_count_by_their_shares():
    others = [BRANCH, {"crossattn": -2.0 * TEXT[None]}]
    shares = np.array([[1.0, 0.5], [0.3, 0.0]], "float32")
    none = {"crossattn": 0 * TEXT[None]}
    at = row()
    denoise = denoiser(Network(), [none, *others], np.float32(4.0), shares)
    result = evaluate(denoise(ops.array(X), at))
    at = evaluate(at)
    mean = TEXT.mean(axis=(1, 2))
    guided = 4.0 * (shares[0] * mean + shares[1] * -2.0 * mean)
    output = 0.1 * X * at[COLUMNS.c_in] + guided[:, None, None, None]
    assert result == pytest.approx(X - at[COLUMNS.sigma] * output, abs=1e-4)


def test_a_row_says_which_variant_it_sees_and_how_much_it_is_guided():
    table = make_table(ScheduleConfig(), "euler", 3)
    table = table.with_column(COLUMNS.variant, [0, 1, 1])
    table = table.with_column(COLUMNS.guidance, [1.0, 1.0, 0.0])
    text = {"crossattn": np.stack([TEXT, 3.0 * TEXT])}
    denoise = denoiser(
        Network(), [{"crossattn": 0 * text["crossattn"]}, text], np.float32(5.0)
    )
    mean = TEXT.mean(axis=(1, 2))[:, None, None, None]
    for at, weight in zip(table.rows, [5.0, 15.0, 3.0], strict=True):
        result = evaluate(denoise(ops.array(X), ops.convert_to_tensor(at)))
        output = 0.1 * X * at[COLUMNS.c_in] + weight * mean
        assert result == pytest.approx(X - at[COLUMNS.sigma] * output, abs=1e-3)
