import numpy as np
import pytest
from keras import ops

from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling import loop
from kerasdiffusion.sampling.denoiser import denoiser, empty_memory
from kerasdiffusion.sampling.guidance import blurred, thresholded
from kerasdiffusion.sampling.samplers import make_table
from kerasdiffusion.sampling.table import COLUMNS
from tests.sampling.toy import relative_error, walk

pytestmark = pytest.mark.every_backend

RANDOM = np.random.default_rng(0)
SHAPE = (2, 6, 7, 4)
X = RANDOM.normal(size=SHAPE) * 14.6
NONE, CAT, DOG = RANDOM.normal(size=(3, 2, 3, 5))
SHARES = np.array([[1.0, 0.8], [0.5, -0.3]])
APG = {"eta": 0.3, "norm_threshold": 9.0, "momentum": -0.5}
THRESHOLDING = {"mimic_scale": 2.0, "percentile": 0.9}
CASES = {
    "all": (
        [NONE, CAT, DOG],
        {
            "apg": APG,
            "pag": 2.5,
            "sag": 0.8,
            "rescale": 0.7,
            "thresholding": THRESHOLDING,
        },
    ),
    "apg and rescale": ([NONE, CAT], {"apg": APG, "rescale": 0.4}),
    "pag and thresholding": ([NONE, CAT], {"pag": 3.0, "thresholding": THRESHOLDING}),
    "one branch": (
        [CAT],
        {"pag": 3.0, "sag": 0.5, "apg": APG, "thresholding": THRESHOLDING},
    ),
}


def network(inputs, watch=False, ops=ops):
    """A toy whose self-attention is a word only; `ops` is `keras.ops` or numpy."""
    latents, time = inputs["latents"], inputs["timestep"][:, None, None, None]
    text = ops.mean(inputs["crossattn"], axis=(1, 2))[:, None, None, None]
    output = ops.tanh(latents + 2.0 * text) + 0.3 * latents * ops.cos(time / 300)
    if "perturbed" in inputs:
        flat = 0.5 * ops.tanh(latents + text)
        output = ops.where(inputs["perturbed"][:, None, None, None], flat, output)
    energy = ops.mean(latents * latents, axis=-1)[:, ::2, ::2]
    energy = energy / ops.mean(energy, axis=(1, 2), keepdims=True)
    return (output, energy) if watch else output


class Statement:
    """All methods in plain numpy and float64, one branch and one image at a time."""

    def __init__(self, texts, scale, shares, methods):
        self.texts, self.scale, self.methods = texts, scale, methods
        self.shares, self.average = shares, [0.0, 0.0]

    def __call__(self, x, row):
        return np.stack([self.image(i, x[i], row) for i in range(len(x))])

    def see(self, i, x, row, text, perturbed=False):
        inputs = {
            "latents": x[None] * row[COLUMNS.c_in],
            "timestep": row[None, COLUMNS.timestep],
            "crossattn": text[None, i],
            "perturbed": np.array([perturbed]),
        }
        output, attention = network(inputs, watch=True, ops=np)
        return output[0], attention[0]

    def image(self, i, x, row):
        methods, on = self.methods, row[COLUMNS.guidance]

        def clean(output):
            return row[COLUMNS.c_skip] * x + row[COLUMNS.c_out] * output

        first, attention = self.see(i, x, row, self.texts[0])
        others = [self.see(i, x, row, text)[0] for text in self.texts[1:]]
        shares = self.shares[: len(others), i]
        towards = sum(
            share * (other - first) for share, other in zip(shares, others, strict=True)
        )
        conditional = first + towards
        guided = first + (1 + on * (self.scale - 1)) * towards
        if "apg" in methods and others:
            update = clean(conditional) - clean(first)
            update = update + methods["apg"]["momentum"] * self.average[i]
            if on:
                self.average[i] = update
            bound = methods["apg"]["norm_threshold"] / np.linalg.norm(update)
            update = update * min(1.0, bound)
            unit = clean(conditional) / np.linalg.norm(clean(conditional))
            parallel = np.sum(update * unit) * unit
            update = update - parallel + methods["apg"]["eta"] * parallel
            denoised = clean(conditional) + on * (self.scale - 1) * update
            guided = (denoised - row[COLUMNS.c_skip] * x) / row[COLUMNS.c_out]
        if "pag" in methods:
            texts = self.texts[1:] or self.texts
            pairs = zip(texts, others or [first], strict=True)
            weights = shares if others else [1.0]
            for share, (text, other) in zip(weights, pairs, strict=True):
                perturbed, _ = self.see(i, x, row, text, True)
                guided = guided + on * methods["pag"] * share * (other - perturbed)
        if "sag" in methods:
            seen = (attention > 1.0).repeat(2, 0).repeat(2, 1)[: x.shape[0]]
            seen = seen[:, NEAREST, None]
            blur = gaussian(clean(first))
            # The noise of the first prediction, on a prediction blurred where seen.
            eps = (x - clean(first)) / row[COLUMNS.sigma]
            noisy = np.where(seen, blur, clean(first)) + row[COLUMNS.sigma] * eps
            degraded, _ = self.see(i, noisy, row, self.texts[0])
            guided = guided + on * methods["sag"] * (first - degraded)
        if "rescale" in methods:
            phi, factor = methods["rescale"], conditional.std() / guided.std()
            guided = phi * guided * factor + (1 - phi) * guided
        result = clean(guided)
        if "thresholding" in methods and others:
            scale = 1 + on * (methods["thresholding"]["mimic_scale"] - 1)
            mimicked = clean(first + scale * towards)
            for channel in range(x.shape[-1]):
                mean = result[..., channel].mean()
                centred = result[..., channel] - mean
                wanted = np.abs(mimicked[..., channel] - mimicked[..., channel].mean())
                cut = np.quantile(
                    np.abs(centred), methods["thresholding"]["percentile"]
                )
                bound = max(wanted.max(), cut)
                clamped = np.clip(centred, -bound, bound) / bound * wanted.max()
                result[..., channel] = mean + clamped
        return result


# Column 7 wide from a map of 4: positions 0, 1.75, ... times 4/7, rounded down.
NEAREST = np.array([0, 0, 2, 2, 4, 4, 6])


def gaussian(x):
    """Of each channel, 9 by 9, mirrored."""
    from scipy.ndimage import gaussian_filter1d

    for axis in (0, 1):
        x = gaussian_filter1d(x, 1.0, axis=axis, mode="mirror", truncate=4.0)
    return x


def as_tensors(methods):
    """float32, as the compiled program gets them."""
    return {
        name: as_tensors(value)
        if isinstance(value, dict)
        else ops.convert_to_tensor(np.float32(value))
        for name, value in methods.items()
    }


@pytest.mark.parametrize(
    "case, prediction_type",
    [*((case, "epsilon") for case in CASES), ("all", "v_prediction")],
)
def test_the_methods_compose_as_their_formulas_say(case, prediction_type):
    texts, methods = CASES[case]
    table = make_table(ScheduleConfig(prediction_type=prediction_type), "euler", 4)
    table = table.with_column(COLUMNS.guidance, [1.0, 0.0, 0.5, 1.0])
    expected = walk(table, X, denoise=Statement(texts, 6.0, SHARES, methods))
    denoise = denoiser(
        network,
        [{"crossattn": text[None].astype("float32")} for text in texts],
        np.float32(6.0),
        SHARES[: len(texts) - 1].astype("float32"),
        as_tensors(methods),
    )
    x = ops.convert_to_tensor(X.astype("float32"))
    carry = loop.start(x, empty_memory(methods, x))
    noise = np.zeros((1, *SHAPE), "float32")
    half = loop.run(denoise, carry, table.rows, noise, 0, 2)
    carry = loop.run(denoise, half, table.rows, noise, 2, 4)
    found = ops.convert_to_numpy(carry.x)
    assert relative_error(found, expected) < 1e-4
    plain = walk(table, X, denoise=Statement(texts, 6.0, SHARES, {}))
    assert relative_error(plain, expected) > 0.05, "nothing to see"


@pytest.mark.parametrize(
    "methods", [{}, {"apg": APG, "thresholding": THRESHOLDING, "rescale": 0.7}]
)
def test_what_is_off_is_not_computed(methods):
    """Nor is what has no unconditional branch to work on."""
    calls = []

    def watched(inputs, **options):
        calls.append((sorted(inputs), inputs["latents"].shape[0], options))
        return network(inputs)

    row = ops.convert_to_tensor(make_table(ScheduleConfig(), "euler", 4).rows[1])
    branch = {"crossattn": CAT[None].astype("float32")}
    x = ops.array(X.astype("float32"))
    found = denoiser(watched, [branch], methods=methods)(x, row)
    assert calls == [(["crossattn", "latents", "timestep"], 2, {})]
    expected = denoiser(network, [branch])(x, row)
    assert (ops.convert_to_numpy(found) == ops.convert_to_numpy(expected)).all()


def test_calls_of_the_network():
    """PAG joins the one call, SAG makes a second; FreeU's factors go to both."""
    calls = []

    def watched(inputs, watch=False):
        calls.append((inputs["latents"].shape[0], watch, inputs["freeu"] is freeu))
        if "perturbed" in inputs:
            flags = ops.convert_to_numpy(inputs["perturbed"])
            assert flags.tolist() == [False, False, True] * 2
        return network(inputs, watch)

    freeu = ops.convert_to_tensor(np.float32([1.5, 1.6, 0.9, 0.2]))
    row = ops.convert_to_tensor(make_table(ScheduleConfig(), "euler", 4).rows[1])
    branches = [{"crossattn": text[None].astype("float32")} for text in (NONE, CAT)]
    x = ops.array(X.astype("float32"))
    methods = {**as_tensors({"pag": 3.0, "sag": 0.7}), "freeu": freeu}
    denoiser(watched, branches, np.float32(3), methods=methods)(x, row)
    assert calls == [(6, True, True), (2, False, True)]


# One column of one channel, by the extension itself.
GOLDEN_THRESHOLDING = {
    1.0: [-1.400554, -1.645013, -1.022082],
    0.9: [-1.613716, -2.027149, -0.97364],
    0.55: [-2.019513, -2.75462, -0.88142],
}


def targets():
    random = np.random.default_rng(5)
    mimicked, guided = random.normal(size=(2, 2, 3, 4, 2)).astype("float32")
    return mimicked, (4.0 * guided + 1.0).astype("float32")


@pytest.mark.parametrize("percentile", [1.0, 0.9, 0.55])
def test_thresholding_as_the_extension(percentile):
    """Of sd-dynamic-thresholding's `dynthres_core.py`, its default modes."""
    mimicked, guided = targets()
    tensors = ops.array(guided), ops.array(mimicked)
    found = ops.convert_to_numpy(thresholded(*tensors, np.float32(percentile)))
    assert found[1, :, 0, 1] == pytest.approx(GOLDEN_THRESHOLDING[percentile], abs=1e-5)


def test_a_blur_of_latents_smaller_than_its_kernel():
    x = np.random.default_rng(1).normal(size=(1, 3, 6, 2)).astype("float32")
    expected = gaussian(x[0].astype("float64"))
    assert ops.convert_to_numpy(blurred(ops.array(x)))[0] == pytest.approx(
        expected, abs=1e-5
    )
