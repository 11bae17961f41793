"""Several devices: how batches and weights are spread over them.

On JAX by `keras.distribution`: `keras.distribution.DataParallel()` spreads batches, and
`sharded_weights` weights too. On TensorFlow by `tf.distribute`: a model that is made in
a strategy's scope divides its batches among the replicas.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence

import keras

from kerasdiffusion.compute import replicas, tpu
from kerasdiffusion.compute.backend import has_accelerator


def devices(variables: Sequence) -> int:
    """How many devices a batch is spread over that meets these variables."""
    backend = keras.backend.backend()
    if backend == "jax":
        return tpu.devices()
    strategy = replicas.strategy_of(variables) if backend == "tensorflow" else None
    return strategy.num_replicas_in_sync if strategy else 1


def shared(loss):
    """A replica's part of a mean loss: `tf.distribute` adds the replicas' gradients.

    Keras divides the losses that it knows, and no `compute_loss` of a model's own.

    Args:
        loss: The mean over a replica's part of the batch.

    Returns:
        It, divided by the number of replicas where there are several.
    """
    if keras.backend.backend() != "tensorflow":
        return loss
    import tensorflow as tf

    return loss / tf.distribute.get_strategy().num_replicas_in_sync


def placing() -> Callable:
    """What makes variables where they would be made now, as a context, also later."""
    is_tensorflow = keras.backend.backend() == "tensorflow"
    return replicas.scope() if is_tensorflow else contextlib.nullcontext


def sharded_weights(
    count: int | None = None, devices: Sequence[str] | None = None
) -> keras.distribution.ModelParallel:
    """A distribution under which each device holds only its share of the weights.

    For models that do not fit one device. `count` devices have one copy of the weights
    between them; where there are more, each such group takes its part of the batch.

    Args:
        count: Devices that share a copy, of which the number of devices is a multiple;
            all by default.
        devices: Names as in `keras.distribution.list_devices()`; all by default.

    Returns:
        A `keras.distribution.ModelParallel`, to be set before a model is made.

    Raises:
        RuntimeError: If the backend is not JAX.
        ValueError: If the devices do not divide into groups of `count`.

    Example:

    >>> keras.distribution.set_distribution(sharded_weights())
    >>> model = StableDiffusion.from_preset("emoji")
    """
    if keras.backend.backend() != "jax":
        raise RuntimeError(
            "Weights are shared between devices on JAX only (KERAS_BACKEND=jax). "
            f"Received: {keras.backend.backend()}"
        )
    devices = list(devices or keras.distribution.list_devices())
    count = len(devices) if count is None else count
    if count < 1 or len(devices) % count:
        raise ValueError(
            f"`count` must divide the number of devices, {len(devices)}. "
            f"Received: {count}"
        )
    mesh = keras.distribution.DeviceMesh(
        (len(devices) // count, count), ("batch", "weights"), devices
    )
    return _SharedWeights(
        layout_map=keras.distribution.LayoutMap(mesh), batch_dim_name="batch"
    )


class _SharedWeights(keras.distribution.ModelParallel):
    """Kernels and embeddings over the axis `"weights"`, the last that divides."""

    def get_variable_layout(self, variable):
        shape, axes = variable.shape, [None] * len(variable.shape)
        axis = tpu.shared_axis(shape, self.device_mesh.shape[1])
        if axis >= 0 and len(shape) > 1:  # biases and norms are small
            axes[axis] = "weights"
        return keras.distribution.TensorLayout(axes, self.device_mesh)


def peak_device_memory() -> int | None:
    """Bytes of the first accelerator that were in use at most; `None` if not known."""
    if not has_accelerator():
        return None
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            return None
        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    if backend == "jax":
        import jax

        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    import torch

    return torch.cuda.max_memory_allocated()


def peak_memory() -> int | None:
    """The most bytes at once so far: the first accelerator's, or this process's.

    `None` where the system does not say.
    """
    device = peak_device_memory()
    if device is not None:
        return device
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def memory() -> int | None:
    """Bytes of memory of the first accelerator, else of the machine, where known."""
    backend = keras.backend.backend()
    if has_accelerator():
        if backend == "jax":
            import jax

            return (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
        if backend == "torch":
            import torch

            return torch.cuda.get_device_properties(0).total_memory
        return None  # TensorFlow does not tell
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
