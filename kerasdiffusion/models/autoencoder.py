"""The KL autoencoder: pictures to latents and back."""

from __future__ import annotations

import functools

import keras
from keras import ops

from kerasdiffusion.models.layers import (
    Attention,
    Block,
    Conv,
    Downsample,
    GroupNorm,
    Network,
    ResidualBlock,
    Upsample,
    flatten_pixels,
)
from kerasdiffusion.presets.config import AutoencoderConfig

EPSILON = 1e-6


class ImageEncoder(Network):
    """Pictures in, scaled latents out.

    Args:
        config: An `AutoencoderConfig`; SD 1's by default.
        dtype: A dtype or dtype policy; the global policy by default.
        name: Name of the model.

    Call arguments:
        images: Tensor of shape `(batch, height, width, 3)` in [-1, 1].

    Call returns:
        The mean of the posterior times the scale factor, of shape
        `(batch, height / 8, width / 8, 4)`.

    Example:

    >>> config = AutoencoderConfig(block_widths=(32, 64))
    >>> ImageEncoder(config)(np.zeros((1, 16, 16, 3), "float32")).shape
    (1, 8, 8, 4)

    Reference:
        Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion
        Models", section 3.1; CompVis `ldm/modules/diffusionmodules/model.py`.
    """

    def __init__(
        self, config: AutoencoderConfig = AutoencoderConfig(), dtype=None, name=None
    ):
        self.check_config(config, AutoencoderConfig)
        super().__init__(dtype=dtype, name=name or "image_encoder")
        self.config = config
        dtype = self.dtype_policy
        self.encoder = EncoderNetwork(config, name="encoder", dtype=dtype)
        self.quant_conv = Conv(
            2 * config.latent_channels, 1, name="quant_conv", dtype=dtype
        )
        size = 2 * config.downsampling
        self(keras.KerasTensor((1, size, size, config.image_channels)))

    def call(self, images):
        return self._scaled(self.moments(images)[0])

    def _scaled(self, latents):
        if self.config.latents_mean:
            latents = latents - ops.cast(self.config.latents_mean, latents.dtype)
        if self.config.latents_std:
            latents = latents / ops.cast(self.config.latents_std, latents.dtype)
        return latents * self.config.scale_factor

    @property
    def stages(self) -> list:
        """What can be done in tiles, ahead of `coarse`: each halves both sides."""
        first, *others = self.encoder.down_blocks[:-1]
        return [lambda x: first(self.encoder.conv_in(x)), *others]

    def coarse(self, features):
        """The end, at the latents' size, from what the last of `stages` gives."""
        mean, _ = self._posterior(self.encoder.coarse(features))
        return self._scaled(mean)

    def moments(self, images):
        """Mean and logarithm of the variance of the posterior, both unscaled."""
        return self._posterior(self.encoder(images))

    def _posterior(self, features):
        mean, log_variance = ops.split(self.quant_conv(features), 2, -1)
        return mean, ops.clip(log_variance, -30.0, 20.0)


class Decoder(Network):
    """Scaled latents in, pictures out.

    Args:
        config: An `AutoencoderConfig`; SD 1's by default.
        dtype: A dtype or dtype policy; the global policy by default.
        name: Name of the model.

    Call arguments:
        latents: Tensor of shape `(batch, height / 8, width / 8, 4)`.

    Call returns:
        Pictures of shape `(batch, height, width, 3)`, in [-1, 1] but for overshoot.

    Example:

    >>> config = AutoencoderConfig(block_widths=(32, 64))
    >>> Decoder(config)(np.zeros((1, 8, 8, 4), "float32")).shape
    (1, 16, 16, 3)

    Reference:
        Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion
        Models", section 3.1; CompVis `ldm/modules/diffusionmodules/model.py`.
    """

    def __init__(
        self, config: AutoencoderConfig = AutoencoderConfig(), dtype=None, name=None
    ):
        self.check_config(config, AutoencoderConfig)
        super().__init__(dtype=dtype, name=name or "decoder")
        self.config = config
        dtype = self.dtype_policy
        self.post_quant_conv = Conv(
            config.latent_channels, 1, name="post_quant_conv", dtype=dtype
        )
        self.decoder = DecoderNetwork(config, name="decoder", dtype=dtype)
        self(keras.KerasTensor((1, 2, 2, config.latent_channels)))

    def call(self, latents):
        return self.decoder(self.post_quant_conv(self._unscaled(latents)))

    def _unscaled(self, latents):
        latents = latents / self.config.scale_factor
        if self.config.latents_std:
            latents = latents * ops.cast(self.config.latents_std, latents.dtype)
        if self.config.latents_mean:
            latents = latents + ops.cast(self.config.latents_mean, latents.dtype)
        return latents

    def coarse(self, latents):
        """The beginning, at the latents' size."""
        return self.decoder.coarse(self.post_quant_conv(self._unscaled(latents)))

    @property
    def stages(self) -> list:
        """What can be done in tiles, behind `coarse`: each doubles both sides."""
        return self.decoder.stages


class EncoderNetwork(Block):
    """Levels from fine to coarse, then the middle block."""

    def __init__(self, config: AutoencoderConfig, **kwargs):
        super().__init__(**kwargs)
        dtype, widths = self.dtype_policy, config.block_widths
        self.conv_in = Conv(widths[0], name="conv_in", dtype=dtype)
        self.down_blocks = []
        for i, width in enumerate(widths):
            last = i == len(widths) - 1
            down = Downsample(width, (0, 1), name="downsamplers-0", dtype=dtype)
            self.down_blocks.append(
                Level(
                    width,
                    config.blocks_per_level,
                    config.norm_groups,
                    [] if last else [down],
                    name=f"down_blocks-{i}",
                    dtype=dtype,
                )
            )
        self.mid_block = MidBlock(
            widths[-1], config.norm_groups, name="mid_block", dtype=dtype
        )
        self.conv_norm_out = GroupNorm(
            config.norm_groups, EPSILON, silu=True, name="conv_norm_out", dtype=dtype
        )
        self.conv_out = Conv(2 * config.latent_channels, name="conv_out", dtype=dtype)

    def call(self, x):
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(self.conv_norm_out(self.mid_block(x)))

    def coarse(self, x):
        """The last part of `call`, whose layers that has named and built."""
        x = self.mid_block(self.down_blocks[-1](x))
        return self.conv_out(self.conv_norm_out(x))


class DecoderNetwork(Block):
    """The middle block, then levels from coarse to fine."""

    def __init__(self, config: AutoencoderConfig, **kwargs):
        super().__init__(**kwargs)
        dtype, widths = self.dtype_policy, config.block_widths[::-1]
        self.conv_in = Conv(widths[0], name="conv_in", dtype=dtype)
        self.mid_block = MidBlock(
            widths[0], config.norm_groups, name="mid_block", dtype=dtype
        )
        self.up_blocks = []
        for i, width in enumerate(widths):
            last = i == len(widths) - 1
            up = Upsample(width, name="upsamplers-0", dtype=dtype)
            self.up_blocks.append(
                Level(
                    width,
                    config.blocks_per_level + 1,
                    config.norm_groups,
                    [] if last else [up],
                    name=f"up_blocks-{i}",
                    dtype=dtype,
                )
            )
        self.conv_norm_out = GroupNorm(
            config.norm_groups, EPSILON, silu=True, name="conv_norm_out", dtype=dtype
        )
        self.conv_out = Conv(config.image_channels, name="conv_out", dtype=dtype)

    def call(self, x):
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(self.conv_norm_out(x))

    def coarse(self, x):
        """The first part of `call`, whose layers that has named and built."""
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks[0].resnets:
            x = block(x)
        return x

    @property
    def stages(self) -> list:
        """The rest of it, from one change of size to the next."""

        def stage(x, before, block, is_last):
            for layer in [*before.resize, *block.resnets]:
                x = layer(x)
            return self.conv_out(self.conv_norm_out(x)) if is_last else x

        pairs = list(zip(self.up_blocks, self.up_blocks[1:], strict=False))
        return [
            functools.partial(
                stage, before=before, block=block, is_last=block is pairs[-1][1]
            )
            for before, block in pairs
        ]


class Level(Block):
    """The residual blocks of one level, then the change of size where it has one."""

    def __init__(self, width, residual_blocks, groups, resize, **kwargs):
        super().__init__(**kwargs)
        self.resnets = [
            ResidualBlock(
                width, groups, EPSILON, name=f"resnets-{i}", dtype=self.dtype_policy
            )
            for i in range(residual_blocks)
        ]
        self.resize = resize

    def call(self, x):
        for layer in [*self.resnets, *self.resize]:
            x = layer(x)
        return x


class MidBlock(Block):
    """The coarsest level: a residual block, attention, a residual block."""

    def __init__(self, width: int, groups: int, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.resnets = [
            ResidualBlock(width, groups, EPSILON, name=f"resnets-{i}", dtype=dtype)
            for i in range(2)
        ]
        self.attention = PixelAttention(width, groups, name="attentions-0", dtype=dtype)

    def call(self, x):
        return self.resnets[1](self.attention(self.resnets[0](x)))


class PixelAttention(Attention):
    """Attention of pixels to each other, one head, with norm and residual."""

    def __init__(self, width: int, groups: int, **kwargs):
        super().__init__(width, heads=1, bias=True, **kwargs)
        self.group_norm = GroupNorm(
            groups, EPSILON, name="group_norm", dtype=self.dtype_policy
        )

    def call(self, x):
        h = super().call(flatten_pixels(self.group_norm(x)))
        return x + ops.reshape(h, ops.shape(x))
