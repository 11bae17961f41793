"""OpenVINO for CPUs: programs that TensorFlow traces and OpenVINO compiles and runs.

For TensorFlow alone, which is imported where it is needed: `backend` calls this file.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasdiffusion.compute.within import Within

#: The value of `jit_compile` that asks for it.
OPENVINO = "openvino"
#: Programs of one function: a run that guides in part of its steps takes two.
KEPT = 2

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


def compiled(function: Callable, layers: Sequence) -> Callable:
    """A function of tensors and layers, as OpenVINO runs it.

    Each structure, shape and dtype of the arguments is compiled, and the latest `KEPT`
    of them are kept: each has the weights once more, in the form that the kernels want.
    Other values in the layers' variables, however they came there, make it compile
    anew. A loop of `backend.while_loop` is one pass; `Program.goes_round` says so.

    Args:
        function: Takes and returns nested structures of tensors.
        layers: The Keras layers that the function calls, built.

    Returns:
        A function of the same arguments.
    """
    known: dict[str, _Compiled] = {}
    held: list = []  # the values that they were compiled with
    lock = threading.Lock()

    def run(*args):
        with lock:
            return run_alone(*args)

    def run_alone(*args):
        import keras

        values = [_read(v) for layer in layers for v in layer.variables]
        anew = False
        if list(map(_address, values)) != list(map(_address, held)):
            anew = bool(known)
            known.clear()
            held[:] = values
        key = repr(
            keras.tree.map_structure(lambda x: (tuple(x.shape), x.dtype.name), args)
        )
        program = known.pop(key, None)
        while len(known) >= KEPT:
            del known[next(iter(known))]  # ahead of compiling, which takes memory
        begun = time.perf_counter()
        known[key] = program or _Compiled(function, layers, held, args)
        if anew:
            _tell_of_new_weights(time.perf_counter() - begun)
        return known[key](args)

    return run


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
    return _array(tensor).ctypes.data


def _array(tensor) -> np.ndarray:
    """A tensor's own memory."""
    return np.asarray(tensor)


class _Compiled:
    """A program for arguments of one structure, shape and dtype."""

    def __init__(self, function, layers, values, args):
        import keras
        import openvino
        import tensorflow as tf

        variables = [v for layer in layers for v in layer.variables]

        def traced(weights, args):
            mapping = list(zip(variables, weights, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                outputs = function(*args)
            self.structure = keras.tree.map_structure(lambda _: 0, outputs)
            outputs = keras.tree.flatten(outputs)
            return [tf.identity(x, f"result_{i}") for i, x in enumerate(outputs)]

        def spec(x):
            return tf.TensorSpec(x.shape, x.dtype)

        with _tracing.set(True):
            concrete = tf.function(traced, autograph=False).get_concrete_function(
                *keras.tree.map_structure(spec, (values, args))
            )
        names = [x.name for x in concrete.inputs]
        known = [*values, *([None] * len(keras.tree.flatten(args)))]
        constants = {
            name: value
            for name, value in zip(names, known + concrete.captured_inputs, strict=True)
            if value is not None
        }
        core = openvino.Core()
        model = _read_model(core, concrete)
        _set_constants(model, constants)
        # What the graph says is bfloat16 is, and all else float32. By "bf16" all would
        # be: sines of timesteps, means, noise levels, three times the error.
        precision = {"INFERENCE_PRECISION_HINT": "f32"}
        program = core.compile_model(model, "CPU", precision)
        self._kept = constants  # of which the program may use the memory
        arguments = {name: i for i, name in enumerate(names[len(values) :])}
        self._inputs = [arguments[_name(each, arguments)] for each in program.inputs]
        places = {
            name: i for i, each in enumerate(program.outputs) for name in each.names
        }
        self._outputs = [places[f"result_{i}:0"] for i in range(len(concrete.outputs))]
        self._request = program.create_infer_request()

    def __call__(self, args):
        import keras
        import tensorflow as tf

        flat = keras.tree.flatten(args)
        arrays = {i: _array(flat[n]) for i, n in enumerate(self._inputs)}
        found = self._request.infer(arrays)
        outputs = [tf.convert_to_tensor(found[i]) for i in self._outputs]
        return keras.tree.pack_sequence_as(self.structure, outputs)


def _name(port, names) -> str | None:
    """Which of TensorFlow's names an input or an output of a model has."""
    return next((name for name in port.names if name in names), None)


def _read_model(core, concrete):
    """A traced function as OpenVINO's model, whose weights are inputs still."""
    graph = concrete.graph.as_graph_def()
    _without_bfloat16_constants(graph)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "program.pb")
        path.write_bytes(graph.SerializeToString())
        model = core.read_model(path)
    for result in model.get_results():  # every loose end is one
        if not any(name.startswith("result_") for name in result.output(0).names):
            model.remove_result(result)
    return model


def _without_bfloat16_constants(graph) -> None:
    """Makes them float32 ones that are cast: OpenVINO reads no others."""
    import tensorflow as tf

    half, single = tf.bfloat16.as_datatype_enum, tf.float32.as_datatype_enum
    for node in list(graph.node):
        if node.op != "Const" or node.attr["dtype"].type != half:
            continue
        value = tf.make_ndarray(node.attr["value"].tensor).astype("float32")
        cast = graph.node.add(name=node.name, op="Cast", input=[f"{node.name}/float32"])
        cast.attr["SrcT"].type, cast.attr["DstT"].type = single, half
        node.name = cast.input[0]
        node.attr["dtype"].type = single
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))


def _set_constants(model, constants: dict[str, Any]) -> None:
    """Puts tensors in the place of inputs; their memory is used, not copied."""
    import openvino
    from openvino import opset13

    for parameter in model.get_parameters():
        name = _name(parameter.output(0), constants)
        if name is None:
            continue
        array = _array(constants[name])
        is_half = array.dtype.name == "bfloat16"  # which numpy does not have
        dtype = openvino.Type.bf16 if is_half else openvino.Type(array.dtype)
        # OpenVINO shares only what may be written, as bytes by address.
        data = (ctypes.c_uint8 * array.nbytes).from_address(array.ctypes.data)
        bits = np.frombuffer(data, f"uint{8 * array.itemsize}")
        tensor = openvino.Tensor(bits, list(array.shape), dtype)
        constant = opset13.constant(tensor, shared_memory=True)
        for place in parameter.output(0).get_target_inputs():
            place.replace_source_output(constant.output(0))
        model.remove_parameter(parameter)
