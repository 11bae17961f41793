import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.training.muon import Muon

pytestmark = pytest.mark.every_backend


def stepped(shape, optimizer, name="kernel"):
    """How far one step on a random gradient moves a variable of zeros."""
    variable = keras.Variable(np.zeros(shape, "float32"), name=name)
    gradient = np.random.default_rng(0).normal(size=shape).astype("float32")
    optimizer.build([variable])
    optimizer.apply([ops.convert_to_tensor(gradient)], [variable])
    return ops.convert_to_numpy(variable), gradient


def test_a_convolution_moves_as_the_matrix_of_its_patches():
    kernel, gradient = stepped((3, 3, 4, 8), Muon(0.1, weight_decay=None))
    matrix = keras.Variable(np.zeros((36, 8), "float32"))
    optimizer = keras.optimizers.Muon(0.1, weight_decay=None)
    optimizer.build([matrix])
    optimizer.apply([ops.convert_to_tensor(gradient.reshape(36, 8))], [matrix])
    expected = ops.convert_to_numpy(matrix).reshape(3, 3, 4, 8)
    assert kernel == pytest.approx(expected, abs=1e-6)


def test_a_step_is_nearly_orthogonal_and_of_adams_size():
    kernel, _ = stepped((3, 3, 4, 8), Muon(0.1, weight_decay=None))
    values = np.linalg.svd(kernel.reshape(36, 8), compute_uv=False)
    # Newton-Schulz leaves the singular values between 0.7 and 1.2.
    assert values / (0.1 * 0.2 * np.sqrt(36)) == pytest.approx(1.0, abs=0.35)
    assert np.sqrt(np.mean(kernel**2)) == pytest.approx(0.1 * 0.2, rel=0.3)


@pytest.mark.parametrize("shape, name", [((3, 3, 4, 8), "conv_in"), ((8,), "bias")])
def test_what_is_excluded_and_what_is_no_matrix_goes_by_adamw(shape, name):
    optimizer = Muon(0.1, exclude_layers=["conv_in"], adam_weight_decay=None)
    moved, gradient = stepped(shape, optimizer, name)
    assert moved == pytest.approx(-0.1 * np.sign(gradient), abs=1e-3)


@pytest.mark.parametrize("shape", [(16, 16), (9, 32), (144, 16), (16, 64)])
def test_a_long_matrix_is_made_orthogonal_as_keras_does_it(shape):
    # Gradients have some large directions and many small ones.
    random = np.random.default_rng(0)
    left, _ = np.linalg.qr(random.normal(size=(shape[0], min(shape))))
    right, _ = np.linalg.qr(random.normal(size=(shape[1], min(shape))))
    values = np.geomspace(1.0, 1e-3, min(shape))
    matrix = ops.convert_to_tensor(((left * values) @ right.T).astype("float32"))
    ours, theirs = (
        ops.convert_to_numpy(made(0.1).zeropower_via_newtonschulz5(matrix, 5))
        for made in (Muon, keras.optimizers.Muon)
    )
    # Five steps whose slope is 3.4 at small values: a rounding grows 500 times.
    assert ours == pytest.approx(theirs, abs=1e-3)


def test_variables_of_one_shape_move_as_each_would_alone():
    random = np.random.default_rng(0)
    shapes = [(3, 3, 4, 8), (36, 8), (3, 3, 4, 8), (8,), (8, 36)]
    gradients = [random.normal(size=shape).astype("float32") for shape in shapes]

    def moved(numbers):
        optimizer = Muon(0.1, weight_decay=None)
        each = [keras.Variable(np.zeros(shapes[i], "float32")) for i in numbers]
        optimizer.build(each)
        for _ in range(2):  # the second step has a momentum
            optimizer.apply(
                [ops.convert_to_tensor(gradients[i]) for i in numbers], each
            )
        return [ops.convert_to_numpy(variable) for variable in each]

    together = moved(range(len(shapes)))
    for i, variable in enumerate(together):
        assert variable == pytest.approx(moved([i])[0], abs=1e-5)
    assert not np.allclose(together[0], together[2])
