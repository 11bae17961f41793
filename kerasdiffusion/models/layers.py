"""The layers that the networks share.

Names are diffusers', with "-" before an index (`to_out-0` for `to_out.0`), so that a
variable's path is its published name: see `weights/names.py`.
"""

from __future__ import annotations

import keras
from keras import ops

from kerasdiffusion.compute import backend, kernels, operations
from kerasdiffusion.compute.repeats import Repeated
from kerasdiffusion.models.eight_bit import EightBitKernel
from kerasdiffusion.models.keras_files import KerasFiles, register
from kerasdiffusion.models.quick_attributes import QuickAttributes
from kerasdiffusion.models.taps import tapped
from kerasdiffusion.models.tiles import current_whole, normalize


class Block(QuickAttributes, keras.layers.Layer):
    """A layer made of layers, which build themselves as `call` runs.

    Keras would trace `call` once for each level of nesting to build them: minutes
    for a U-Net. So `build` does nothing, and the first call builds the leaves.
    """

    def build(self, **shapes):
        pass

    def compute_output_spec(self, *args, **kwargs):
        # Of shapes alone, layer by layer: no backend has to trace a graph for it.
        return self.call(*args, **kwargs)


class Network(KerasFiles, Block, keras.Model):
    """A part of the whole, made from its `config` alone and built at once."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        register(cls)

    @staticmethod
    def check_config(config, kind: type) -> None:
        """Refuses what is no configuration of a kind: KerasCV's arguments, say."""
        if not isinstance(config, kind):
            raise TypeError(
                f"`config` must be a {kind.__name__}; KerasCV's arguments are those of "
                f"the networks in `kerasdiffusion.keras_cv`. Received: {config!r}"
            )


class Dense(QuickAttributes, EightBitKernel, keras.layers.Dense):
    """A dense layer that is left empty where weights are read next."""

    def __init__(self, units: int, **kwargs):
        kwargs.setdefault("kernel_initializer", backend.initializer())
        kwargs.setdefault("bias_initializer", backend.initializer("zeros"))
        super().__init__(units, **kwargs)

    def call(self, inputs, training=None):
        if self.is_small:
            x = kernels.small_product(inputs, self._kernel, self)
            if x is None:
                x = self.scaled(kernels.product, inputs, self._kernel)
        elif self.quantization_mode is not None:
            return super().call(inputs, training)
        else:
            x = kernels.frozen_product(inputs, self._kernel)
            if x is None:
                x = kernels.product(inputs, kernels.widened(self.kernel, inputs))
        return x if self.bias is None else ops.add(x, self.bias)


class Conv(QuickAttributes, EightBitKernel, keras.layers.Conv2D):
    """A square convolution of stride 1 that keeps height and width.

    Args:
        filters: Output channels.
        size: Side of the kernel.
        zero: Whether to begin at zero, as the last layer of a residual branch does.
    """

    def __init__(self, filters: int, size: int = 3, zero: bool = False, **kwargs):
        kwargs.setdefault("padding", "same")
        kernel = backend.initializer("zeros" if zero else "glorot_uniform")
        kwargs.setdefault("kernel_initializer", kernel)
        kwargs.setdefault("bias_initializer", backend.initializer("zeros"))
        super().__init__(filters, size, **kwargs)

    def convolution_op(self, inputs, kernel):
        """The convolution, before the bias."""
        if self.is_small:
            x = kernels.small_convolution(inputs, kernel, self)
            if x is not None:
                return x
            return self.scaled(self._convolved, inputs, kernel)
        x = kernels.frozen_convolution(inputs, self._kernel, self)
        if x is not None:
            return x
        return self._convolved(inputs, kernels.widened(kernel, inputs))

    def _convolved(self, inputs, kernel):
        plain = super().convolution_op
        if self.strides != (1, 1) or self.padding != "same":
            return plain(inputs, kernel)
        return kernels.convolution(inputs, kernel, plain, sparing=self.is_small)


class GroupNorm(QuickAttributes, keras.layers.Layer):
    """Group normalisation in float32, with an optional SiLU behind it.

    Args:
        groups: Number of groups that the channels fall into.
        epsilon: Added to the variance.
        silu: Whether to apply SiLU to the result.

    Reference:
        Wu and He 2018, "Group Normalization", equation 7.
    """

    def __init__(self, groups: int, epsilon: float, silu: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.groups, self.epsilon, self.silu = groups, epsilon, silu

    def build(self, input_shape):
        width = input_shape[-1]
        if width % self.groups:
            raise ValueError(
                f"The channels of a group normalisation must be a multiple of its "
                f"{self.groups} groups. Received: {width} channels"
            )
        self.gamma = self.add_weight(
            (width,), backend.initializer("ones"), name="gamma"
        )
        self.beta = self.add_weight((width,), backend.initializer("zeros"), name="beta")

    def compute_output_shape(self, input_shape):
        return input_shape

    def call(self, x):
        gamma, beta = (ops.cast(each, "float32") for each in (self.gamma, self.beta))
        how = gamma, beta, self.groups, self.epsilon
        whole = current_whole()
        if whole is None:
            x = operations.group_norm(x, *how, then_silu=self.silu)
        else:
            x = normalize(whole, ops.cast(x, "float32"), *how)
            x = operations.silu(x) if self.silu else x
        return ops.cast(x, self.compute_dtype)


class LayerNorm(QuickAttributes, keras.layers.LayerNormalization):
    """Layer normalisation over channels with PyTorch's epsilon."""

    def __init__(self, **kwargs):
        kwargs.setdefault("gamma_initializer", backend.initializer("ones"))
        kwargs.setdefault("beta_initializer", backend.initializer("zeros"))
        super().__init__(epsilon=1e-5, **kwargs)

    def call(self, x):
        return operations.layer_norm(x, self.gamma, self.beta, self.epsilon)


class Downsample(Block):
    """Halves height and width by a strided convolution.

    Args:
        filters: Output channels.
        padding: Zeros before and after each side: `(1, 1)` in the U-Net, `(0, 1)` in
            the autoencoder.
    """

    def __init__(self, filters: int, padding: tuple[int, int] = (1, 1), **kwargs):
        super().__init__(**kwargs)
        self.padding = padding
        self.conv = Conv(
            filters, strides=2, padding="valid", name="conv", dtype=self.dtype_policy
        )

    def call(self, x):
        return self.conv(ops.pad(x, ((0, 0), self.padding, self.padding, (0, 0))))


class Upsample(Block):
    """Doubles height and width by repetition, then convolves."""

    def __init__(self, filters: int, **kwargs):
        super().__init__(**kwargs)
        self.conv = Conv(filters, name="conv", dtype=self.dtype_policy)

    def call(self, x, like=None):
        """`like` is what the result is joined to: where its size is odd, ours is."""
        size = None if like is None else tuple(ops.shape(like)[1:3])
        return kernels.upsample(x, self.conv, size)


class ResidualBlock(QuickAttributes, Repeated, keras.layers.Layer):
    """Two convolutions around the time embedding, beside a shortcut.

    Args:
        filters: Output channels.
        groups: Groups of the normalisations.
        epsilon: Epsilon of the normalisations.
        time: Whether the block takes a time embedding (the U-Net's do).

    Reference:
        Ho et al. 2020, "Denoising Diffusion Probabilistic Models", appendix B;
        CompVis `ldm/modules/diffusionmodules/openaimodel.py`, `ResBlock`.
    """

    def __init__(self, filters, groups, epsilon, time=False, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.filters = filters
        self.norm1 = GroupNorm(groups, epsilon, silu=True, name="norm1", dtype=dtype)
        self.conv1 = Conv(filters, name="conv1", dtype=dtype)
        if time:
            self.time_emb_proj = Dense(filters, name="time_emb_proj", dtype=dtype)
        self.norm2 = GroupNorm(groups, epsilon, silu=True, name="norm2", dtype=dtype)
        self.conv2 = Conv(filters, zero=time, name="conv2", dtype=dtype)
        self.conv_shortcut = None

    def build(self, x_shape, time_shape=None):
        if x_shape[-1] != self.filters:
            self.conv_shortcut = Conv(
                self.filters, 1, name="conv_shortcut", dtype=self.dtype_policy
            )
            self.conv_shortcut.build(x_shape)
        hidden_shape = (*x_shape[:-1], self.filters)
        self.norm1.build(x_shape)
        self.conv1.build(x_shape)
        if time_shape is not None:
            self.time_emb_proj.build(time_shape)
        self.norm2.build(hidden_shape)
        self.conv2.build(hidden_shape)

    def compute_output_shape(self, x_shape, time_shape=None):
        return (*x_shape[:-1], self.filters)

    def call(self, x, time=None):
        h = _convolved(x, self.norm1, self.conv1)
        if time is not None:
            time = operations.silu(kernels.once_there(time, h))
            h = h + self.time_emb_proj(time)[:, None, None, :]
        h = _convolved(h, self.norm2, self.conv2)
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


def _convolved(x, norm: GroupNorm, conv: Conv):
    """An image normalised and then convolved."""
    found = None
    if current_whole() is None:
        found = kernels.normalized_convolution(x, norm, conv)
    return conv(norm(x)) if found is None else found


class Attention(Block):
    """Multi-head attention of tokens to a context, or to each other.

    Args:
        width: Channels of the tokens.
        heads: Number of heads.
        bias: Whether the query, key and value projections have a bias.
        causal: Whether a token sees only those up to itself.
        names: Names of the query, key, value and output projections.

    Reference:
        Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion
        Models", section 3.3.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        bias: bool = False,
        causal: bool = False,
        names: tuple[str, str, str, str] = ("to_q", "to_k", "to_v", "to_out-0"),
        **kwargs,
    ):
        super().__init__(**kwargs)
        if width % heads:
            raise ValueError(
                f"The width of an attention must be a multiple of its heads. "
                f"Received: width={width}, heads={heads}"
            )
        dtype = self.dtype_policy
        self.heads, self.head_width, self.causal = heads, width // heads, causal
        query, key, value, out = names
        self.query = Dense(width, use_bias=bias, name=query, dtype=dtype)
        self.key = Dense(width, use_bias=bias, name=key, dtype=dtype)
        self.value = Dense(width, use_bias=bias, name=value, dtype=dtype)
        self.out = Dense(width, name=out, dtype=dtype)

    def call(self, x, context=None, seen=None):
        to_itself = context is None
        context = x if to_itself else kernels.once_there(context, x)
        query = self._split(self.query(x))
        key, value = self._split(self.key(context)), self._split(self.value(context))
        h = operations.attention(query, key, value, self.causal, seen)
        if to_itself:
            h = tapped(self.path, query, key, value, h)
        return self.out(ops.reshape(h, ops.shape(x)[:-1] + (-1,)))

    def _split(self, x):
        """(batch, tokens, width) to (batch, tokens, heads, head width)."""
        return ops.reshape(x, ops.shape(x)[:-1] + (self.heads, self.head_width))


def flatten_pixels(x):
    """(batch, height, width, channels) to (batch, height * width, channels)."""
    return ops.reshape(x, (ops.shape(x)[0], -1, x.shape[-1]))
