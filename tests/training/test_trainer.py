"""What the trainers have in common: the first step."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.training.trainer import Trainer

DATA = {"x": np.ones((4, 2), "float32"), "batch_size": 2, "verbose": 0}


class Line(Trainer):
    """Counts how often it is called, which in a program is how often it is traced."""

    def __init__(self, built: bool):
        super().__init__()
        self.dense, self.calls = keras.layers.Dense(1), 0
        if built:
            self.dense.build((None, 2))

    def call(self, x):
        self.calls += 1
        return self.dense(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **kwargs):
        return ops.mean(ops.square(y_pred - 1.0))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow traces")
def test_the_first_step_is_traced_once():
    trainer = Line(built=True)
    trainer.compile("adam")
    trainer.fit(**DATA)
    assert trainer.calls == 1


@pytest.mark.every_backend
def test_a_layer_that_is_built_by_the_first_step_learns_too():
    trainer = Line(built=False)
    trainer.compile("adam")
    first = trainer.fit(**DATA).history["loss"]
    kernel = ops.convert_to_numpy(trainer.dense.kernel)
    second = trainer.fit(**DATA).history["loss"]
    assert (kernel != ops.convert_to_numpy(trainer.dense.kernel)).any()
    assert np.isfinite([*first, *second]).all()
