"""KerasCV's layers that its Stable Diffusion guides use."""

from __future__ import annotations

import keras
from keras import ops
from keras.layers import CenterCrop

__all__ = ["Augmenter", "CenterCrop", "RandomCropAndResize", "RandomFlip"]


class RandomFlip(keras.layers.RandomFlip):
    """Keras's own, from left to right by default, as KerasCV's."""

    def __init__(self, mode: str = "horizontal", **kwargs):
        super().__init__(mode, **kwargs)


class Augmenter(keras.layers.Layer):
    """Layers one after another.

    Args:
        layers: A list of layers.
    """

    def __init__(self, layers, **kwargs):
        super().__init__(**kwargs)
        self.layers = list(layers)
        self.built = True

    def call(self, inputs, training=True):
        for layer in self.layers:
            inputs = layer(inputs, training=training)
        return inputs

    def compute_output_shape(self, input_shape):
        for layer in self.layers:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape


class RandomCropAndResize(keras.layers.Layer):
    """A part of each picture, at random, scaled to one size.

    Args:
        target_size: Height and width of the result.
        crop_area_factor: The least and the most share of the area, up to 1.
        aspect_ratio_factor: The least and the most ratio of width to height.
        interpolation: As of `keras.ops.image.resize`.
        seed: A whole number.

    Call arguments:
        images: Tensor of shape `(height, width, channels)` or with a batch before it.
            All pictures of a batch have the same part cut out.

    Call returns:
        A tensor of the target size.
    """

    def __init__(
        self,
        target_size: tuple[int, int],
        crop_area_factor: tuple[float, float] = (0.8, 1.0),
        aspect_ratio_factor: tuple[float, float] = (1.0, 1.0),
        interpolation: str = "bilinear",
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        low, high = crop_area_factor
        if not 0 < low <= high <= 1:
            raise ValueError(
                "`crop_area_factor` must be two rising shares over 0, up to 1. "
                f"Received: {crop_area_factor}"
            )
        self.target_size = tuple(target_size)
        self.crop_area_factor = tuple(crop_area_factor)
        self.aspect_ratio_factor = tuple(aspect_ratio_factor)
        self.interpolation = interpolation
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, images, training=True):
        images = ops.cast(images, self.compute_dtype)
        if training:
            images = self._crop(images)
        return ops.image.resize(images, self.target_size, self.interpolation)

    def _crop(self, images):
        """Scaled up to the picture's own size again."""
        area = self._draw(*self.crop_area_factor)
        ratio = self._draw(*self.aspect_ratio_factor)
        shares = ops.clip(ops.sqrt(ops.stack([area / ratio, area * ratio])), 0.0, 1.0)
        offsets = self._draw(0.0, 1.0, (2,)) * (1.0 - shares)
        height, width = (ops.cast(side, "float32") for side in ops.shape(images)[-3:-1])
        zero = ops.zeros(())
        transform = ops.stack(
            [
                *(shares[1], zero, offsets[1] * (width - 1.0)),
                *(zero, shares[0], offsets[0] * (height - 1.0)),
                *(zero, zero),
            ]
        )
        if len(images.shape) == 4:
            transform = ops.tile(transform[None], (ops.shape(images)[0], 1))
        return ops.image.affine_transform(images, transform, fill_mode="nearest")

    def _draw(self, low: float, high: float, shape=()):
        return keras.random.uniform(shape, low, high, seed=self.seed_generator)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-3], *self.target_size, input_shape[-1])
