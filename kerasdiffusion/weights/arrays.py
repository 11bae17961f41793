"""From PyTorch's order of dimensions to Keras's and back."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from kerasdiffusion.compute import memory
from kerasdiffusion.compute.eight_bit import in_eight_bits

BLOCK = 64  # output channels that are transposed at a time: they fit the cache


def is_float(dtype: np.dtype) -> bool:
    """Whether a dtype is a floating-point one, ml_dtypes' included."""
    try:
        ml_dtypes.finfo(dtype)
    except ValueError:
        return False
    return True


def stored_shape(variable, is_keras: bool = False) -> tuple[int, ...]:
    """The shape of a Keras variable's values in a file."""
    shape = tuple(variable.shape)
    if is_keras or not variable.path.endswith("/kernel"):
        return shape
    return shape[::-1] if len(shape) == 2 else (shape[3], shape[2], *shape[:2])


def arrange(
    values: np.ndarray,
    path: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    is_keras: bool = False,
) -> object:
    """A file's values as a Keras variable takes them soonest.

    Args:
        values: What the file holds; a 1x1 convolution and a dense layer are one.
        path: The variable's path; a kernel has its dimensions reordered.
        shape: The variable's shape.
        dtype: The variable's dtype.
        is_keras: Whether the file has Keras's order already.

    Returns:
        A new contiguous array, or tensor, of the shape and dtype.
    """
    import keras  # without which files can be listed

    warn_of_overflow(values, dtype, path)
    if is_keras or not path.endswith("/kernel"):
        source, axes = values.reshape(shape), None
    else:
        source = values.reshape(shape[-1], shape[-2], *shape[:-2])
        axes = (1, 0) if len(shape) == 2 else (2, 3, 1, 0)
    tensor = memory.laid_out(keras.backend.backend(), source, axes, dtype)
    return _laid_out(source, axes, dtype) if tensor is None else tensor


def warn_of_overflow(values: np.ndarray, dtype: np.dtype, where: str) -> None:
    """Warns of values that float16 does not hold, where they become float16.

    Args:
        values: What a file holds.
        dtype: What they become; nothing is looked at for others than float16.
        where: What they are the values of.
    """
    if dtype != np.float16 or values.dtype == np.float16 or not values.size:
        return
    if values.dtype.name == "bfloat16":  # whose bits are in order, and quick to compare
        fits = (values.view(np.uint16) & 0x7FFF).max() < 0x4780
    else:
        fits = max(values.max(), -values.min()) < 65520.0
    if not fits:
        warnings.warn(
            "A weight is beyond float16, or is not finite: pictures may be black. "
            f"`precision='bfloat16'` or `'float32'` holds more. Received: {where}",
            stacklevel=2,
        )


def _laid_out(source, axes, dtype) -> np.ndarray:
    if axes is None:
        return np.ascontiguousarray(source, dtype)  # the file's reader gave it away
    result = np.empty([source.shape[axis] for axis in axes], dtype)
    for start in range(0, len(source), BLOCK):
        # Cast while contiguous: numpy has fast loops for that alone.
        block = source[start : start + BLOCK].astype(dtype, copy=False)
        result[..., start : start + BLOCK] = block.transpose(axes)
    return result


def arrange_small(values: np.ndarray, shape: tuple[int, ...], is_keras: bool) -> tuple:
    """A file's kernel in 8 bits, never whole as floats.

    Args:
        values: What the file holds.
        shape: The kernel's, in Keras's order.
        is_keras: As in `arrange`.

    Returns:
        int8 of the shape, and float32 of one number an output channel: its scale.
    """
    if is_keras:
        values = np.moveaxis(values.reshape(shape), -1, 0)
    else:
        values = values.reshape(shape[-1], shape[-2], *shape[:-2])
        values = values.transpose(0, *range(2, values.ndim), 1)
    kernel, scale = np.empty(shape, "int8"), np.empty(shape[-1], "float32")
    for start in range(0, shape[-1], BLOCK):
        block = slice(start, start + BLOCK)
        small, scale[block] = in_eight_bits(values[block])
        kernel[..., block] = np.moveaxis(small, 0, -1)
    return kernel, scale


def to_stored(variable, dtype: np.dtype | None = None) -> np.ndarray:
    """A Keras variable's values in PyTorch's order of dimensions.

    Args:
        variable: A Keras variable, or an array, which keeps its order.
        dtype: What floats become; the variable's own by default.

    Returns:
        A contiguous array.
    """
    if isinstance(variable, np.ndarray):
        return np.ascontiguousarray(variable, dtype)
    values = _to_numpy(variable)
    dtype = values.dtype if dtype is None else dtype
    if not variable.path.endswith("/kernel"):
        return np.ascontiguousarray(values, dtype)
    axes = (1, 0) if values.ndim == 2 else (3, 2, 0, 1)
    return np.ascontiguousarray(values.transpose(axes), dtype)


@dataclass(frozen=True, eq=False)
class EightBit:
    """A kernel of 8 bits and its scales, which is stored as floats.

    Args:
        kernel: An int8 variable, the output channels last.
        scale: A variable: what each of these was multiplied by.
    """

    kernel: object
    scale: object

    @property
    def path(self) -> str:
        """The kernel's."""
        return self.kernel.path

    @property
    def shape(self) -> tuple[int, ...]:
        """The kernel's."""
        return self.kernel.shape

    @property
    def dtype(self) -> str:
        """What it was before."""
        return self.scale.dtype


def stored_variables(network) -> list:
    """A network's weights as they are written: with an `EightBit` where it has such.

    Args:
        network: A built network.
    """
    scales = {each.path: each for each in network.weights}
    found = []
    for variable in network.weights:
        scale = scales.get(f"{variable.path}_scale")
        if variable.path.endswith("/kernel_scale"):
            continue
        found.append(variable if scale is None else EightBit(variable, scale))
    return found


def _to_numpy(variable) -> np.ndarray:
    import keras

    if isinstance(variable, EightBit):
        kernel, scale = map(_to_numpy, (variable.kernel, variable.scale))
        return (kernel / scale.astype("float32")).astype(np.dtype(variable.dtype))
    value = keras.ops.convert_to_numpy(variable)
    # PyTorch hands bfloat16 over as float32.
    return value.astype(np.dtype(variable.dtype), copy=False)
