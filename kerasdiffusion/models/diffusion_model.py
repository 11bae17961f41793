"""The diffusion model: a U-Net with attention to the context."""

from __future__ import annotations

import contextlib
import itertools

import keras
from keras import ops

from kerasdiffusion.models.embeddings import TimeEmbedding, VectorEmbedding
from kerasdiffusion.models.layers import (
    Block,
    Conv,
    Downsample,
    GroupNorm,
    Network,
    ResidualBlock,
    Upsample,
)
from kerasdiffusion.models.taps import Tap, free_u, layer_name, tapping
from kerasdiffusion.models.token_merging import finest_attention, merging
from kerasdiffusion.models.transformer import Transformer
from kerasdiffusion.presets.config import DiffusionModelConfig

RESIDUAL_EPSILON = 1e-5


class WayDown(Network):
    """What a U-Net and its ControlNets have in common: all down to the middle.

    Args:
        config: A `DiffusionModelConfig`.
        dtype: A dtype or dtype policy; the global policy by default.
        name: Name of the model.
    """

    def __init__(self, config: DiffusionModelConfig, dtype=None, name=None):
        self.check_config(config, DiffusionModelConfig)
        # Not cast on the way in: bfloat16 cannot tell timestep 999 from 1000.
        super().__init__(dtype=dtype, name=name, autocast=False)
        self.config = config
        dtype, widths = self.dtype_policy, config.block_widths
        self.time_embedding = TimeEmbedding(
            widths[0], config.guidance_width, name="time_embedding", dtype=dtype
        )
        if config.vector_width:
            self.add_embedding = VectorEmbedding(
                4 * widths[0], name="add_embedding", dtype=dtype
            )
        if config.noise_levels:
            self.class_embedding = keras.layers.Embedding(
                config.noise_levels,
                4 * widths[0],
                name="class_embedding",
                dtype=dtype,
            )
        self.conv_in = Conv(widths[0], name="conv_in", dtype=dtype)
        self.down_blocks = [
            DownBlock(config, level, name=f"down_blocks-{level}", dtype=dtype)
            for level in range(len(widths))
        ]
        self.mid_block = None
        if config.mid_transformer_depth is not None:
            self.mid_block = MidBlock(config, name="mid_block", dtype=dtype)

    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of what the network takes at least, small and without the batch."""
        config, size = self.config, 2 ** len(self.config.block_widths)
        shapes = {
            "latents": (size, size, config.in_channels),
            "timestep": (),
            "crossattn": (2, config.context_width),
        }
        if config.vector_width:
            shapes["vector"] = (config.vector_width,)
        if config.guidance_width:
            shapes["guidance"] = (config.guidance_width,)
        if config.noise_levels:
            shapes["noise_level"] = ()
        return shapes

    def embed_time(self, inputs):
        """What every residual block sees: the timestep and all that is no picture."""
        guidance = inputs.get("guidance") if self.config.guidance_width else None
        time = self.time_embedding(inputs["timestep"], guidance)
        if self.config.vector_width:
            time = time + self.add_embedding(inputs["vector"])
        if self.config.noise_levels:
            level = ops.cast(inputs["noise_level"], "int32")
            time = time + self.class_embedding(level)
        return time

    def go_down(self, x, time, context, features=(), most=None):
        """What the middle gives, and the skips; `features` join at the levels' ends.

        With `most`, only so many skips, and what the last is.
        """
        skips = [x]
        for block, feature in itertools.zip_longest(
            self.down_blocks, features[: len(self.down_blocks)]
        ):
            if len(skips) == most:
                return x, skips
            left = None if most is None else most - len(skips)
            x, block_skips = block(x, time, context, feature, most=left)
            skips += block_skips
        if self.mid_block is not None:
            x = self.mid_block(x, time, context)
        for feature in features[len(self.down_blocks) :]:
            x = x + ops.cast(feature, x.dtype)
        return x, skips


class DiffusionModel(WayDown):
    """The U-Net: noisy latents, a timestep and a context in, a prediction out.

    Args:
        config: A `DiffusionModelConfig`; SD 1's by default.
        dtype: A dtype or dtype policy; the global policy by default.
        name: Name of the model.

    Call arguments:
        inputs: A dict of `"latents"`, a tensor of shape `(batch, height, width,
            in_channels)`; `"timestep"`, of shape `(batch,)`, from 0 to 999, fractions
            allowed; and `"crossattn"`, the context, of shape
            `(batch, tokens, context_width)`. And, where there are such:
            `"concat"`, of shape `(batch, height, width, channels)`, more channels
            behind the latents, which are then as many fewer; `"vector"`, the pooled
            text and the embedded size ids, of shape `(batch, vector_width)`;
            `"guidance"`, the embedded guidance scale, of shape
            `(batch, guidance_width)`; `"noise_level"`, whole numbers of shape
            `(batch,)`; `"control"`, what networks add that follow a picture: a dict of
            `"skips"`, a tensor for each skip and one for the middle, and `"features"`,
            one for the end of each level. Guidance may add `"freeu"`, the four factors
            `b1, b2, s1, s2`, and `"perturbed"`, which images have the identity for an
            attention map: bool, of shape `(batch,)`.
        perturbed_layers: In which layers they have it: diffusers' names of them, or of
            blocks that they are in.
        watch: Whether to give the middle block's self-attention too.
        branch: Number of the skip at which features are kept, from 0, the first
            convolution's: those that come from below to the layer which joins it.
        kept: Such features of an earlier call, in place of all that is below; then
            only the layers as far out as that skip run.
        merge_tokens: The share of the tokens that self-attention at the finest level
            which has any sees as one with others; see `token_merging`.

    Call returns:
        The prediction, a tensor of shape `(batch, height, width, out_channels)`. With
        `watch` also how much attention each position in the middle gets from all, of
        shape `(batch, middle height, middle width)`; with `branch` also the features.

    Example:

    >>> config = DiffusionModelConfig(
    ...     block_widths=(32, 64), transformer_depths=(1, 0), heads=(2, 2),
    ...     context_width=16)
    >>> DiffusionModel(config)({
    ...     "latents": np.zeros((1, 8, 8, 4), "float32"),
    ...     "timestep": np.zeros((1,), "float32"),
    ...     "crossattn": np.zeros((1, 77, 16), "float32")}).shape
    (1, 8, 8, 4)

    Reference:
        Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion
        Models", figure 3; CompVis `ldm/modules/diffusionmodules/openaimodel.py`.
    """

    def __init__(
        self,
        config: DiffusionModelConfig = DiffusionModelConfig(),
        dtype=None,
        name=None,
    ):
        super().__init__(config, dtype, name or "diffusion_model")
        dtype, levels = self.dtype_policy, range(len(config.block_widths))
        self.up_blocks = [
            UpBlock(config, level, name=f"up_blocks-{i}", dtype=dtype)
            for i, level in enumerate(reversed(levels))
        ]
        self.conv_norm_out = GroupNorm(
            config.norm_groups,
            RESIDUAL_EPSILON,
            silu=True,
            name="conv_norm_out",
            dtype=dtype,
        )
        self.conv_out = Conv(
            config.out_channels, zero=True, name="conv_out", dtype=dtype
        )
        shapes = self.input_shapes()
        self({key: keras.KerasTensor((1, *shape)) for key, shape in shapes.items()})

    def call(
        self,
        inputs,
        perturbed_layers=(),
        watch=False,
        branch=None,
        kept=None,
        merge_tokens=0.0,
    ):
        tap = Tap(
            inputs.get("perturbed"),
            perturbed_layers if "perturbed" in inputs else (),
            watched="mid" if watch else None,
        )
        with contextlib.ExitStack() as stack:
            if "perturbed" in inputs or watch:
                stack.enter_context(tapping(tap))
            if merge_tokens:
                level = finest_attention(self.config)
                sides = (-(-side // 2**level) for side in inputs["latents"].shape[1:3])
                stack.enter_context(merging(merge_tokens, *sides))
            prediction, middle, kept = self._predict(inputs, branch, kept)
        found = [prediction]
        if watch:
            found.append(ops.reshape(tap.attention, (-1, *middle.shape[1:3])))
        if branch is not None:
            found.append(kept)
        return found[0] if len(found) == 1 else tuple(found)

    def self_attentions(self) -> list[str]:
        """diffusers' names of the layers that `perturbed_layers` chooses from."""
        names = [layer_name(layer.path) for layer in self._flatten_layers()]
        return sorted(name for name in names if name.endswith(".attn1"))

    def _predict(self, inputs, branch=None, kept=None):
        """The prediction, what the middle block gives, and the features at `branch`."""
        context = ops.cast(inputs["crossattn"], self.compute_dtype)
        time = self.embed_time(inputs)
        x = ops.cast(inputs["latents"], self.compute_dtype)
        if "concat" in inputs:
            more = ops.cast(inputs["concat"], self.compute_dtype)
            x = ops.concatenate([x, more], axis=-1)
        control = inputs.get("control", {})
        features = control.get("features", ())
        most = None if kept is None else branch + 1
        x, skips = self.go_down(self.conv_in(x), time, context, features, most)
        if "skips" in control:
            *residuals, last = control["skips"]
            pairs = zip(skips, residuals[: len(skips)], strict=True)
            skips = [skip + ops.cast(each, skip.dtype) for skip, each in pairs]
            x = x + ops.cast(last, x.dtype) if kept is None else x
        middle, outer = x, 0 if branch is None else branch + 1
        freeu = inputs.get("freeu")
        if kept is None:
            kept = self._go_up(x, time, context, skips, freeu, outer)
        x = self._go_up(kept, time, context, skips[:outer], freeu)
        return self.conv_out(self.conv_norm_out(x)), middle, kept

    def _go_up(self, x, time, context, skips, freeu, outer=0):
        """Joins the skips to `x`, the last one first, but for `outer` of the first."""
        end = sum(len(block.resnets) for block in self.up_blocks)
        for i, block in enumerate(self.up_blocks):
            begin = end - len(block.resnets)
            last = max(begin, outer)
            if own := skips[last:end]:
                factors = freeu[i::2] if freeu is not None and i < 2 else None
                like, first = skips[begin - 1] if begin else None, end - last - len(own)
                x = block(x, time, context, own, like, factors, first=first)
            end = begin
        return x


class _Level(Block):
    """The residual blocks of one level, a transformer behind each where it has any."""

    def __init__(self, config, level, depths, **kwargs):
        super().__init__(**kwargs)
        dtype, width = self.dtype_policy, config.block_widths[level]
        self.resnets = [
            ResidualBlock(
                width,
                config.norm_groups,
                RESIDUAL_EPSILON,
                time=True,
                name=f"resnets-{i}",
                dtype=dtype,
            )
            for i in range(len(depths))
        ]
        self.attentions = [
            Transformer(config, level, depth, name=f"attentions-{i}", dtype=dtype)
            for i, depth in enumerate(depths)
            if depth
        ]

    def layer(self, i, x, time, context):
        """The `i`-th residual block and its transformer."""
        x = self.resnets[i](x, time)
        return self.attentions[i](x, context) if self.attentions else x


class DownBlock(_Level):
    """One level on the way down; every intermediate result is kept as a skip."""

    def __init__(self, config: DiffusionModelConfig, level: int, **kwargs):
        super().__init__(config, level, config.depths(level), **kwargs)
        self.downsamplers = []
        if level < len(config.block_widths) - 1:
            width, dtype = config.block_widths[level], self.dtype_policy
            self.downsamplers = [Downsample(width, name="downsamplers-0", dtype=dtype)]

    def call(self, x, time, context, feature=None, most=None):
        """`feature` joins what the transformers give or, without them, the result.

        With `most`, no more than so many skips.
        """
        skips = []
        for i in range(len(self.resnets[:most])):
            x = self.layer(i, x, time, context)
            skips.append(x)
        if most is not None and most < len(self.resnets):
            return x, skips
        if feature is not None and self.attentions:
            x = skips[-1] = x + ops.cast(feature, x.dtype)
        for downsample in self.downsamplers:
            if len(skips) == most:
                return x, skips
            x = downsample(x)
            skips.append(x)
        if feature is not None and not self.attentions:
            x = skips[-1] = x + ops.cast(feature, x.dtype)
        return x, skips


class MidBlock(Block):
    """The bottom: a residual block, a transformer, a residual block.

    Without transformer layers it is one residual block.
    """

    def __init__(self, config: DiffusionModelConfig, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.resnets = [
            ResidualBlock(
                config.block_widths[-1],
                config.norm_groups,
                RESIDUAL_EPSILON,
                time=True,
                name=f"resnets-{i}",
                dtype=dtype,
            )
            for i in range(2 if config.mid_transformer_depth else 1)
        ]
        self.attention = None
        if config.mid_transformer_depth:
            self.attention = Transformer(
                config,
                len(config.block_widths) - 1,
                config.mid_transformer_depth,
                in_middle=True,
                name="attentions-0",
                dtype=dtype,
            )

    def call(self, x, time, context):
        x = self.resnets[0](x, time)
        if self.attention is None:
            return x
        return self.resnets[1](self.attention(x, context), time)


class UpBlock(_Level):
    """One level on the way up; each residual block takes a skip beside its input."""

    def __init__(self, config: DiffusionModelConfig, level: int, **kwargs):
        super().__init__(config, level, config.up_depths(level), **kwargs)
        self.upsamplers = []
        if level > 0:
            width, dtype = config.block_widths[level], self.dtype_policy
            self.upsamplers = [Upsample(width, name="upsamplers-0", dtype=dtype)]

    def call(self, x, time, context, skips, next_skip=None, freeu=None, first=0):
        """`freeu` is a pair of factors, of the backbone and of the skips.

        The skips may be those of some layers, from the one of number `first` on.
        """
        for i, skip in enumerate(reversed(skips), first):
            if freeu is not None:
                x, skip = free_u(x, skip, freeu[0], freeu[1])
            x = ops.concatenate([x, skip], axis=-1)
            x = self.layer(i, x, time, context)
        if first + len(skips) < len(self.resnets):
            return x
        for upsample in self.upsamplers:
            x = upsample(x, like=next_skip)
        return x
