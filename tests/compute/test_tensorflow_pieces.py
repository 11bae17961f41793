"""What is made in pieces, against what is made at once."""

import keras
import numpy as np
import pytest

from kerasdiffusion.compute import backend, tensorflow_cpu, tensorflow_pieces
from kerasdiffusion.models.layers import Upsample

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="these are TensorFlow's pieces"
)
RANDOM = np.random.default_rng(0)


@pytest.fixture
def made(monkeypatch):
    """How many pieces each whole was made of."""
    counts, together = [], tensorflow_pieces.together

    def spy(make, x, count, *more):
        counts.append(count)
        return together(make, x, count, *more)

    monkeypatch.setattr(tensorflow_pieces, "together", spy)
    return counts


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
@pytest.mark.parametrize("count", [1, 3])
def test_each_piece_is_in_its_place(count, dtype):
    import tensorflow as tf

    @tf.function
    def whole(x):
        def make(i):
            return tf.cast(x, dtype) + tf.cast(i, dtype)

        return tensorflow_pieces.together(make, x, count, (2, 2), dtype)

    found = whole(tf.constant([[0, 10], [20, 30]]))
    assert found.dtype == dtype
    expected = [[[i, i + 10], [i + 20, i + 30]] for i in range(count)]
    np.testing.assert_array_equal(tf.cast(found, "int32"), expected)
    again = whole(tf.constant([[1, 1], [1, 1]]))  # of other memory
    np.testing.assert_array_equal(tf.cast(found, "int32"), expected)
    assert tf.cast(again, "int32")[0, 0, 1] == 1


@pytest.mark.parametrize("height, parts", [(6, 3), (7, 7), (1, 1)])
def test_large_images_are_measured_some_rows_at_a_time(
    height, parts, made, monkeypatch
):
    x = RANDOM.normal(3.0, size=(2, height, 5, 4)).astype("float32")
    for name in ("AT_ONCE", "MEASURED"):
        monkeypatch.setattr(tensorflow_cpu, name, 2 * 5 * 4)
    program = backend.Program(
        lambda x: tensorflow_cpu.moments([x[:1], x[1:]]), [], jit_compile=False
    )
    mean, variance = map(backend.to_numpy, program(x))
    np.testing.assert_allclose(mean, x.mean(axis=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(variance, x.var(axis=(1, 2)), atol=1e-5)
    assert made == ([parts] * 2 if parts > 1 else [])


@pytest.mark.parametrize("shape", [(1, 5, 4, 6), (2, 6, 3, 4)])
def test_a_large_image_is_doubled_some_rows_at_a_time(shape, made, monkeypatch):
    monkeypatch.setattr(tensorflow_cpu, "MIN_PIXELS", 0)
    layer, x = Upsample(5), RANDOM.normal(size=shape).astype("float32")
    program = backend.Program(layer, [layer], jit_compile=False)
    expected = backend.to_numpy(layer(x))  # not within a program
    np.testing.assert_allclose(program(x), expected, atol=1e-5)
    assert not made
    row = 4 * shape[2] * 5
    for most, parts in ((row - 1, shape[1]), (2 * row, -(-shape[1] // 2))):
        monkeypatch.setattr(tensorflow_cpu, "AT_ONCE", most)
        program = backend.Program(layer, [layer], jit_compile=False)
        np.testing.assert_allclose(program(x), expected, atol=1e-5)
        assert made == [shape[0] * parts]
        made.clear()


def test_there_is_room_for_pieces_when_they_can_be_made():
    """Else as a program begins there is for all that it makes: a gigabyte."""
    import tensorflow as tf

    @tf.function
    def whole(x):
        x = tf.identity(x, "input_is_there")
        return tensorflow_pieces.together(lambda _: x, x, 2, (3,), "float32")

    graph = whole.get_concrete_function(tf.TensorSpec((3,))).graph
    (loop,) = (each for each in graph.get_operations() if "While" in each.type)
    (room,) = (each.op for each in loop.inputs if each.op.type == "Empty")
    waited = [*room.control_inputs, *room.inputs[0].op.control_inputs]
    assert "input_is_there" in {each.name for each in waited}
