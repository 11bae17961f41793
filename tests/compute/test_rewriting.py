"""What runs as it was traced, and keeps its memory at hand."""

import keras
import tensorflow as tf
from tensorflow.core.protobuf.config_pb2 import ConfigProto
from tensorflow.python.eager import context

from kerasdiffusion.compute import heap
from kerasdiffusion.compute.rewriting import kept_as_traced, unexplained


def rewrites() -> bool:
    text = context.context().function_call_options.config_proto_serialized
    options = ConfigProto.FromString(text).graph_options.rewrite_options
    return not options.disable_meta_optimizer


def test_a_step_on_a_cpu_is_left_as_it_was_traced_and_keeps_its_pages(monkeypatch):
    kept = []
    monkeypatch.setattr(heap, "keep_freed_pages", lambda: kept.append(True))
    step = kept_as_traced(rewrites, jit_compile=False)
    assert kept == [True]
    assert rewrites() and not step() and rewrites()


def test_a_step_that_xla_compiles_is_as_it_is(monkeypatch):
    monkeypatch.delattr(heap, "keep_freed_pages")
    assert kept_as_traced(rewrites, jit_compile=True) is rewrites


def test_operations_remember_the_lines_that_are_not_of_the_libraries():
    def traced():
        function = tf.function(lambda x: keras.ops.sum(keras.ops.silu(x)))
        graph = function.get_concrete_function(tf.TensorSpec((2,))).graph
        (op,) = (op for op in graph.get_operations() if op.type == "Sum")
        return [frame.filename for frame in op.traceback]

    everything = traced()
    with unexplained():
        own = traced()
    assert __file__ in own
    left_out = [each for each in everything if each not in own]
    assert any("/keras/" in each for each in left_out)
    assert not any("/keras/" in each for each in own)
    assert len(own) < len(everything)
