"""KerasCV's image encoder: pictures in, latents out."""

from __future__ import annotations

import keras
from keras import ops

from kerasdiffusion.keras_cv import sources
from kerasdiffusion.keras_cv.parts import Part
from kerasdiffusion.models import autoencoder
from kerasdiffusion.models.layers import Block


class ImageEncoder(Part, autoencoder.ImageEncoder):
    """The autoencoder's first half by KerasCV's arguments.

    `keras.Model(encoder.input, encoder.layers[-2].output)` gives the mean and the
    logarithm of the variance, unscaled, side by side.

    Args:
        img_height: Of the pictures; the network takes any.
        img_width: The same.
        download_weights: Whether it begins with the published weights; KerasCV 0.9
            has it first.
        name: Name of the model.
        config: An `AutoencoderConfig`, in place of all these.
        dtype: A dtype or dtype policy; the global policy by default.

    Call arguments:
        images: Tensor of shape `(batch, height, width, 3)` in [-1, 1].

    Call returns:
        The mean times the scale factor, of shape `(batch, height / 8, width / 8, 4)`.
    """

    part = "image_encoder"

    def __init__(
        self,
        img_height: int | bool | None = None,
        img_width: int | None = None,
        download_weights: bool = True,
        name: str | None = None,
        *,
        config=None,
        dtype=None,
    ):
        if isinstance(img_height, bool):
            download_weights = img_height

        def usual():
            return sources.config(self.version).autoencoder

        make = super().__init__
        self._start(make, config, usual, dtype, name, download_weights)

    @property
    def layers(self) -> list:
        """The input, all that gives the moments, and what takes the mean of them."""
        found = self.__dict__.get("_in_order")
        if found is None:
            shape = (None, None, self.config.image_channels)
            images = keras.Input(shape, name="images", dtype=self.compute_dtype)
            moments, latents = Moments(self), ScaledMean(self.config)
            latents(moments(images))
            found = [images._keras_history.operation, moments, latents]
            # Not by name: Keras would take them for layers of the network.
            self.__dict__["_in_order"] = found
        return found

    @property
    def input(self):
        """The pictures, symbolic, of any size."""
        return self.layers[0].output

    @property
    def output(self):
        """The latents, symbolic."""
        return self.layers[-1].output


class Moments(Block):
    """Mean and logarithm of the variance, by the network's own layers."""

    def __init__(self, network):
        super().__init__(dtype=network.dtype_policy)
        self.encoder, self.quant_conv = network.encoder, network.quant_conv
        self.built = True

    def call(self, images):
        return self.quant_conv(self.encoder(images))


class ScaledMean(Block):
    """Latents of moments."""

    def __init__(self, config):
        super().__init__()
        self.scale_factor = config.scale_factor
        self.built = True

    def call(self, moments):
        return ops.split(moments, 2, -1)[0] * self.scale_factor
