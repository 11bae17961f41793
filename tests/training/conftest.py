"""What tests of training share."""

import keras
import pytest


@pytest.fixture(scope="module", autouse=True)
def without_graph_optimizer():
    """TensorFlow's takes longer than the few steps here."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
