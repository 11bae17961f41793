"""A first training of the text encoder: `fit()` on latents and tokens."""

from __future__ import annotations

import math

import keras
from keras import ops

from kerasdiffusion.compute.devices import shared
from kerasdiffusion.models.text_encoder import TextEncoder
from kerasdiffusion.networks.quantization import check_learns
from kerasdiffusion.training.trainer import Trainer


class TextTrainer(Trainer):
    """A text encoder that learns what pictures look like, ahead of the U-Net.

    A perceptron says from the mean of the context what the latents are, at a small
    part of a U-Net's cost; it is thrown away afterwards. The U-Net then begins with a
    context that tells pictures apart. What that saves it was not measured. `fit()`
    takes what `DiffusionTrainer` takes.

    Args:
        text_encoder: A `TextEncoder`.
        latents_shape: Shape of a picture's latents, `(height, width, channels)`.
        width: Hidden units of the perceptron.

    Example:

    >>> config = TextEncoderConfig(width=32, depth=1, heads=2, mlp_width=64)
    >>> trainer = TextTrainer(TextEncoder(config), (4, 4, 8))
    >>> trainer.compile("adam")
    >>> data = {"latents": np.zeros((2, 4, 4, 8)), "tokens": np.zeros((2, 77), "int32")}
    >>> history = trainer.fit(data, verbose=0)
    """

    def __init__(
        self,
        text_encoder: TextEncoder,
        latents_shape: tuple[int, int, int],
        width: int = 1024,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_learns(text_encoder)
        self.text_encoder = text_encoder
        dtype = text_encoder.dtype_policy
        self.perceptron = keras.Sequential(
            [
                keras.Input((text_encoder.config.width,)),
                keras.layers.Dense(width, "gelu", dtype=dtype),
                keras.layers.Dense(math.prod(latents_shape), dtype=dtype),
                keras.layers.Reshape(latents_shape, dtype=dtype),
            ]
        )

    def call(self, inputs):
        context = self.text_encoder(inputs["tokens"])
        return self.perceptron(ops.mean(ops.cast(context, "float32"), axis=1))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **kwargs):
        error = ops.cast(y_pred, "float32") - ops.cast(x["latents"], "float32")
        return shared(ops.mean(ops.square(error)))
