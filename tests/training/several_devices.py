"""Run by `test_several`: a LoRA is taught by several devices as by one.

On JAX by eight devices, all one CPU, or by two processes; on TensorFlow by two.
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np

from kerasdiffusion.training.finetuning.finetuner import Finetuner
from kerasdiffusion.training.finetuning.learned import LoRA
from tests.compute.test_remat import SMALL
from tests.tiny import tiny_model


def losses(remat=False, part=slice(None)):
    """Of two epochs of a batch of eight pictures, or a part, and who learned them."""
    trainer = Finetuner(tiny_model(config=SMALL), LoRA(rank=2), remat=remat)
    trainer.compile(keras.optimizers.SGD(1.0))
    random = np.random.default_rng(0)
    shape = (8, *trainer.base.model.latent_shape)
    data = {
        "latents": random.normal(size=shape).astype("float32"),
        "noise": random.normal(size=shape).astype("float32"),
        "timestep": np.arange(8, dtype="int32") * 100,
        "context": random.normal(size=(8, 12, 32)).astype("float32"),
    }
    data = {key: each[part] for key, each in data.items()}
    how = {"batch_size": len(data["latents"]), "shuffle": False, "verbose": 0}
    history = trainer.fit(data, epochs=2, **how)
    return np.array(history.history["loss"]), trainer


def check(one, several):
    assert one[0] != one[1]
    np.testing.assert_allclose(several, one, rtol=1e-5)


how = sys.argv[1]
if how == "mirrored":
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, parts)
    alone, _ = losses()
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(2)])
    with strategy.scope():
        check(alone, losses(remat=True)[0])
elif how == "devices":
    import jax

    assert jax.device_count() == 8
    alone, _ = losses()
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    found, trainer = losses()
    check(alone, found)
    assert len(trainer.trainable_variables[0].value.sharding.device_set) == 8
else:
    import jax

    rank = int(sys.argv[2])
    keras.distribution.initialize(sys.argv[3], 2, rank)
    assert jax.process_count() == 2 and jax.local_device_count() == 1
    spread = keras.distribution.DataParallel(auto_shard_dataset=False)
    keras.distribution.set_distribution(spread)
    found, _ = losses(part=slice(4 * rank, 4 * rank + 4))
    print(*found)
    sys.exit()
print("the same")
