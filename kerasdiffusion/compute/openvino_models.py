"""What TensorFlow traces as OpenVINO's model, whose weights are inputs still.

It is made once, kept in the folder of compiled programs, and read by the next process:
tracing and converting take as long as compiling. What OpenVINO compiles is not kept: it
has the weights in it, more than three gigabytes of an SD 1.5.

For TensorFlow alone, which is imported where it is needed: `openvino_programs` calls
this file.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kerasdiffusion.compute import compile_cache, kept_traces
from kerasdiffusion.storage.reading import parse_json

ENDING = ".openvino"


class Traced(NamedTuple):
    """A function of weights and arguments, as OpenVINO has it.

    Args:
        model: It; what it gives is named `"result_0:0"` and so on.
        names: Of the inputs: weights, arguments, and what else it captured. Those that
            have no influence may be missing in the model.
        weights: How many of the names are weights'.
        skeleton: The result's structure, with places in the list of results as leaves.
        captured: The values of what it captured.
    """

    model: Any
    names: list[str]
    weights: int
    skeleton: Any
    captured: Sequence = ()

    @property
    def outputs(self) -> int:
        """How many tensors it gives."""
        import keras

        return len(keras.tree.flatten(self.skeleton))

    def arguments(self) -> dict[str, int]:
        """The names of the arguments, with their places among these."""
        end = len(self.names) - len(self.captured)
        return {name: i for i, name in enumerate(self.names[self.weights : end])}

    def with_weights(self, values: Sequence):
        """A model of its own with weights in it: their memory is used, not copied.

        Args:
            values: As `laid_out` gives them; they must be held as long as the model.
        """
        end = len(self.names) - len(self.captured)
        names = self.names[: self.weights] + self.names[end:]
        constants = dict(zip(names, [*values, *self.captured], strict=True))
        model = self.model.clone()
        _set_constants(model, constants)
        return model


def place(facts: str | None, signature: str, layers: Sequence) -> Path | None:
    """The file that keeps a model; `None` where none is kept.

    Args:
        facts: As in `kept_traces.KeptTraces`.
        signature: The arguments' structure, shapes and dtypes, as text.
        layers: The Keras layers that the function calls.
    """
    folder = None if facts is None else compile_cache.keep_programs("tensorflow")
    if folder is None:
        return None
    own = f"openvino {version('openvino')}"
    return folder / (kept_traces.key(facts, signature, layers, own) + ENDING)


def trace(function: Callable, layers: Sequence, args) -> Traced:
    """Traces a function and converts it, for which there need not be weights yet.

    Args:
        function: Takes and returns nested structures of tensors.
        layers: The Keras layers that it calls, built.
        args: Its arguments, or such.
    """
    import keras
    import tensorflow as tf

    variables, skeletons = [v for layer in layers for v in layer.variables], []

    def traced(weights, args):
        weights = map(_laid_back, variables, weights)
        mapping = list(zip(variables, weights, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            outputs = function(*args)
        flat = keras.tree.flatten(outputs)
        skeletons.append(keras.tree.pack_sequence_as(outputs, list(range(len(flat)))))
        return [tf.identity(x, f"result_{i}") for i, x in enumerate(flat)]

    def spec(x):
        return tf.TensorSpec(x.shape, x.dtype)

    concrete = tf.function(traced, autograph=False).get_concrete_function(
        [tf.TensorSpec(_shape(v), v.value.dtype) for v in variables],
        keras.tree.map_structure(spec, args),
    )
    names = [x.name for x in concrete.inputs]
    model = _converted(concrete.graph.as_graph_def())
    captured = list(concrete.captured_inputs)
    return Traced(model, names, len(variables), skeletons[0], captured)


#: How a convolution's kernel lies that OpenVINO convolves by, and Keras's in that.
_AXES, _BACK = (3, 2, 0, 1), (2, 3, 1, 0)


def laid_out(variable):
    """A variable's value as OpenVINO wants it: a tensor, or an array with a copy.

    It would reorder the kernels of convolutions itself, five times as slowly, and hold
    what it has reordered. Those of dense layers it takes as they are.
    """
    value = variable.value.read_value()
    if not turns(variable):
        return value
    return np.ascontiguousarray(np.transpose(array_of(value), _AXES))


def turns(variable) -> bool:
    """Whether it is the kernel of a convolution; one of 8 bits stays as it is."""
    is_kernel = variable.name == "kernel" and len(variable.shape) == 4
    return is_kernel and variable.dtype != "int8"


def _shape(variable) -> tuple:
    shape = tuple(variable.shape)
    return tuple(shape[axis] for axis in _AXES) if turns(variable) else shape


def _laid_back(variable, value):
    """What the layer computes with, of what `laid_out` gave."""
    import tensorflow as tf

    return tf.transpose(value, _BACK) if turns(variable) else value


def write(traced: Traced, path: Path) -> None:
    """Keeps a model, if there is room for it and all that it captured is in it."""
    import openvino

    if traced.captured:
        return
    with contextlib.suppress(OSError, TypeError, ValueError, RuntimeError):
        with tempfile.TemporaryDirectory() as folder:
            files = Path(folder, "model.xml"), Path(folder, "model.bin")
            openvino.serialize(traced.model, *files)
            text, constants = (each.read_bytes() for each in files)
        head = {
            "names": traced.names,
            "weights": traced.weights,
            "skeleton": kept_traces.spelled(traced.skeleton),
            "length": len(text),
        }
        body = json.dumps(head).encode() + b"\n" + text + constants
        kept_traces.seal(path, body)


def read(path: Path) -> Traced | None:
    """A model that was kept; `None` where there is none, or none that is whole."""
    body = kept_traces.unsealed(path)
    if body is None:
        return None
    # Whatever is not understood is traced again.
    with contextlib.suppress(Exception):
        first, _, rest = body.partition(b"\n")
        head = parse_json(first, "a model of OpenVINO's")
        text, constants = rest[: head["length"]], rest[head["length"] :]
        model = core().read_model(text, constants)
        skeleton = kept_traces.read_out(head["skeleton"])
        return Traced(model, head["names"], head["weights"], skeleton)
    return None


@functools.cache
def core():
    """OpenVINO's, which finds its devices as it is made."""
    import openvino

    return openvino.Core()


def name_of(port, names: Mapping | Sequence) -> str | None:
    """Which of TensorFlow's names an input or an output of a model has."""
    return next((name for name in port.names if name in names), None)


def _converted(graph):
    """TensorFlow's graph as OpenVINO's model."""
    _without_bfloat16_constants(graph)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "program.pb")
        path.write_bytes(graph.SerializeToString())
        model = core().read_model(path)
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


def array_of(tensor) -> np.ndarray:
    """A tensor's own memory."""
    return np.asarray(tensor)


def _set_constants(model, constants: Mapping[str, Any]) -> None:
    """Puts tensors in the place of inputs; their memory is used, not copied."""
    import openvino
    from openvino import opset13

    for parameter in model.get_parameters():
        name = name_of(parameter.output(0), constants)
        if name is None:
            continue
        array = array_of(constants[name])
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
