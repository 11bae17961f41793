"""Run by `test_devices` with eight devices, all one CPU: batches and weights spread.

Weights that are shared spread batches too; by themselves: with `batches` as well.
"""

import sys

import keras
import numpy as np

from kerasdiffusion.compute.devices import sharded_weights
from tests.tiny import TEXTS, tiny_model


def paint():
    model = tiny_model()
    painted = model.text_to_image(
        TEXTS[0], batch_size=8, seed=3, num_steps=2, progress_bar=False
    )
    return painted.astype(int), model


def spread(model) -> bool:
    """Whether each of the eight devices has its part of a batch, and no more."""
    latents = np.zeros((8, *model.latent_shape), "float32")
    sharding = model.program("decode")(latents).sharding
    return len(sharding.device_set) == 8 and not sharding.is_fully_replicated


alone, model = paint()
assert alone.std() > 20
if "batches" in sys.argv:
    assert not spread(model)
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    together, model = paint()
    assert spread(model)
    assert np.abs(alone - together).max() <= 1

# Two groups of four, each with a copy of the weights and half of the batch.
keras.distribution.set_distribution(sharded_weights(4))
shared, model = paint()
assert spread(model)
assert np.abs(alone - shared).max() <= 1
for network in (model.text_encoder, model.diffusion_model, model.decoder):
    held = sum(
        shard.data.nbytes
        for variable in network.variables
        for shard in variable.value.addressable_shards
        if shard.device.id == 0
    )
    whole = sum(variable.value.nbytes for variable in network.variables)
    assert 0.25 * whole <= held < 0.3 * whole, (network.name, held / whole)
print("the same")
