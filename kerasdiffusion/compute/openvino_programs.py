"""OpenVINO for CPUs: programs that TensorFlow traces and OpenVINO compiles and runs.

For TensorFlow alone, which is imported where it is needed: `backend` calls this file.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from kerasdiffusion.compute import openvino_models, tensorflow_cpu, weights_on_disk
from kerasdiffusion.compute.openvino_models import (
    Traced,
    array_of,
    laid_out,
    name_of,
    turns,
)
from kerasdiffusion.compute.within import Within

#: The value of `jit_compile` that asks for it.
OPENVINO = "openvino"
#: Programs of one function: a run that guides in part of its steps takes two. And
#: models that they were compiled from, which hold no weights.
KEPT, TRACED = 2, 8

_tracing = Within("tracing", False)


def check(backend: str, accelerator: bool) -> str:
    """`OPENVINO`, if it can be used here.

    Args:
        backend: Keras's.
        accelerator: Whether it sees a GPU or a TPU.

    Raises:
        ValueError: On another backend than TensorFlow, or with a GPU.
        ImportError: If OpenVINO is not installed.
    """
    if backend != "tensorflow":
        raise ValueError(
            '`jit_compile="openvino"` needs the TensorFlow backend, which gives it the '
            f"networks. Received: jit_compile={OPENVINO!r} on {backend}"
        )
    if accelerator:
        raise ValueError(
            '`jit_compile="openvino"` computes on CPUs; a GPU has XLA. '
            f"Received: jit_compile={OPENVINO!r} with a GPU"
        )
    if importlib.util.find_spec("openvino") is None:
        raise ImportError(
            '`jit_compile="openvino"` needs OpenVINO: pip install ".[openvino]" '
            f"in a checkout. Received: jit_compile={OPENVINO!r}"
        )
    return OPENVINO


def is_tracing() -> bool:
    """Whether what is computed now becomes a program of OpenVINO's."""
    return _tracing.get()


def attention(query, key, value):
    """Attention as OpenVINO knows it: it makes one kernel of this.

    Args:
        query: Tensor of shape `(batch, queries, heads, head_width)`.
        key: Tensor of shape `(batch, keys, heads, head_width)`.
        value: Tensor of the shape of `key`.

    Returns:
        Tensor of the shape of `query`.
    """
    import tensorflow as tf

    scale = query.shape[-1] ** -0.5
    query, key, value = (tf.transpose(x, (0, 2, 1, 3)) for x in (query, key, value))
    scores = tf.matmul(query, key, transpose_b=True)
    weights = tf.nn.softmax(scores * tf.cast(scale, scores.dtype))
    return tf.transpose(tf.matmul(weights, value), (0, 2, 1, 3))


def group_norm(x, gamma, beta, groups: int, epsilon: float):
    """`operations.group_norm` as OpenVINO knows it.

    It makes one kernel of this.
    """
    import tensorflow as tf

    x = tf.transpose(x, (0, 3, 1, 2))
    shape = tf.shape(x)
    flat = tf.reshape(x, (shape[0], groups, -1))
    mean = tf.reduce_mean(flat, [-1], keepdims=True)
    variance = tf.reduce_mean(tf.square(flat - mean), [-1], keepdims=True)
    flat = (flat - mean) / tf.sqrt(variance + epsilon)
    gamma, beta = (tf.reshape(each, (-1, 1, 1)) for each in (gamma, beta))
    return tf.transpose(tf.reshape(flat, shape) * gamma + beta, (0, 2, 3, 1))


def layer_norm(x, gamma, beta, epsilon: float):
    """`operations.layer_norm` as OpenVINO knows it."""
    import tensorflow as tf

    x = x - tf.reduce_mean(x, [-1], keepdims=True)
    variance = tf.reduce_mean(tf.square(x), [-1], keepdims=True)
    return x * (tf.math.rsqrt(variance + epsilon) * gamma) + beta


def upsample(x, kernel, bias):
    """`tensorflow_cpu.upsample` as OpenVINO knows it: paddings are convolutions' own.

    Args:
        x: Tensor of shape `(batch, height, width, channels)`.
        kernel: Tensor of shape `(3, 3, channels, filters)`.
        bias: Tensor of shape `(filters,)`.

    Returns:
        Tensor of shape `(batch, 2 * height, 2 * width, filters)`.
    """
    import tensorflow as tf

    batch, height, width, _ = x.shape
    bias, rows = tf.cast(bias, x.dtype), []
    for down, tall in enumerate(tensorflow_cpu.halves(tf.cast(kernel, "float32"), 0)):
        row = []
        for right, small in enumerate(tensorflow_cpu.halves(tall, 1)):
            around = ((0, 0), (1 - down, down), (1 - right, right), (0, 0))
            part = tf.nn.conv2d(x, tf.cast(small, x.dtype), 1, around)
            row.append(tf.nn.bias_add(part, bias))
        rows.append(tf.stack(row, axis=3))
    doubled = tf.stack(rows, axis=2)
    return tf.reshape(doubled, (batch, 2 * height, 2 * width, -1))


def small_product(x, kernel, scale):
    """A product with a kernel of 8 bits, which OpenVINO keeps as it is.

    It does where the kernel is multiplied, not divided, and by a matrix of one row.

    Args:
        x: Tensor of shape `(..., inputs)`.
        kernel: int8 tensor of shape `(inputs, outputs)`.
        scale: What each output was multiplied by: a tensor of shape `(outputs,)`.

    Returns:
        Tensor of shape `(..., outputs)`.
    """
    import tensorflow as tf

    factor = tf.reshape(1.0 / tf.cast(scale, x.dtype), (1, -1))
    return tf.matmul(x, tf.cast(kernel, x.dtype) * factor)


def small_convolution(x, kernel, scale, strides, padding: str):
    """A convolution by a kernel of 8 bits.

    OpenVINO has no such convolution: it would make floats of the kernel in every call.
    But it has a product, for which it keeps 8 bits. Kernels that are small beside the
    image become floats once: by way of int32, else it would not.

    Args:
        x: Tensor of shape `(batch, height, width, channels)`.
        kernel: int8 tensor of shape `(rows, columns, channels, filters)`.
        scale: What each filter was multiplied by: a tensor of shape `(filters,)`.
        strides: As `Conv2D`'s.
        padding: `"same"` or `"valid"`.

    Returns:
        Tensor of shape `(batch, height, width, filters)`.
    """
    import tensorflow as tf

    batch, height, width, channels = x.shape
    tall, wide, _, filters = kernel.shape
    length = tall * wide * channels
    is_plain = tuple(strides) == (1, 1) and (padding == "same" or tall == wide == 1)
    if not is_plain or batch * height * width > length:
        kernel = tf.cast(tf.cast(kernel, "int32"), x.dtype) / tf.cast(scale, x.dtype)
        return tf.nn.conv2d(x, kernel, strides, padding.upper())
    around = [((each - 1) // 2, each // 2) for each in (tall, wide)]
    x = tf.pad(x, ((0, 0), *around, (0, 0)))
    seen = [
        x[:, row : row + height, column : column + width]
        for row in range(tall)
        for column in range(wide)
    ]
    seen = tf.reshape(tf.concat(seen, axis=-1), (-1, length))
    y = small_product(seen, tf.reshape(kernel, (length, filters)), scale)
    return tf.reshape(y, (batch, height, width, filters))


class Compiled:
    """A function of tensors and layers, as OpenVINO runs it.

    Each structure, shape and dtype of the arguments is compiled, and the latest `KEPT`
    of them are kept: each has the weights once more, in the form that the kernels want.
    Other values in the layers' variables, however they came there, make it compile
    anew; it is traced once for each, and that is kept from process to process. A loop
    of `backend.while_loop` is one pass; `Program.goes_round` says so.

    Args:
        function: Takes and returns nested structures of tensors.
        layers: The Keras layers that the function calls, built.
        facts: As in `kept_traces.KeptTraces`.

    Attributes:
        compiled: How often it was compiled.
        read: How many models were read, and not traced.
    """

    def __init__(self, function: Callable, layers: Sequence, facts: str | None = None):
        self._function, self._layers, self._facts = function, layers, facts
        self._models: dict[str, Traced] = {}
        self._programs: dict[str, _Program] = {}
        # What they were compiled with, as TensorFlow and as OpenVINO has it.
        self._held, self._laid_out = [], []
        self._lock = threading.Lock()
        self.compiled = self.read = 0

    def __call__(self, *args: Any) -> Any:
        """Runs on tensors, in turn."""
        with self._lock:
            return self._program(args)(args)

    def trace(self, *args: Any) -> None:
        """Reads or traces what runs on arguments like these: weights may be missing."""
        with self._lock:
            self._model(_signature(args), args)

    def _program(self, args) -> _Program:
        variables = [v for layer in self._layers for v in layer.variables]
        values = [_read(v) for v in variables]
        before, now = (list(map(_address, each)) for each in (self._held, values))
        anew = before != now and bool(self._programs)
        if before != now:
            self._programs.clear()
            known = dict(zip(before, self._laid_out, strict=False))
            self._held, self._laid_out = values, [known.get(each) for each in now]
        signature = _signature(args)
        program = self._programs.pop(signature, None)
        while len(self._programs) >= KEPT:  # ahead of compiling, which takes memory
            del self._programs[next(iter(self._programs))]
        if program is None:
            begun = time.perf_counter()
            traced = self._model(signature, args)
            self._lay_out(variables)
            program = _Program(traced, self._laid_out)
            self.compiled += 1
            if anew:
                _tell_of_new_weights(time.perf_counter() - begun)
        self._programs[signature] = program
        return program

    def _lay_out(self, variables) -> None:
        """The values that are not yet as OpenVINO wants them."""
        missing = [i for i, each in enumerate(self._laid_out) if each is None]
        some = [variables[i] for i in missing]
        moved = weights_on_disk.moved(some, turns, laid_out)
        for i, found in zip(missing, moved, strict=True):
            if found is None:
                found = laid_out(variables[i])
            else:
                self._held[i] = _read(variables[i])
            self._laid_out[i] = found

    def _model(self, signature: str, args) -> Traced:
        """The function for arguments like these, traced once."""
        traced = self._models.pop(signature, None)
        if traced is None:
            path = openvino_models.place(self._facts, signature, self._layers)
            traced = None if path is None else openvino_models.read(path)
            self.read += traced is not None
            if traced is None:
                with _tracing.set(True):
                    how = self._function, self._layers, args
                    traced = openvino_models.trace(*how)
                if path is not None:
                    openvino_models.write(traced, path)
        while len(self._models) >= TRACED:
            del self._models[next(iter(self._models))]
        self._models[signature] = traced
        return traced


def _signature(args) -> str:
    """Structure, shapes and dtypes."""
    import keras

    kinds = keras.tree.map_structure(lambda x: (tuple(x.shape), x.dtype.name), args)
    return repr(kinds)


def _tell_of_new_weights(seconds: float) -> None:
    """A line: this is what a change of adapters takes here."""
    print(
        f"OpenVINO compiled a program anew, which took {seconds:.1f} s: it has a copy "
        "of the weights, and these have changed",
        file=sys.stderr,
    )


def _read(variable):
    # No copy. While this is held TensorFlow writes new values to other memory, so that
    # the address tells whether there are any.
    return variable.value.read_value()


def _address(tensor) -> int:
    return array_of(tensor).ctypes.data


class _Program:
    """A model with weights, compiled.

    Args:
        traced: The model.
        values: Its weights.
    """

    def __init__(self, traced: Traced, values: Sequence):
        model = traced.with_weights(values)
        self._kept = values, traced.captured  # whose memory it may use
        # What the graph says is bfloat16 is, and all else float32. By "bf16" all would
        # be: sines of timesteps, means, noise levels, three times the error.
        precision = {"INFERENCE_PRECISION_HINT": "f32"}
        with weights_on_disk.given_back():
            program = openvino_models.core().compile_model(model, "CPU", precision)
        arguments, self._skeleton = traced.arguments(), traced.skeleton
        self._inputs = [arguments[name_of(x, arguments)] for x in program.inputs]
        places = {
            name: i for i, each in enumerate(program.outputs) for name in each.names
        }
        self._outputs = [places[f"result_{i}:0"] for i in range(traced.outputs)]
        self._request = program.create_infer_request()

    def __call__(self, args):
        import keras
        import tensorflow as tf

        flat = keras.tree.flatten(args)
        arrays = {i: array_of(flat[n]) for i, n in enumerate(self._inputs)}
        found = self._request.infer(arrays)
        outputs = [tf.convert_to_tensor(found[i]) for i in self._outputs]
        return keras.tree.map_structure(lambda place: outputs[place], self._skeleton)
