"""ControlNet: the U-Net's way down once more, which also sees a picture to follow."""

from __future__ import annotations

import keras
from keras import ops

from kerasdiffusion.compute import operations
from kerasdiffusion.models.diffusion_model import WayDown
from kerasdiffusion.models.layers import Block, Conv
from kerasdiffusion.presets.config import ControlNetConfig


class ControlNet(WayDown):
    """A picture to follow beside the U-Net's inputs in, residuals of its skips out.

    Args:
        config: A `ControlNetConfig`; that for SD 1 by default.
        dtype: A dtype or dtype policy; the global policy by default.
        name: Name of the model.

    Call arguments:
        inputs: A dict as `DiffusionModel` takes it, without `"concat"`, and beside it
            `"picture"`, of shape `(batch, height, width, picture_channels)` in pixels,
            from 0 to 1.

    Call returns:
        A dict of `"skips"`: a tensor for each skip of the U-Net and one for its
        middle, for its `"control"`.

    Example:

    >>> config = ControlNetConfig(
    ...     block_widths=(32, 64), transformer_depths=(1, 0), heads=(2, 2),
    ...     context_width=16, picture_widths=(8, 8, 8, 8))
    >>> residuals = ControlNet(config)({
    ...     "latents": np.zeros((1, 8, 8, 4), "float32"),
    ...     "timestep": np.zeros((1,), "float32"),
    ...     "crossattn": np.zeros((1, 77, 16), "float32"),
    ...     "picture": np.zeros((1, 64, 64, 3), "float32")})
    >>> residuals["skips"][-1].shape
    (1, 4, 4, 64)

    Reference:
        Zhang et al. 2023, "Adding Conditional Control to Text-to-Image Diffusion
        Models", figure 3; lllyasviel/ControlNet `cldm/cldm.py`.
    """

    def __init__(
        self,
        config: ControlNetConfig = ControlNetConfig(),
        dtype=None,
        name=None,
    ):
        super().__init__(config, dtype, name or "controlnet")
        dtype, widths = self.dtype_policy, config.skip_widths
        self.controlnet_cond_embedding = PictureEmbedding(
            config, name="controlnet_cond_embedding", dtype=dtype
        )
        self.controlnet_down_blocks = [
            Conv(width, 1, zero=True, name=f"controlnet_down_blocks-{i}", dtype=dtype)
            for i, width in enumerate(widths)
        ]
        self.controlnet_mid_block = Conv(
            widths[-1], 1, zero=True, name="controlnet_mid_block", dtype=dtype
        )
        shapes = self.input_shapes()
        size = shapes["latents"][0] * config.downsampling
        shapes["picture"] = (size, size, config.picture_channels)
        self({key: keras.KerasTensor((1, *shape)) for key, shape in shapes.items()})

    def call(self, inputs):
        return self.residuals(inputs, self.look(inputs["picture"]))

    def look(self, picture):
        """What is seen of a picture; it need not be done at every step."""
        if self.config.bgr:
            picture = ops.flip(picture, axis=-1)
        return self.controlnet_cond_embedding(ops.cast(picture, self.compute_dtype))

    def residuals(self, inputs, seen):
        """What the U-Net's skips and its middle get, from what `look` gave."""
        context = ops.cast(inputs["crossattn"], self.compute_dtype)
        time = self.embed_time(inputs)
        x = self.conv_in(ops.cast(inputs["latents"], self.compute_dtype))
        middle, skips = self.go_down(x + seen, time, context)
        zero_convolutions = [*self.controlnet_down_blocks, self.controlnet_mid_block]
        pairs = zip(zero_convolutions, [*skips, middle], strict=True)
        residuals = [convolve(x) for convolve, x in pairs]
        if self.config.pooled:
            residuals = [ops.mean(x, axis=(1, 2), keepdims=True) for x in residuals]
        return {"skips": residuals}


class PictureEmbedding(Block):
    """A picture brought to the size and width of what the U-Net's first layer gives.

    Reference:
        Zhang et al. 2023, section 3.3 and equation 4.
    """

    def __init__(self, config: ControlNetConfig, **kwargs):
        super().__init__(**kwargs)
        dtype, widths = self.dtype_policy, config.picture_widths
        self.conv_in = Conv(widths[0], name="conv_in", dtype=dtype)
        self.blocks, pairs = [], zip(widths, widths[1:], strict=False)
        for i, (width, wider) in enumerate(pairs):
            self.blocks += [
                Conv(width, name=f"blocks-{2 * i}", dtype=dtype),
                Conv(
                    wider,
                    strides=2,
                    padding="valid",
                    name=f"blocks-{2 * i + 1}",
                    dtype=dtype,
                ),
            ]
        self.conv_out = Conv(
            config.block_widths[0], zero=True, name="conv_out", dtype=dtype
        )

    def call(self, picture):
        x = operations.silu(self.conv_in(picture))
        for convolve in self.blocks:
            if convolve.strides != (1, 1):  # PyTorch pads on both sides, not on one
                x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            x = operations.silu(convolve(x))
        return self.conv_out(x)
