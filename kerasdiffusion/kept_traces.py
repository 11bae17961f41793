"""TensorFlow's traces kept in a folder, so that the next process need not trace.

XLA's cache knows a program by its text, for which it must be traced first. On a CPU the
trace is all there is to make, and takes seconds of Python. What is kept is its graph:
no weights, no values. A graph is taken again only where everything that a trace
follows is the same: the code that is loaded (a function that was exchanged is another),
its constants, the layers' settings, the variables' and the arguments' shapes, and the
versions.

For TensorFlow alone, which is imported where it is needed: `backend` calls this file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
import sys
import threading
import types
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasdiffusion import compile_cache

#: Where the code is that programs run through.
ROOMS = (
    *("autoencoding", "backend", "cheaper_steps", "control", "latent_diffusion"),
    *("models", "operations", "quantization", "sampling", "tensorflow_cpu", "tiling"),
)
#: What differs between layers that are alike: their names, and whether one was traced
#: in this process already.
OWN = ("name", "_name", "_path", "_parent_path", "_auto_name", "_called")
ENDING = ".trace"
#: Files of a folder, of which those that were not used for longest give way.
MOST = 200


def kept(function: Callable, layers: Sequence, facts: str) -> KeptTraces | None:
    """The function with its traces kept, or `None` where nothing is kept."""
    folder = compile_cache.keep_programs("tensorflow")
    return None if folder is None else KeptTraces(function, layers, facts, folder)


class KeptTraces:
    """A function of tensors and layers, traced once for each input signature or read.

    Args:
        function: Takes and returns nested structures of tensors.
        layers: The Keras layers that it calls.
        facts: What else it depends on, as text.
        folder: Where traces are kept.
    """

    def __init__(
        self, function: Callable, layers: Sequence, facts: str, folder: str | Path
    ):
        self._function, self._layers = function, layers
        self._facts, self._folder = facts, Path(folder)
        self._runs, self._lock = {}, threading.Lock()
        self.found = 0

    def __call__(self, *args: Any) -> Any:
        """Runs on tensors; within another trace, or if traces are off, as it is."""
        import tensorflow as tf

        if not tf.executing_eagerly() or tf.config.functions_run_eagerly():
            return self._function(*args)
        return self.make(*args)(*args)

    def make(self, *args: Any) -> Callable:
        """Reads or traces what runs on arguments like these."""
        import keras

        leaves = keras.tree.flatten(args)
        skeleton = keras.tree.pack_sequence_as(args, list(range(len(leaves))))
        kinds = [(tuple(x.shape), x.dtype.name) for x in leaves]
        signature = repr((skeleton, kinds))
        with self._lock:
            if signature not in self._runs:
                variables = [v for layer in self._layers for v in layer.variables]
                path = self._folder / (self._key(signature, variables) + ENDING)
                run = read(path, variables)
                self.found += run is not None
                self._runs[signature] = run or self._traced(args, path, variables)
            return self._runs[signature]

    def _key(self, signature: str, variables: Sequence) -> str:
        import keras
        import tensorflow as tf

        known = [
            (platform.python_version(), keras.version(), tf.version.VERSION),
            (keras.config.floatx(), keras.config.dtype_policy().name),
            (keras.config.image_data_format(), keras.config.epsilon()),
            (self._facts, signature),
            [
                (v.path.partition("/")[2], tuple(v.shape), str(v.dtype))
                for v in variables
            ],
            list(loaded_code()),
            list(settings(self._layers)),
        ]
        return hashlib.sha256(repr(known).encode()).hexdigest()[:32]

    def _traced(self, args, path: Path, variables: Sequence) -> Callable:
        import keras
        import tensorflow as tf

        skeletons = []

        def flat(*leaves):
            result = self._function(*keras.tree.pack_sequence_as(args, list(leaves)))
            found = keras.tree.flatten(result)
            whole = keras.tree.pack_sequence_as(result, list(range(len(found))))
            skeletons.append(whole)
            return found

        run = tf.function(flat, autograph=False)
        concrete = run.get_concrete_function(*keras.tree.flatten(args))
        handles = {id(v.value.handle): place for place, v in enumerate(variables)}
        captures = [handles.get(id(each)) for each in concrete.captured_inputs]
        if None not in captures:  # of what is not a variable's, the value is another's
            # While the picture is painted, which needs no Python.
            keep = (concrete, skeletons[0], captures, path)
            threading.Thread(target=write, args=keep, name="traces").start()

        def call(*args):
            return _packed(skeletons[0], run(*keras.tree.flatten(args)))

        return call


def _packed(skeleton, values):
    import keras

    return keras.tree.map_structure(lambda place: values[place], skeleton)


def write(concrete, skeleton, captures: list[int], path: Path) -> None:
    """Keeps a traced function, if there is room for it.

    Args:
        concrete: TensorFlow's `ConcreteFunction` of a flat list of tensors.
        skeleton: The result's structure, with places in the list of outputs as leaves.
        captures: The places of the variables that it reads, among those of its layers.
        path: The file, which is written whole or not at all.
    """
    with contextlib.suppress(OSError, TypeError, ValueError):
        library = concrete.graph.as_graph_def().library
        library.function.append(concrete.function_def)
        _rename(library.function, path.stem)
        body = library.SerializeToString()
        head = json.dumps(
            {
                "name": library.function[-1].signature.name,
                "captures": captures,
                "outputs": len(concrete.outputs),
                "skeleton": _spelled(skeleton),
            }
        ).encode()
        body = head + b"\n" + body
        part = path.with_suffix(f".{os.getpid()}")
        part.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        part.replace(path)
        kept = sorted(path.parent.glob(f"*{ENDING}"), key=lambda x: x.stat().st_mtime)
        for old in kept[:-MOST]:
            old.unlink(missing_ok=True)


def _spelled(skeleton):
    """A structure of numbers as JSON has it."""
    if isinstance(skeleton, int):
        return skeleton
    if isinstance(skeleton, dict):
        return {"dict": [[key, _spelled(each)] for key, each in skeleton.items()]}
    parts = [_spelled(each) for each in skeleton]
    kind = type(skeleton)
    if kind is list:
        return parts
    if kind is tuple:
        return {"tuple": parts}
    return {"named": parts, "type": [kind.__module__, kind.__name__]}


def _read_out(spelled):
    if isinstance(spelled, int):
        return spelled
    if isinstance(spelled, list):
        return [_read_out(each) for each in spelled]
    if "dict" in spelled:
        return {key: _read_out(each) for key, each in spelled["dict"]}
    if "tuple" in spelled:
        return tuple(_read_out(each) for each in spelled["tuple"])
    module, name = spelled["type"]
    return getattr(sys.modules[module], name)(*map(_read_out, spelled["named"]))


def _rename(functions: Iterable, prefix: str) -> None:
    """Gives functions names that no others have, wherever they are called."""
    names = {each.signature.name: f"{prefix}_{n}" for n, each in enumerate(functions)}
    for each in functions:
        each.signature.name = names[each.signature.name]
        for node in each.node_def:
            node.op = names.get(node.op, node.op)
            for value in node.attr.values():
                for called in (value.func, *value.list.func):
                    if called.name in names:
                        called.name = names[called.name]


def read(path: Path, variables: Sequence) -> Callable | None:
    """A function that was kept; `None` where there is none, or none that is whole."""
    try:
        checksum, _, body = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    if hashlib.sha256(body).hexdigest().encode() != checksum:
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    # Whatever another version of TensorFlow does not take is traced again.
    try:
        os.utime(path)
        return _restored(body, variables)
    except Exception:
        return None


def _restored(body: bytes, variables: Sequence) -> Callable:
    import keras
    from tensorflow.core.framework.function_pb2 import FunctionDefLibrary
    from tensorflow.python.eager import context

    head, _, graph = body.partition(b"\n")
    head, here = json.loads(head), context.context()
    for function in FunctionDefLibrary.FromString(graph).function:
        if not here.has_function(function.signature.name):
            here.add_function_def(function)
    skeleton = _read_out(head["skeleton"])
    name, outputs = head["name"].encode(), head["outputs"]
    read = [variables[place] for place in head["captures"]]

    def call(*args):
        tensors = keras.tree.flatten(args) + [v.value.handle for v in read]
        return _packed(skeleton, here.call_function(name, tensors, outputs))

    return call


def loaded_code() -> Iterable[str]:
    """The code and the constants of `ROOMS`, as they are in memory."""
    for name, module in sorted(sys.modules.items()):
        if name.startswith(__package__ + ".") and name.split(".")[1] in ROOMS:
            for key, value in sorted(vars(module).items()):
                if not key.startswith("__"):
                    yield from _described(f"{name}.{key}", value)


def settings(layers: Iterable) -> Iterable[str]:
    """The class and the attributes of layers and of those within, as far as told."""
    for layer in layers:
        for each in (layer, *layer._flatten_layers(include_self=False)):
            yield type(each).__qualname__
            yield each.dtype_policy.name
            for key, value in sorted(vars(each).items()):
                if key in OWN:
                    continue
                if isinstance(value, types.FunctionType):  # an activation
                    yield f"{key} {value.__qualname__} {_code(value.__code__)}"
                else:
                    yield f"{key} {_plain(value) or type(value).__qualname__}"


def _described(name: str, value) -> Iterable[str]:
    """A function's code, a class's functions, a plain value; nothing of others."""
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    if isinstance(value, property):
        value = value.fget
    if isinstance(value, types.FunctionType):
        yield f"{name} {_code(value.__code__)} {_plain(value.__defaults__)}"
        wrapped = getattr(value, "__wrapped__", None)
        if isinstance(wrapped, types.FunctionType):
            yield f"{name} {_code(wrapped.__code__)}"
    elif isinstance(value, type):
        if value.__module__.startswith(__package__):
            for key, part in sorted(vars(value).items()):
                yield from _described(f"{name}.{key}", part)
    else:
        text = _plain(value)
        if text is not None:
            yield f"{name} {text}"


def _code(code: types.CodeType) -> str:
    """The same for the same code in any process."""
    constants = [
        _code(each) if isinstance(each, types.CodeType) else _plain(each)
        for each in code.co_consts
    ]
    return repr((code.co_code, code.co_names, code.co_freevars, constants))


def _plain(value) -> str | None:
    """A text of numbers, texts and what holds nothing else; `None` of others."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)
    if isinstance(value, np.ndarray):
        return (
            f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
        )
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            each.name: getattr(value, each.name) for each in dataclasses.fields(value)
        }
        return _plain(fields)
    if isinstance(value, (frozenset, set)):
        parts = [_plain(each) for each in value]
        return None if None in parts else f"{{{sorted(parts)}}}"
    if isinstance(value, (tuple, list)):
        parts = [_plain(each) for each in value]
        return None if None in parts else repr(parts)
    if isinstance(value, dict):
        parts = [(_plain(key), _plain(each)) for key, each in value.items()]
        return None if any(None in part for part in parts) else repr(parts)
    return None
