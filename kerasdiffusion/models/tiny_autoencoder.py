"""TAESD: a tiny autoencoder of Stable Diffusion's latents."""

from __future__ import annotations

import keras
from keras import ops

from kerasdiffusion.models.layers import Block, Conv, Network
from kerasdiffusion.presets.config import TinyAutoencoderConfig


class TinyImageEncoder(Network):
    """Pictures in, scaled latents out.

    Args:
        config: A `TinyAutoencoderConfig`.
        dtype: A dtype or dtype policy; the global policy by default.
        name: Name of the model.

    Call arguments:
        images: Tensor of shape `(batch, height, width, 3)` in [-1, 1].

    Call returns:
        Latents of shape `(batch, height / 8, width / 8, 4)`.

    Example:

    >>> config = TinyAutoencoderConfig(width=8)
    >>> TinyImageEncoder(config)(np.zeros((1, 16, 16, 3), "float32")).shape
    (1, 2, 2, 4)

    Reference:
        https://github.com/madebyollin/taesd, `taesd.py`.
    """

    def __init__(
        self,
        config: TinyAutoencoderConfig = TinyAutoencoderConfig(),
        dtype=None,
        name=None,
    ):
        super().__init__(dtype=dtype, name=name or "image_encoder")
        self.config = config
        self.encoder = EncoderLayers(config, name="encoder", dtype=self.dtype_policy)
        size = config.downsampling
        self(keras.KerasTensor((1, size, size, config.image_channels)))

    def call(self, images):
        return self.encoder((images + 1.0) / 2.0) * self.config.scale_factor


class TinyDecoder(Network):
    """Scaled latents in, pictures out.

    Args:
        config: A `TinyAutoencoderConfig`.
        dtype: A dtype or dtype policy; the global policy by default.
        name: Name of the model.

    Call arguments:
        latents: Tensor of shape `(batch, height / 8, width / 8, 4)`.

    Call returns:
        Pictures of shape `(batch, height, width, 3)`, in [-1, 1] but for overshoot.

    Example:

    >>> config = TinyAutoencoderConfig(width=8)
    >>> TinyDecoder(config)(np.zeros((1, 2, 2, 4), "float32")).shape
    (1, 16, 16, 3)

    Reference:
        https://github.com/madebyollin/taesd, `taesd.py`.
    """

    def __init__(
        self,
        config: TinyAutoencoderConfig = TinyAutoencoderConfig(),
        dtype=None,
        name=None,
    ):
        super().__init__(dtype=dtype, name=name or "decoder")
        self.config = config
        self.decoder = DecoderLayers(config, name="decoder", dtype=self.dtype_policy)
        self(keras.KerasTensor((1, 1, 1, config.latent_channels)))

    def call(self, latents):
        latents = latents / self.config.scale_factor
        return self.decoder(3.0 * ops.tanh(latents / 3.0)) * 2.0 - 1.0


class EncoderLayers(Block):
    """Blocks from fine to coarse, a strided convolution ahead of each level."""

    def __init__(self, config: TinyAutoencoderConfig, **kwargs):
        super().__init__(**kwargs)
        self.steps = []

        def add(layer, *arguments, **options):
            options |= {"name": f"layers-{len(self.steps)}", "dtype": self.dtype_policy}
            self.steps.append(layer(*arguments, **options))

        halve = {"strides": 2, "padding": "valid", "use_bias": False}
        for level, blocks in enumerate(config.encoder_blocks):
            add(Conv, config.width, **(halve if level else {}))
            for _ in range(blocks):
                add(TinyBlock, config.width)
        add(Conv, config.latent_channels)

    def call(self, x):
        for layer in self.steps:
            if getattr(layer, "padding", "same") == "valid":
                x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            x = layer(x)
        return x


class DecoderLayers(Block):
    """Blocks from coarse to fine, a doubling of the size behind each level."""

    def __init__(self, config: TinyAutoencoderConfig, **kwargs):
        super().__init__(**kwargs)
        dtype, width = self.dtype_policy, config.width
        self.conv_in = Conv(width, name="layers-0", dtype=dtype)
        self.levels, number = [], 2  # layer 1 is the ReLU behind the first
        last = len(config.decoder_blocks) - 1
        for level, blocks in enumerate(config.decoder_blocks):
            row = [
                TinyBlock(width, name=f"layers-{number + i}", dtype=dtype)
                for i in range(blocks)
            ]
            number += blocks + (level < last)  # the doubling has a number too
            conv = Conv(
                width if level < last else config.image_channels,
                use_bias=level == last,
                name=f"layers-{number}",
                dtype=dtype,
            )
            self.levels.append([*row, conv])
            number += 1

    def call(self, x):
        x = ops.relu(self.conv_in(x))
        for level, (*blocks, conv) in enumerate(self.levels):
            for block in blocks:
                x = block(x)
            if level < len(self.levels) - 1:
                x = ops.repeat(ops.repeat(x, 2, axis=1), 2, axis=2)
            x = conv(x)
        return x


class TinyBlock(Block):
    """Three convolutions beside the identity, with ReLUs."""

    def __init__(self, width: int, **kwargs):
        super().__init__(**kwargs)
        self.convs = [
            Conv(width, name=f"conv-{i}", dtype=self.dtype_policy) for i in (0, 2, 4)
        ]

    def call(self, x):
        first, second, third = self.convs
        h = third(ops.relu(second(ops.relu(first(x)))))
        return ops.relu(x + h)
