"""Run by `test_backend` with eight devices, all one CPU: a batch spread over them."""

import keras
import numpy as np

from tests.tiny import TEXTS, tiny_model


def paint():
    model = tiny_model()
    painted = model.text_to_image(
        TEXTS[0], batch_size=8, seed=3, num_steps=2, progress_bar=False
    )
    latents = np.zeros((8, *model.latent_shape), "float32")
    return painted, model.program("decode")(latents).sharding


alone, sharding = paint()
assert len(sharding.device_set) == 1
keras.distribution.set_distribution(keras.distribution.DataParallel())
together, sharding = paint()
assert len(sharding.device_set) == 8 and not sharding.is_fully_replicated
assert alone.std() > 20
assert np.abs(alone.astype(int) - together).max() <= 1
print("the same")
