"""What TensorFlow does to a graph ahead of its first run, left out where it costs more
than it gains.

Its optimizer goes over the graph, in seconds or minutes for a large one. And it writes
out each operation's stack, file by file, for its messages: for a training step of
Stable Diffusion 1 that is a third of a gigabyte, which stays.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator

from kerasdiffusion.compute import heap


@contextlib.contextmanager
def unrewritten() -> Iterator[None]:
    """Within it, functions that TensorFlow traces or runs first stay as they are."""
    from tensorflow.python.eager import context

    here = context.context()
    before = here.function_call_options
    here.function_call_options = _without_rewriting(before)
    try:
        yield
    finally:
        here.function_call_options = before


def _without_rewriting(options):
    """The same ways of calling functions, without a graph optimizer."""
    from tensorflow.core.protobuf.config_pb2 import ConfigProto

    config = ConfigProto.FromString(options.config_proto_serialized)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return type(options)(options.executor_type, config)


@contextlib.contextmanager
def unexplained() -> Iterator[None]:
    """Within it, what is traced remembers its callers' lines, and not these libraries'.

    An operation's name says which layer it is of.
    """
    from tensorflow.python.util.tf_stack import StackTraceFilter

    class Libraries(StackTraceFilter):
        def get_filtered_filenames(self):
            return self.parent.get_filtered_filenames() | _files()

    with Libraries():
        yield


@functools.cache
def _files() -> frozenset[str]:
    """Of this library, of Keras and of TensorFlow."""
    from tensorflow.python.framework import ops
    from tensorflow.python.util import tf_stack

    libraries = ("kerasdiffusion", "keras", "tensorflow")
    files = {
        getattr(module, "__file__", None)
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in libraries
    }
    # TensorFlow cuts the last lines off itself: they are of these.
    return frozenset(files - {None, ops.__file__, tf_stack.__file__})


def kept_as_traced(function: Callable, jit_compile: bool) -> Callable:
    """A step that TensorFlow runs on a CPU as it was traced; elsewhere as it is.

    Args:
        function: What traces and runs it.
        jit_compile: Whether XLA compiles it.
    """
    import keras

    from kerasdiffusion.compute.backend import has_accelerator

    if keras.backend.backend() != "tensorflow" or jit_compile or has_accelerator():
        return function
    heap.keep_freed_pages()  # else a step faults in each activation and wide kernel

    @functools.wraps(function)
    def run(*args, **kwargs):
        with unrewritten(), unexplained():
            return function(*args, **kwargs)

    return run
