"""Blocks of a network in a training step: traced once, checkpointed where asked.

The layers that are `Repeated` are the blocks: residual blocks and transformers. With
`remat` what is inside one is computed again for its gradients in place of being kept.
(`keras.RematScope` acts as layers are made, which for a network of the library is long
before anybody trains it.)
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import keras

from kerasdiffusion.compute import tensorflow_gradients

_step = contextvars.ContextVar("step", default=None)


@dataclass
class _Step:
    remat: bool
    jit_compile: bool
    functions: dict = field(default_factory=dict)


@contextlib.contextmanager
def blocks(remat: bool = False, jit_compile: bool = False) -> Iterator[None]:
    """Within it, `Repeated` layers are the blocks of a training step's forward pass.

    Args:
        remat: Whether to compute them again for their gradients.
        jit_compile: Whether the step is compiled by XLA.

    Example:

    >>> with blocks(remat=True):
    ...     print(are_on())
    True
    """
    own = contextlib.nullcontext()
    if keras.backend.backend() == "tensorflow" and not jit_compile:
        own = tensorflow_gradients.gradients()
    before = _step.set(_Step(remat, bool(jit_compile)))
    try:
        with own:
            yield
    finally:
        _step.reset(before)


def are_on() -> bool:
    """Whether layers are blocks here and now."""
    return _step.get() is not None


def called(layer, call: Callable, args: tuple, kwargs: dict):
    """What a block's `call` gives, in the step that is traced now."""
    step, is_block = _step.get(), _has_none_within(layer)
    if not is_block or not layer.built:
        return call(*args, **kwargs)
    inside = _step.set(None)  # what is within it is part of it
    try:
        if keras.backend.backend() == "tensorflow":
            from kerasdiffusion.compute import taught_blocks

            return taught_blocks.called(step, layer, call, args, kwargs)
        if not step.remat:
            return call(*args, **kwargs)
        return remat(functools.partial(call, **kwargs))(*args)
    finally:
        _step.reset(inside)


def _has_none_within(layer) -> bool:
    """Whether no block is within a layer, or one alone: that is then part of it."""
    from kerasdiffusion.compute.repeats import Repeated

    within = [each for each in layer._flatten_layers() if isinstance(each, Repeated)]
    return len(within) <= 2  # itself and another


def remat(function: Callable) -> Callable:
    """A function whose inside is computed again for its gradients.

    Whatever it reads has its gradients: its arguments, and on JAX and PyTorch tensors
    that are not among these, such as the values that a `keras.StatelessScope` gives to
    variables. On TensorFlow the arguments and trainable variables alone; there layers
    are `blocks`.

    Args:
        function: Takes and returns nested structures of tensors.
    """
    if keras.backend.backend() != "torch":
        return keras.remat(function)
    from keras.src.backend.common.stateless_scope import get_stateless_scope
    from torch.utils.checkpoint import checkpoint

    scope = get_stateless_scope()

    def within(*args):
        """Also when the backward pass calls it, after the scope."""
        left = scope is not None and get_stateless_scope() is not scope
        with scope if left else contextlib.nullcontext():
            return function(*args)

    def run(*args):
        return checkpoint(within, *args, use_reentrant=False)

    return run
