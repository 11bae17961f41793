"""What the residual blocks of the U-Net are told beside the picture."""

from __future__ import annotations

import math

from keras import ops

from kerasdiffusion.compute import operations
from kerasdiffusion.models.layers import Block, Dense


def waves_of(numbers, width: int):
    """Cosines and then sines of numbers, float32 with `width` channels more."""
    half = width // 2
    exponents = ops.arange(half, dtype="float32") / half
    angles = ops.exp(-math.log(10000.0) * exponents)
    angles = ops.expand_dims(ops.cast(numbers, "float32"), -1) * angles
    return ops.concatenate([ops.cos(angles), ops.sin(angles)], axis=-1)


class TimeEmbedding(Block):
    """Sines and cosines of the timestep, through two dense layers.

    A guidance scale's, where the network has been distilled to take one, are added
    before the first.

    Reference:
        Ho et al. 2020, "Denoising Diffusion Probabilistic Models", appendix B; Meng
        et al. 2023, "On Distillation of Guided Diffusion Models", section 3.1.
    """

    def __init__(self, width: int, guidance_width: int = 0, **kwargs):
        super().__init__(autocast=False, **kwargs)
        dtype = self.dtype_policy
        self.width = width
        if guidance_width:
            self.cond_proj = Dense(width, use_bias=False, name="cond_proj", dtype=dtype)
        self.linear_1 = Dense(4 * width, name="linear_1", dtype=dtype)
        self.linear_2 = Dense(4 * width, name="linear_2", dtype=dtype)

    def call(self, timestep, guidance=None):
        waves = waves_of(timestep, self.width)
        if guidance is not None:
            waves = waves + ops.cast(self.cond_proj(guidance), "float32")
        return self.linear_2(operations.silu(self.linear_1(waves)))


class VectorEmbedding(Block):
    """The pooled text and size ids through two dense layers.

    Reference:
        Podell et al. 2023, "SDXL: Improving Latent Diffusion Models for
        High-Resolution Image Synthesis", section 2.2.
    """

    def __init__(self, width: int, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.linear_1 = Dense(width, name="linear_1", dtype=dtype)
        self.linear_2 = Dense(width, name="linear_2", dtype=dtype)

    def call(self, vector):
        return self.linear_2(operations.silu(self.linear_1(vector)))
