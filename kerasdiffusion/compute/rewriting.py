"""TensorFlow's graph optimizer, left out where it costs more than it gains.

It goes over a graph ahead of its first run, in seconds or minutes for a large one.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator


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

    @functools.wraps(function)
    def run(*args, **kwargs):
        with unrewritten():
            return function(*args, **kwargs)

    return run
