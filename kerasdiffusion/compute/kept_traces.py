"""TensorFlow's traces for CPUs: each is made once, kept in a folder, and run.

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
import functools
import hashlib
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from kerasdiffusion.compute import compile_cache, heap, repeats
from kerasdiffusion.compute.fingerprints import loaded_code, settings
from kerasdiffusion.compute.rewriting import unexplained, unrewritten
from kerasdiffusion.storage.reading import parse_json, read_bounded
from kerasdiffusion.storage.whole import write_whole

ENDING = ".trace"
#: Files of a folder, of which those that were not used for longest give way.
MOST = 200
_NAMED: dict[str, type] = {}


def named(kind: type) -> type:
    """Lets kept traces give a named tuple: a file calls nothing but these.

    Args:
        kind: A `NamedTuple` of tensors; also for use as a decorator.

    Returns:
        The same.
    """
    _NAMED[kind.__qualname__] = kind
    return kind


def kept(
    function: Callable,
    layers: Sequence,
    facts: str | None,
    rewritten: bool = True,
    sparing: bool = False,
) -> KeptTraces:
    """The function with its traces kept in the folder of compiled programs.

    Args:
        function: As in `KeptTraces`.
        layers: As in `KeptTraces`.
        facts: As in `KeptTraces`; with `None` nothing is kept.
        rewritten: As in `KeptTraces`.
        sparing: As in `KeptTraces`.
    """
    folder = None if facts is None else compile_cache.keep_programs("tensorflow")
    return KeptTraces(function, layers, facts, folder, rewritten, sparing)


class KeptTraces:
    """A function of tensors and layers, traced once for each input signature or read.

    Args:
        function: Takes and returns nested structures of tensors.
        layers: The Keras layers that it calls.
        facts: What else it depends on, as text.
        folder: Where traces are kept; `None` keeps none.
        rewritten: Whether TensorFlow's graph optimizer goes over a graph ahead of its
            first run. It takes seconds for a large one, and gains some programs
            nothing.
        sparing: Whether all that tracing leaves behind is freed at once, which goes
            through all objects of the process.

    Attributes:
        found: How many traces were read.
    """

    def __init__(
        self,
        function: Callable,
        layers: Sequence,
        facts: str | None,
        folder: str | Path | None,
        rewritten: bool = True,
        sparing: bool = False,
    ):
        self._function, self._layers, self._facts = function, layers, facts
        self._folder = None if folder is None else Path(folder)
        self._call = functools.partial(call_function, rewritten=rewritten)
        self._runs, self._lock = {}, threading.Lock()
        self._sparing, self.found = sparing, 0

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
                self._runs[signature] = self._made(args, signature)
            return self._runs[signature]

    def _made(self, args, signature: str) -> Callable:
        variables = [v for layer in self._layers for v in layer.variables]
        if self._folder is None:
            return self._traced(args, variables)
        path = self._folder / (key(self._facts, signature, self._layers) + ENDING)
        run = read(path, variables, self._call)
        self.found += run is not None
        if run is None:
            run = self._traced(args, variables, path)
            if self._sparing:
                heap.tidy()
        return run

    def _traced(self, args, variables: Sequence, path: Path | None = None) -> Callable:
        import keras
        import tensorflow as tf

        skeletons = []

        def flat(*leaves):
            result = self._function(*keras.tree.pack_sequence_as(args, list(leaves)))
            found = keras.tree.flatten(result)
            whole = keras.tree.pack_sequence_as(result, list(range(len(found))))
            skeletons.append(whole)
            return found

        with repeats.traced_once(), unexplained():
            concrete = tf.function(flat, autograph=False).get_concrete_function(
                *keras.tree.flatten(args)
            )
        handles = {id(v.value.handle): place for place, v in enumerate(variables)}
        captures = [handles.get(id(each)) for each in concrete.captured_inputs]
        # Of what is not a variable's, the value is another's.
        if path is not None and None not in captures:
            keep = (concrete, skeletons[0], captures, path)
            if self._sparing:
                write(*keep)
                run = read(path, variables, self._call)
                if run is not None:  # without all that tracing left behind
                    return run
            else:  # while the picture is painted, which needs no Python
                threading.Thread(target=write, args=keep, name="traces").start()
        name, count = concrete.function_def.signature.name, len(concrete.outputs)

        def call(*args):
            tensors = keras.tree.flatten(args) + concrete.captured_inputs
            return packed(skeletons[0], self._call(name, tensors, count))

        return call


def key(facts: str | None, signature: str, layers: Sequence, *more: str) -> str:
    """A name that no two traces share that may differ.

    Args:
        facts: As in `KeptTraces`.
        signature: The arguments' structure, shapes and dtypes, as text.
        layers: As in `KeptTraces`.
        *more: What else a trace depends on.
    """
    import keras
    import tensorflow as tf

    known = [
        (platform.python_version(), keras.version(), tf.version.VERSION),
        (keras.config.floatx(), keras.config.dtype_policy().name),
        (keras.config.image_data_format(), keras.config.epsilon()),
        (facts, signature, *more),
        [
            # Wherever the layer itself is.
            (v.path.rpartition(f"{layer.name}/")[2], tuple(v.shape), str(v.dtype))
            for layer in layers
            for v in layer.variables
        ],
        list(loaded_code()),
        list(settings(layers)),
    ]
    return hashlib.sha256(repr(known).encode()).hexdigest()[:32]


def call_function(name: str, tensors: Sequence, count: int, rewritten: bool) -> list:
    """Runs a function that TensorFlow knows by name.

    Args:
        name: Its name.
        tensors: What it takes.
        count: Of the tensors that it gives.
        rewritten: As in `KeptTraces`.

    Returns:
        A list of tensors.
    """
    from tensorflow.python.eager import context

    with contextlib.nullcontext() if rewritten else unrewritten():
        return context.context().call_function(name.encode(), tensors, count)


def packed(skeleton, values):
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
                "skeleton": spelled(skeleton),
            }
        ).encode()
        seal(path, head + b"\n" + body)


def seal(path: Path, body: bytes) -> None:
    """Writes a file that `unsealed` reads; others of its kind give way.

    Args:
        path: The file, which is written whole or not at all.
        body: What is in it.

    Raises:
        OSError: If it cannot be written.
    """
    content = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
    write_whole(path, content, overwrite=True)
    give_way(path)


def unsealed(path: Path) -> bytes | None:
    """What `seal` wrote; `None` where there is nothing, or nothing that is whole."""
    try:
        checksum, _, body = read_bounded(path, "trace").partition(b"\n")
    except (OSError, ValueError):
        return None
    if hashlib.sha256(body).hexdigest().encode() == checksum:
        with contextlib.suppress(OSError):
            os.utime(path)
        return body
    with contextlib.suppress(OSError):
        path.unlink()
    return None


def give_way(new: Path) -> None:
    """Removes what was not used for longest, where there are too many of an ending.

    Args:
        new: What was written just now, which stays. A clock that was set back makes
            others look younger than now: they are taken to be the oldest.
    """
    now = time.time()

    def used(path: Path) -> float:
        when = path.stat().st_mtime
        return when if when <= now + 60 else 0.0

    kept = [each for each in new.parent.glob(f"*{new.suffix}") if each != new]
    kept.sort(key=used)
    for old in kept[: max(0, len(kept) + 1 - MOST)]:
        old.unlink(missing_ok=True)


def spelled(skeleton):
    """A structure of numbers as JSON has it."""
    if isinstance(skeleton, int):
        return skeleton
    if isinstance(skeleton, dict):
        return {"dict": [[key, spelled(each)] for key, each in skeleton.items()]}
    parts = [spelled(each) for each in skeleton]
    kind = type(skeleton)
    if kind is list:
        return parts
    if kind is tuple:
        return {"tuple": parts}
    if _NAMED.get(kind.__qualname__) is not kind:
        raise TypeError(f"A kept structure must be registered. Received: {kind}")
    return {"named": parts, "type": kind.__qualname__}


def read_out(spelled):
    if isinstance(spelled, int):
        return spelled
    if isinstance(spelled, list):
        return [read_out(each) for each in spelled]
    if "dict" in spelled:
        return {key: read_out(each) for key, each in spelled["dict"]}
    if "tuple" in spelled:
        return tuple(read_out(each) for each in spelled["tuple"])
    return _NAMED[spelled["type"]](*map(read_out, spelled["named"]))


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


def read(path: Path, variables: Sequence, call: Callable) -> Callable | None:
    """A function that was kept; `None` where there is none, or none that is whole.

    Args:
        path: The file.
        variables: Those of its layers.
        call: Takes the function's name, tensors and how many it gives.
    """
    body = unsealed(path)
    if body is None:
        return None
    # Whatever another version of TensorFlow does not take is traced again.
    try:
        return _restored(body, variables, call)
    except Exception:
        return None


def _restored(body: bytes, variables: Sequence, call: Callable) -> Callable:
    import keras
    from tensorflow.core.framework.function_pb2 import FunctionDefLibrary
    from tensorflow.python.eager import context

    head, _, graph = body.partition(b"\n")
    head, here = parse_json(head, "a trace"), context.context()
    for function in FunctionDefLibrary.FromString(graph).function:
        if not here.has_function(function.signature.name):
            here.add_function_def(function)
    skeleton = read_out(head["skeleton"])
    read = [variables[place] for place in head["captures"]]

    def run(*args):
        tensors = keras.tree.flatten(args) + [v.value.handle for v in read]
        return packed(skeleton, call(head["name"], tensors, head["outputs"]))

    return run
