"""T2I-Adapter: features of a picture to follow, made once and added to the U-Net's."""

from __future__ import annotations

import keras
from keras import ops

from kerasdiffusion.models.layers import Block, Conv, Network
from kerasdiffusion.presets.config import T2IAdapterConfig


class T2IAdapter(Network):
    """A picture to follow in, features for each level of the U-Net out.

    Args:
        config: A `T2IAdapterConfig`; that for SD 1 by default.
        dtype: A dtype or dtype policy; the global policy by default.
        name: Name of the model.

    Call arguments:
        inputs: A dict of `"picture"`, of shape `(batch, height, width,
            picture_channels)` in pixels, from 0 to 1; both sides are multiples of the
            configuration's `downsampling`. Other keys count nothing.

    Call returns:
        A dict of `"features"`, a tensor for each level, for the U-Net's `"control"`.

    Example:

    >>> adapter = T2IAdapter(T2IAdapterConfig(block_widths=(32, 64)))
    >>> features = adapter({"picture": np.zeros((1, 64, 64, 3), "float32")})
    >>> [each.shape for each in features["features"]]
    [(1, 8, 8, 32), (1, 4, 4, 64)]

    Reference:
        Mou et al. 2023, "T2I-Adapter: Learning Adapters to Dig out More Controllable
        Ability for Text-to-Image Diffusion Models", figure 3; TencentARC/T2I-Adapter
        `ldm/modules/encoders/adapter.py`.
    """

    def __init__(
        self,
        config: T2IAdapterConfig = T2IAdapterConfig(),
        dtype=None,
        name=None,
    ):
        super().__init__(dtype=dtype, name=name or "t2i_adapter", autocast=False)
        self.config = config
        dtype, self.conv_in = self.dtype_policy, None
        if config.kind != "light_adapter":
            width = config.block_widths[0]
            self.conv_in = Conv(width, name="adapter-conv_in", dtype=dtype)
        level = LightLevel if config.kind == "light_adapter" else Level
        self.body = [
            level(config, i, name=f"adapter-body-{i}", dtype=dtype)
            for i in range(len(config.block_widths))
        ]
        size = config.downsampling * 2 ** len(config.block_widths)
        shape = (1, size, size, config.picture_channels)
        self({"picture": keras.KerasTensor(shape)})

    def call(self, inputs):
        return self.residuals(inputs, self.look(inputs["picture"]))

    def look(self, picture):
        """The features of a picture, the same at every step."""
        x = ops.cast(picture, self.compute_dtype)
        x = _unshuffle(x, self.config.downsampling)
        if self.conv_in is not None:
            x = self.conv_in(x)
        features = []
        for level in self.body:
            x = level(x)
            features.append(x)
        return features

    def residuals(self, inputs, seen):
        """What the U-Net's levels get: what `look` gave, whatever the step."""
        return {"features": list(seen)}


class Level(Block):
    """Half the size or the same, another width, and residual blocks."""

    def __init__(self, config: T2IAdapterConfig, level: int, **kwargs):
        super().__init__(**kwargs)
        dtype, widths = self.dtype_policy, config.block_widths
        self.halves, self.in_conv = config.halves(level), None
        if level and widths[level] != widths[level - 1]:
            self.in_conv = Conv(widths[level], 1, name="in_conv", dtype=dtype)
        self.resnets = [
            AdapterBlock(widths[level], 1, name=f"resnets-{i}", dtype=dtype)
            for i in range(config.blocks_per_level)
        ]

    def call(self, x):
        x = _halve(x) if self.halves else x
        x = x if self.in_conv is None else self.in_conv(x)
        for block in self.resnets:
            x = block(x)
        return x


class LightLevel(Block):
    """The same in a quarter of the width, and back to it."""

    def __init__(self, config: T2IAdapterConfig, level: int, **kwargs):
        super().__init__(**kwargs)
        dtype, width = self.dtype_policy, config.block_widths[level]
        self.halves = config.halves(level)
        self.in_conv = Conv(width // 4, 1, name="in_conv", dtype=dtype)
        self.resnets = [
            AdapterBlock(width // 4, 3, name=f"resnets-{i}", dtype=dtype)
            for i in range(config.blocks_per_level)
        ]
        self.out_conv = Conv(width, 1, name="out_conv", dtype=dtype)

    def call(self, x):
        x = self.in_conv(_halve(x) if self.halves else x)
        for block in self.resnets:
            x = block(x)
        return self.out_conv(x)


class AdapterBlock(Block):
    """Two convolutions around a ReLU, beside a shortcut; the second's side is `size`.

    Reference:
        Mou et al. 2023, section 3.3.
    """

    def __init__(self, width: int, size: int, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.block1 = Conv(width, name="block1", dtype=dtype)
        self.block2 = Conv(width, size, name="block2", dtype=dtype)

    def call(self, x):
        return x + self.block2(ops.relu(self.block1(x)))


def _unshuffle(x, factor: int):
    """Squares of pixels as channels, in PyTorch's order: channel, row, column."""
    batch, height, width, channels = x.shape
    shape = (batch, height // factor, factor, width // factor, factor, channels)
    x = ops.transpose(ops.reshape(x, shape), (0, 1, 3, 5, 2, 4))
    return ops.reshape(x, (*x.shape[:3], channels * factor**2))


def _halve(x):
    """The mean of each square of four; at an odd edge, of what there is."""
    return ops.average_pool(x, 2, strides=2, padding="same")
