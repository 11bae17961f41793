"""The transformers of the U-Net: attention to the context."""

from __future__ import annotations

from keras import ops

from kerasdiffusion.compute import backend, kernels, operations
from kerasdiffusion.compute.repeats import Repeated
from kerasdiffusion.models.layers import (
    Attention,
    Block,
    Conv,
    Dense,
    GroupNorm,
    LayerNorm,
    flatten_pixels,
)
from kerasdiffusion.models.token_merging import matching
from kerasdiffusion.presets.config import DiffusionModelConfig

EPSILON = 1e-6
#: Numbers that a perceptron has on its way at once, where it goes in pieces.
PIECE = 2**22


class Transformer(Repeated, Block):
    """Pixels as tokens through transformer blocks, with a residual around all.

    Reference:
        CompVis `ldm/modules/attention.py`, `SpatialTransformer`.
    """

    def __init__(
        self,
        config: DiffusionModelConfig,
        level: int,
        depth: int,
        in_middle: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        width, self.linear = config.block_widths[level], config.linear_projection
        self.norm = GroupNorm(config.norm_groups, EPSILON, name="norm", dtype=dtype)
        if self.linear:
            self.proj_in = Dense(width, name="proj_in", dtype=dtype)
            self.proj_out = Dense(
                width,
                kernel_initializer=backend.initializer("zeros"),
                name="proj_out",
                dtype=dtype,
            )
        else:
            self.proj_in = Conv(width, 1, name="proj_in", dtype=dtype)
            self.proj_out = Conv(width, 1, zero=True, name="proj_out", dtype=dtype)
        self.transformer_blocks = [
            TransformerBlock(
                width,
                config.heads[level],
                config.is_cross_only(level) and not in_middle,
                name=f"transformer_blocks-{i}",
                dtype=dtype,
            )
            for i in range(depth)
        ]

    def call(self, x, context):
        h = flatten_pixels(self.proj_in(self.norm(x)))
        for block in self.transformer_blocks:
            h = block(h, context)
        return x + self.proj_out(ops.reshape(h, ops.shape(x)))


class TransformerBlock(Repeated, Block):
    """Attention to each other, attention to the context, a gated perceptron.

    With `cross_only`, the first attention is to the context too.
    """

    def __init__(self, width: int, heads: int, cross_only: bool = False, **kwargs):
        super().__init__(**kwargs)
        dtype, self.cross_only = self.dtype_policy, cross_only
        self.norm1 = LayerNorm(name="norm1", dtype=dtype)
        self.attn1 = Attention(width, heads, name="attn1", dtype=dtype)
        self.norm2 = LayerNorm(name="norm2", dtype=dtype)
        self.attn2 = Attention(width, heads, name="attn2", dtype=dtype)
        self.norm3 = LayerNorm(name="norm3", dtype=dtype)
        self.ff = GatedPerceptron(width, name="ff", dtype=dtype)

    def call(self, x, context):
        if self.cross_only:
            x = x + self.attn1(self.norm1(x), context)
        else:
            merge, unmerge = matching(x)
            x = x + unmerge(self.attn1(merge(self.norm1(x))))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class GatedPerceptron(Block):
    """A perceptron whose hidden units are gated by GELU (GEGLU).

    Reference:
        Shazeer 2020, "GLU Variants Improve Transformer", section 2.
    """

    def __init__(self, width: int, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.hidden = Dense(8 * width, name="net-0-proj", dtype=dtype)
        self.out = Dense(width, name="net-2", dtype=dtype)

    def call(self, x):
        # As many rows as are as large as the kernel, which each piece goes through.
        most = max(x.shape[-1], PIECE // self.hidden.units)
        return kernels.in_rows(self._call, x, x.shape[-1], most)

    def _call(self, x):
        return self.out(operations.gated_gelu(self.hidden(x)))
