"""A file's values as variables take them."""

import warnings

import keras
import ml_dtypes
import numpy as np
import pytest

from kerasdiffusion.weights.arrays import arrange, warn_of_overflow

DTYPES = {
    "float16": np.dtype("float16"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype("float32"),
    "float64": np.dtype("float64"),
    "float8": np.dtype(ml_dtypes.float8_e4m3fn),
}
WIDE = 200  # output channels: more than are transposed at a time


def stored(*shape, dtype):
    numbers = np.random.default_rng(0).normal(size=shape)
    numbers.flat[:3] = 0.0, -0.0, 1e-7
    return numbers.astype(dtype)


@pytest.mark.parametrize("found", DTYPES)
@pytest.mark.parametrize("wanted", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize(
    "path, file, axes, shape",
    [
        ("conv/kernel", (WIDE, 5, 3, 3), (2, 3, 1, 0), (3, 3, 5, WIDE)),
        ("conv/kernel", (WIDE, 5, 1, 1), (2, 3, 1, 0), (1, 1, 5, WIDE)),
        ("dense/kernel", (WIDE, 5), (1, 0), (5, WIDE)),
        ("dense/kernel", (WIDE, 1), (1, 0), (1, WIDE)),
        ("embedding/embeddings", (WIDE, 5), (0, 1), (WIDE, 5)),
        ("norm/gamma", (WIDE,), (0,), (WIDE,)),
    ],
)
def test_values_are_transposed_and_cast_as_numpy_does(
    path, file, axes, shape, found, wanted
):
    values, dtype = stored(*file, dtype=DTYPES[found]), DTYPES[wanted]
    expected = values.transpose(axes).astype(dtype)
    variable = keras.Variable(np.zeros(shape, dtype), dtype=wanted)
    variable.assign(arrange(values, path, shape, dtype))
    values[...] = 1.0  # what came from a file that is closed is the variable's own
    result = keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32"))
    np.testing.assert_array_equal(result, expected.astype("float32"))


def test_kernels_in_keras_order_stay():
    values = stored(3, 3, 5, 7, dtype="float32")
    half = np.dtype("float16")
    result = np.asarray(arrange(values, "conv/kernel", values.shape, half, True))
    np.testing.assert_array_equal(result, values.astype(half))


@pytest.mark.parametrize("kind", ["float32", "float64", "bfloat16"])
def test_what_float16_does_not_hold_is_said(kind):
    half, single = np.dtype("float16"), np.dtype("float32")
    for value in (1e5, -1e5, np.inf, np.nan):
        values = np.array([1.0, value], np.dtype(kind))
        with pytest.warns(UserWarning, match="beyond float16.*Received: a/kernel"):
            warn_of_overflow(values, half, "a/kernel")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_overflow(values, single, "a/kernel")
        fitting = np.array([65000.0, -65000.0], np.dtype(kind))
        warn_of_overflow(fitting, half, "a/kernel")
        warn_of_overflow(np.zeros((0, 2), kind), half, "a/kernel")
