"""Several devices: over how many a batch is spread, and where variables are made."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import keras

from kerasdiffusion import replicas, tpu


def devices(variables: Sequence) -> int:
    """How many devices a batch is spread over that meets these variables."""
    backend = keras.backend.backend()
    if backend == "jax":
        return tpu.devices()
    strategy = replicas.strategy_of(variables) if backend == "tensorflow" else None
    return strategy.num_replicas_in_sync if strategy else 1


def placing() -> Callable:
    """What makes variables where they would be made now, as a context, also later."""
    is_tensorflow = keras.backend.backend() == "tensorflow"
    return replicas.scope() if is_tensorflow else contextlib.nullcontext
