"""Traces that the next process reads in place of tracing."""

import gc
import os
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.compute import compile_cache, kept_traces
from kerasdiffusion.compute.kept_traces import ENDING, KeptTraces, named
from tests.tiny import TEXTS, tiny_model

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    from tensorflow.core.protobuf.config_pb2 import ConfigProto
    from tensorflow.python.eager import context
    from tensorflow.python.framework.func_graph import FuncGraph

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="they are TensorFlow's"
)
ROOT = Path(__file__).parents[2]
Pair = named(namedtuple("Pair", "first second"))
# What a model paints and how often its programs were traced in Python or read.
PAINT = """
from kerasdiffusion.compute import operations
from tests.tiny import tiny_model

def paint():
    model = tiny_model()
    picture = model.text_to_image("a cat", num_steps=3, seed=1, progress_bar=False)
    programs = model._programs.values()
    traced = sum(p._traced for p in programs)
    found = sum(p._kept.found for p in programs)
    print(traced, found, sum(model.traces.values()), picture.astype(int).sum())

paint()
{more}
"""


def make_dense(kernel=1.0, units=2, **options):
    """As another process would: nothing is shared but the numbers."""
    dense = keras.layers.Dense(units, name="dense", **options)
    dense.build((None, 3))
    dense.kernel.assign(np.full((3, units), kernel))
    return dense


def traced(folder, dense, *args, function=None, facts="dense"):
    """The result, and whether Python ran for it."""
    calls = []

    def call(*args):
        calls.append(args)
        return (function or dense)(*args)

    kept = KeptTraces(call, [dense], facts, folder)
    result = kept(*keras.tree.map_structure(ops.convert_to_tensor, args))
    for thread in threading.enumerate():
        if thread.name == "traces":
            thread.join()
    assert len(calls) + kept.found == 1
    return keras.tree.map_structure(ops.convert_to_numpy, result), bool(calls)


def files(folder):
    return {path: path.read_bytes() for path in folder.glob(f"*{ENDING}")}


X = np.ones((4, 3), "float32")


def test_the_next_one_reads_it_and_has_weights_of_its_own(tmp_path):
    first, was_traced = traced(tmp_path, make_dense(), X)
    assert was_traced and len(files(tmp_path)) == 1
    dense = make_dense(2.0)
    second, was_traced = traced(tmp_path, dense, X)
    assert not was_traced
    np.testing.assert_array_equal(second, 2.0 * first)


def test_weights_may_change_later(tmp_path):
    traced(tmp_path, make_dense(), X)
    dense = make_dense()
    kept = KeptTraces(dense, [dense], "dense", tmp_path)
    before = ops.convert_to_numpy(kept(ops.convert_to_tensor(X)))
    dense.kernel.assign(dense.kernel * 3.0)
    after = ops.convert_to_numpy(kept(ops.convert_to_tensor(X)))
    assert kept.found == 1
    np.testing.assert_array_equal(after, 3.0 * before)


def test_structures_come_back_as_they_were(tmp_path):
    def function(given):
        y = ops.while_loop(lambda x: ops.sum(x) < 100.0, lambda x: x * 2.0, given["x"])
        return Pair(y, {"b": [y + given["b"]], "a": (y,)})

    given = {"x": X, "b": np.float32(1.0)}
    results = [
        traced(tmp_path, make_dense(), given, function=function)[0] for _ in range(2)
    ]
    for found in results:
        assert type(found) is Pair and type(found.second["a"]) is tuple
        assert (found.first == 16.0).all() and (found.second["b"][0] == 17.0).all()
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"dense": {"activation": "relu"}},
        {"dense": {"dtype": "mixed_bfloat16"}},
        {"dense": {"units": 5}},
        {"dense": {"use_bias": False}},
        {"x": X[:2]},
        {"x": X.astype("float64")},
        {"facts": "another"},
    ],
    ids=str,
)
def test_of_what_is_not_the_same_there_is_another(tmp_path, other):
    traced(tmp_path, make_dense(), X)
    dense = make_dense(**other.get("dense", {}))
    facts = other.get("facts", "dense")
    _, was_traced = traced(tmp_path, dense, other.get("x", X), facts=facts)
    assert was_traced and len(files(tmp_path)) == 2


@pytest.mark.parametrize("rewritten", [True, False])
def test_it_computes_the_same_with_and_without_the_graph_optimizer(tmp_path, rewritten):
    dense, x = make_dense(0.5), ops.convert_to_tensor(X)
    for folder in (None, tmp_path, tmp_path):
        kept = KeptTraces(dense, [dense], "dense", folder, rewritten)
        np.testing.assert_allclose(kept(x), 1.5 * np.ones((4, 2)), rtol=1e-6)
        for thread in threading.enumerate():
            if thread.name == "traces":
                thread.join()
    assert kept.found == 1


def test_no_rewriting_is_asked_for_this_call_alone():
    here = context.context()
    before = here.function_call_options.as_attrs()
    asked = []

    class Watching:
        """The context, which says how functions are called."""

        def __getattr__(self, name):
            return getattr(here, name)

        def __setattr__(self, name, value):
            setattr(here, name, value)

        def call_function(self, *args):
            asked.append(here.function_call_options.as_attrs()["config_proto"])
            return here.call_function(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "context", Watching)
        for rewritten in (True, False):
            kept = KeptTraces(lambda x: 2.0 * x, [], None, None, rewritten)
            np.testing.assert_array_equal(kept(ops.convert_to_tensor(X)), 2.0 * X)
    off = [ConfigProto.FromString(each).graph_options.rewrite_options for each in asked]
    assert [each.disable_meta_optimizer for each in off] == [False, True]
    assert here.function_call_options.as_attrs() == before


def test_operations_run_beside_each_other():
    together = threading.Barrier(2, timeout=20)

    def meet(x):
        together.wait()
        return x

    def function(x):
        kind = {"Tout": x.dtype, "stateful": False}
        return [tf.numpy_function(meet, [each], **kind) for each in (x, 2 * x)]

    found = KeptTraces(function, [], None, None)(ops.convert_to_tensor(X))
    np.testing.assert_array_equal(found, [X, 2 * X])


def test_a_broken_file_is_traced_again_and_replaced(tmp_path):
    expected, _ = traced(tmp_path, make_dense(), X)
    ((path, whole),) = files(tmp_path).items()
    for broken in (whole[:-7], whole.replace(b"dense", b"dancy"), b""):
        path.write_bytes(broken)
        found, was_traced = traced(tmp_path, make_dense(), X)
        np.testing.assert_array_equal(found, expected)
        assert was_traced and len(files(tmp_path)[path]) == len(whole)
    assert not traced(tmp_path, make_dense(), X)[1]


def test_what_holds_a_tensor_is_not_kept(tmp_path):
    """It would be this process's."""
    held = ops.convert_to_tensor(X)
    dense = make_dense()
    for _ in range(2):
        found, was_traced = traced(
            tmp_path, dense, X, function=lambda x: dense(x + held)
        )
        assert was_traced and (found == 6.0).all()
    assert not files(tmp_path)


def test_a_folder_that_cannot_be_written_to_is_none(tmp_path):
    assert traced(tmp_path / "missing", make_dense(), X)[1]


def test_a_folder_does_not_grow_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("kerasdiffusion.compute.kept_traces.MOST", 3)
    for n in range(1, 7):
        traced(tmp_path, make_dense(), np.ones((n, 3), "float32"))
        os.utime(max(files(tmp_path), key=os.path.getmtime), (n, n))
    assert len(files(tmp_path)) == 3


def test_a_file_has_nothing_called_but_registered_tuples(tmp_path):
    """Not what is imported here, though the file names it and its sum is right."""
    Other = namedtuple("Other", "first")
    for _ in range(2):
        found, was_traced = traced(tmp_path, make_dense(), X, function=Other)
        assert was_traced and type(found) is Other and not files(tmp_path)
    for kind in (["os", "system"], "system", "Pair.__init__", ["__main__", "Pair"], {}):
        with pytest.raises((KeyError, TypeError)):
            kept_traces.read_out({"named": ["true"], "type": kind})


def test_a_clock_that_was_set_back_makes_nothing_the_oldest(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_traces, "MOST", 3)
    ahead = time.time() + 10**6
    for name in "abc":
        path = tmp_path / f"{name}{ENDING}"
        path.touch()
        os.utime(path, (ahead, ahead))
    for name in "def":
        path = tmp_path / f"{name}{ENDING}"
        path.touch()
        kept_traces.give_way(path)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["d", "e", "f"]


def test_a_full_disk_leaves_no_part(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert traced(tmp_path, make_dense(), X)[1]
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_gone_leaves_no_graph(monkeypatch):
    """TensorFlow's own SiLU would."""
    monkeypatch.setattr(compile_cache, "keep_programs", lambda _: None)

    def graphs():
        gc.collect()
        return {id(each) for each in gc.get_objects() if isinstance(each, FuncGraph)}

    model, before = tiny_model(), graphs()
    assert model.text_to_image(TEXTS[0], num_steps=1, progress_bar=False).std() > 5
    assert graphs() - before
    del model
    assert not graphs() - before


def test_nothing_of_tracing_is_left_where_memory_is_short(tmp_path):
    gc.collect()
    before = {id(each) for each in gc.get_objects() if isinstance(each, FuncGraph)}
    dense = make_dense()
    run = KeptTraces(lambda x: dense(x), [dense], "dense", tmp_path, sparing=True)
    x = tf.ones((1, 3))
    for _ in range(2):
        np.testing.assert_allclose(run(x), [[3.0, 3.0]])
    graphs = {id(each) for each in gc.get_objects() if isinstance(each, FuncGraph)}
    assert not graphs - before
    dense.kernel.assign(np.full((3, 2), 2.0))
    np.testing.assert_allclose(run(x), [[6.0, 6.0]])
    assert len(list(tmp_path.glob(f"*{ENDING}"))) == 1 and not run.found


def paint(folder, more=""):
    """What `PAINT` prints in a process of its own, with a folder of its own."""
    others = {k: v for k, v in os.environ.items() if k != "TF_XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", PAINT.format(more=more)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**others, compile_cache.SWITCH: str(folder)},
        check=True,
    )
    return [list(map(int, line.split())) for line in done.stdout.splitlines()]


def test_the_next_process_traces_nothing_and_paints_the_same(tmp_path):
    ((traced, found, together, first),) = paint(tmp_path)
    assert (traced, found, together) == (3, 0, 3)
    # Where the code is another, so are the programs that run through it.
    more = "operations.gelu = lambda x: x; paint()"
    (traced, found, together, second), (*other, third) = paint(tmp_path, more)
    assert (traced, found, together) == (0, 3, 3)
    assert second == first
    assert other == [3, 0, 3] and third != first
