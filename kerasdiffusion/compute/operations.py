"""What the networks compute again and again, as each backend does it fastest.

The other one, `kernels.py`, has what goes through a layer's kernel. These two and
`backend.py` decide by the backend, and no other file does.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from kerasdiffusion.compute import (
    backend,
    openvino_programs,
    tensorflow_attention,
    tensorflow_attention_gradients,
    tensorflow_cpu,
    tensorflow_gradients,
    tpu,
)

#: The largest attention map that is made at once, and how large its pieces then are:
#: queries times keys times heads times the batch, 4 GiB and 256 MiB.
MAX_SCORES, PIECE = 2**30, 2**26


def attention(query, key, value, causal: bool = False, seen=None):
    """Scaled dot-product attention with a float32 softmax.

    Args:
        query: Tensor of shape `(batch, queries, heads, head_width)`.
        key: Tensor of shape `(batch, keys, heads, head_width)`.
        value: Tensor of the shape of `key`.
        causal: Whether a query sees only the keys up to its own position.
        seen: Which keys are seen at all, boolean of shape `(batch, keys)`; all by
            default.

    Returns:
        Tensor of the shape of `query`.

    Reference:
        Vaswani et al. 2017, "Attention Is All You Need", section 3.2.1.
    """
    dtype = keras.backend.standardize_dtype(query.dtype)
    if (
        dtype == "float16"
        and keras.backend.backend() == "jax"
        and not backend.has_accelerator()
    ):  # JAX has no product of float16 into float32 on CPUs
        query, key, value = (ops.cast(x, "float32") for x in (query, key, value))
    mask = None
    if seen is not None:
        mask = ops.cast(seen, "bool")[:, None, None, :]
        if causal:  # not every backend takes both
            before = np.tril(np.ones((query.shape[1], key.shape[1]), "bool"))
            mask, causal = ops.logical_and(mask, before), False

    # On PyTorch Keras may choose: see `_has_flash_attention`.
    flash = None if keras.backend.backend() == "torch" else False

    def attend(query, key=key, value=value):
        return ops.dot_product_attention(
            query, key, value, mask=mask, is_causal=causal, flash_attention=flash
        )

    if keras.backend.backend() == "torch" and getattr(query, "requires_grad", 0):
        attend = _with_fast_gradients(attend)
    if mask is not None or causal or isinstance(query, keras.KerasTensor):
        return ops.cast(attend(query), dtype)
    if tensorflow_gradients.takes(query) and tensorflow_gradients.takes(key):
        return tensorflow_attention_gradients.attention(query, key, value)
    out = _attention_by_kernel(query, key, value, attend)
    if out is None and keras.backend.backend() == "torch":  # which keeps no map
        out = attend(query)
    if out is not None:
        return ops.cast(out, dtype)
    most, piece = MAX_SCORES, PIECE
    if tensorflow_cpu.has_attention(query, key):
        if tensorflow_attention.takes(query, key):
            return tensorflow_attention.attention(query, key, value)
        most, piece = tensorflow_cpu.MAX_SCORES, tensorflow_cpu.PIECE
        attend = functools.partial(tensorflow_cpu.attention, key=key, value=value)
    elif backend.has_accelerator():
        attend = functools.partial(_attention_by_products, key=key, value=value)
    sizes = (*query.shape[:3], key.shape[1])
    scores = math.prod(n or 1 for n in sizes)  # a batch may be of any size
    pieces = 1
    if scores > most and query.shape[1]:
        while scores > piece * pieces and query.shape[1] % (2 * pieces) == 0:
            pieces *= 2
    return ops.cast(_in_pieces(attend, query, pieces), dtype)


def _in_pieces(attend: Callable, query, pieces: int):
    """Attention of some queries after the other: the map is never whole."""
    if pieces == 1:
        return attend(query)
    shape = ops.shape(query)
    split = ops.reshape(query, (shape[0], pieces, -1, *shape[2:]))
    split = ops.map(attend, ops.moveaxis(split, 1, 0))
    return ops.reshape(ops.moveaxis(split, 0, 1), shape)


def _attention_by_kernel(query, key, value, plain: Callable):
    """Attention that makes no map, where there is a kernel for it; else `None`."""
    if openvino_programs.is_tracing():
        return openvino_programs.attention(query, key, value)
    if keras.backend.backend() == "jax" and tpu.has_kernel(query, key):
        return tpu.attention(query, key, value, plain)
    if _has_flash_attention():
        # Keras says by these that there is no kernel for such tensors or such a GPU.
        with contextlib.suppress(ImportError, RuntimeError, ValueError):
            return ops.dot_product_attention(query, key, value, flash_attention=True)
    return None


def _has_flash_attention() -> bool:
    """Whether Keras may have a kernel for attention that is worth asking for.

    It has cuDNN's, for JAX on a GPU. Its kernel for TPUs (Keras 3.15.1) hides later
    keys from a query and does not scale, asked to or not; `tpu.attention` is ours.
    """
    if keras.backend.backend() != "jax":
        return False
    import jax

    return jax.default_backend() == "gpu"


def _with_fast_gradients(attend: Callable) -> Callable:
    """PyTorch's attention with a gradient that does not slow training down."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    # On CPUs, the fused gradient takes three times the products' time in bfloat16.
    return attend if torch.cuda.is_available() else sdpa_kernel(SDPBackend.MATH)(attend)


def _attention_by_products(query, key, value):
    """Attention whose map passes through a GPU's memory as seldom as XLA can do it.

    It is written as scores and as their exponentials, and read for the maxima, the
    exponentials and the products. The backends' own divide it ahead of the products,
    for which they read it once more.
    """
    query = query * ops.cast(1.0 / math.sqrt(query.shape[-1]), query.dtype)
    scores = _scores(query, key)
    most = ops.stop_gradient(ops.max(scores, axis=-1, keepdims=True))
    weights = ops.exp(scores - most)
    total = ops.moveaxis(ops.sum(weights, axis=-1), 1, 2)[..., None]
    weights = ops.cast(weights, value.dtype)
    return ops.divide(ops.einsum("bhqk,bkhc->bqhc", weights, value), total)


def _scores(query, key):
    """Products of queries and keys, float32 `(batch, heads, queries, keys)`."""
    indices = "bqhc,bkhc->bhqk"
    if keras.backend.backend() == "jax":
        from jax import numpy as jnp

        return jnp.einsum(indices, query, key, preferred_element_type="float32")
    scores = ops.cast(ops.einsum(indices, query, key), "float32")
    if keras.backend.standardize_dtype(query.dtype) != "float16":
        return scores
    most = float(np.finfo("float16").max)  # SD 2.1's are known to overflow
    return ops.clip(scores, -most, most)


def group_norm(x, gamma, beta, groups: int, epsilon: float, then_silu: bool = False):
    """Group normalisation over height, width and the channels of each group.

    Args:
        x: Tensor of shape `(batch, height, width, channels)`.
        gamma: Scale, float32 of shape `(channels,)`.
        beta: Shift, float32 of shape `(channels,)`.
        groups: Number of groups that the channels fall into.
        epsilon: Added to the variance.
        then_silu: Whether to apply SiLU to the result.

    Returns:
        Tensor of the shape of `x`, in its dtype or in float32.

    Reference:
        Wu and He 2018, "Group Normalization", equation 7.
    """
    if tensorflow_gradients.has_group_norm(x):
        return tensorflow_gradients.group_norm(
            x, gamma, beta, groups, epsilon, then_silu
        )
    x = _group_norm(x, gamma, beta, groups, epsilon)
    return silu(x) if then_silu else x


def _group_norm(x, gamma, beta, groups, epsilon):
    if tensorflow_cpu.has_group_norm(x):
        return tensorflow_cpu.group_norm(x, gamma, beta, groups, epsilon)
    x = ops.cast(x, "float32")
    if openvino_programs.is_tracing():
        return openvino_programs.group_norm(x, gamma, beta, groups, epsilon)
    if keras.backend.backend() == "torch":  # fused there; the composition is 3 x slower
        from torch.nn import functional

        x = functional.group_norm(ops.moveaxis(x, -1, 1), groups, gamma, beta, epsilon)
        return ops.moveaxis(x, 1, -1)
    width = x.shape[-1]

    def over_groups(per_channel):
        """Means of each group, repeated to (batch, 1, 1, channels)."""
        members = ops.reshape(per_channel, (-1, groups, width // groups))
        # Not `ops.repeat`, which is thirty operations on TensorFlow.
        mean = ops.mean(members, axis=-1, keepdims=True) * ops.ones_like(members)
        return ops.reshape(mean, (-1, 1, 1, width))

    # Both moments at once, which XLA takes as it writes `x`. In float32 that costs n^2
    # roundings of the variance where the mean is n deviations from zero.
    mean = over_groups(ops.mean(x, axis=(1, 2), keepdims=True))
    square = over_groups(ops.mean(ops.square(x), axis=(1, 2), keepdims=True))
    variance = ops.maximum(square - ops.square(mean), 0.0)
    scale = ops.rsqrt(variance + epsilon) * gamma
    return (x - mean) * scale + beta


def layer_norm(x, gamma, beta, epsilon: float):
    """Layer normalisation over the last axis, in float32.

    Args:
        x: Tensor of shape `(..., channels)`.
        gamma: Scale of shape `(channels,)`.
        beta: Shift of shape `(channels,)`.
        epsilon: Added to the variance.

    Returns:
        Tensor of the shape and dtype of `x`.

    Reference:
        Ba et al. 2016, "Layer Normalization", equation 4.
    """
    if tensorflow_gradients.takes(x):
        return tensorflow_gradients.layer_norm(x, gamma, beta, epsilon)
    dtype = x.dtype
    x, gamma, beta = (ops.cast(each, "float32") for each in (x, gamma, beta))
    if keras.backend.backend() == "torch":
        from torch.nn import functional

        x = functional.layer_norm(x, gamma.shape, gamma, beta, epsilon)
    elif openvino_programs.is_tracing():
        x = openvino_programs.layer_norm(x, gamma, beta, epsilon)
    else:
        mean = ops.mean(x, axis=-1, keepdims=True)
        square = ops.mean(ops.square(x), axis=-1, keepdims=True)
        variance = ops.maximum(square - ops.square(mean), 0.0)
        x = (x - mean) * (ops.rsqrt(variance + epsilon) * gamma) + beta
    return ops.cast(x, dtype)


def silu(x):
    """SiLU, the input times its sigmoid.

    Args:
        x: Tensor of any shape.

    Returns:
        Tensor of the shape and dtype of `x`.

    Reference:
        Elfwing et al. 2018, "Sigmoid-Weighted Linear Units for Neural Network Function
        Approximation in Reinforcement Learning", equation 8.
    """
    # TensorFlow's own, with a gradient of its own, keeps each graph for ever.
    return x * ops.sigmoid(x) if tensorflow_cpu.are_active() else ops.silu(x)


def gelu(x):
    """GELU as it is defined, by the error function.

    Args:
        x: Tensor of any shape.

    Returns:
        Tensor of the shape and dtype of `x`.

    Reference:
        Hendrycks and Gimpel 2016, "Gaussian Error Linear Units", section 2.
    """
    if keras.backend.backend() != "tensorflow":
        return ops.gelu(x, approximate=False)
    # TensorFlow's own is ten times as slow, by a function of few vector instructions.
    wide = ops.cast(x, "float32")
    return ops.cast(0.5 * wide * (1.0 + ops.erf(wide * math.sqrt(0.5))), x.dtype)


def gated_gelu(x):
    """One half of the channels, times the GELU of the other (GEGLU).

    Args:
        x: Tensor of shape `(..., 2 * channels)`.

    Returns:
        Tensor of shape `(..., channels)`.

    Reference:
        Shazeer 2020, "GLU Variants Improve Transformer", section 2.
    """
    if tensorflow_gradients.takes(x):
        return tensorflow_gradients.gated_gelu(x)
    h, gate = ops.split(x, 2, axis=-1)
    return h * gelu(gate)
