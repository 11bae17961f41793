"""Models of OpenVINO's that the next process reads in place of tracing."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.compute import compile_cache, openvino_models, openvino_programs
from kerasdiffusion.compute.openvino_models import ENDING

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow traces them"
)
X = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype("float32")


class Network(keras.layers.Layer):
    """A convolution, a dense layer and a table, whose weights lie in three ways."""

    def __init__(self, filters=4):
        super().__init__(name="network")
        self.conv = keras.layers.Conv2D(filters, 3, padding="same", name="conv")
        self.dense = keras.layers.Dense(5, name="dense")
        self.table = keras.layers.Embedding(3, 5, name="table")

    def call(self, x):
        return self.dense(self.conv(x)) + self.table(ops.zeros(1, "int32"))


def network(seed=0, **options):
    """As another process would make it: nothing is shared but the numbers."""
    made = Network(**options)
    made(X)
    random = np.random.default_rng(seed)
    for variable in made.variables:
        variable.assign(random.standard_normal(variable.shape))
    return made


@pytest.fixture
def folder(tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    monkeypatch.setattr(compile_cache, "keep_programs", lambda backend: tmp_path)
    return tmp_path


def run(layer, x=X, facts="network", function=None):
    """The result, and how often Python ran for it."""
    calls = []

    def called(given):
        calls.append(given)
        result = (function or layer)(given["x"])
        return {"y": result, "pair": (result, [given["x"] * 2.0])}

    compiled = openvino_programs.Compiled(called, [layer], facts)
    found = compiled({"x": ops.convert_to_tensor(x)})
    assert compiled.read + len(calls) == compiled.compiled == 1
    assert type(found["pair"]) is tuple and type(found["pair"][1]) is list
    np.testing.assert_array_equal(found["pair"][1][0], 2.0 * x)
    return ops.convert_to_numpy(found["y"]), len(calls)


def files(folder):
    return {path: path.read_bytes() for path in folder.glob(f"*{ENDING}")}


def test_the_next_process_reads_it_and_has_weights_of_its_own(folder):
    for seed, traced in ((0, 1), (1, 0)):
        layer = network(seed)
        found, calls = run(layer)
        assert calls == traced
        assert found == pytest.approx(
            ops.convert_to_numpy(layer(X)), rel=1e-5, abs=1e-5
        )


def test_it_holds_no_weights(folder):
    """They would be as large as the network."""
    kept = []
    for filters in (4, 64):
        layer = network(filters=filters)
        run(layer)
        kernel = ops.convert_to_numpy(layer.conv.kernel)
        for whole in files(folder).values():
            for axes in (range(4), (3, 2, 0, 1)):
                row = np.transpose(kernel, list(axes)).ravel()[:8]
                assert row.tobytes() not in whole
        kept.append(sum(map(len, files(folder).values())))
    assert kept[1] < 2.1 * kept[0]


@pytest.mark.parametrize(
    "other",
    [{"layer": {"filters": 5}}, {"x": X[:1]}, {"facts": "others"}],
    ids=["layer", "shape", "facts"],
)
def test_of_what_is_not_the_same_there_is_another(folder, other):
    run(network())
    options = {name: other[name] for name in ("x", "facts") if name in other}
    _, calls = run(network(**other.get("layer", {})), **options)
    assert calls == 1 and len(files(folder)) == 2


def test_a_broken_file_is_never_read_but_replaced(folder):
    expected, _ = run(network())
    ((path, whole),) = files(folder).items()
    for broken in (whole[:-7], whole.replace(b"<layer ", b"<later ", 1), b""):
        path.write_bytes(broken)
        found, calls = run(network())
        assert calls == 1 and (found == expected).all()
    assert run(network())[1] == 0


def test_what_is_whole_but_not_understood_is_traced_again(folder):
    """Another version's, say: its sum is right."""
    expected, _ = run(network())
    ((path, _),) = files(folder).items()
    openvino_models.kept_traces.seal(path, b'{"names": []}\nno model')
    found, calls = run(network())
    assert calls == 1 and (found == expected).all()


def test_what_holds_a_tensor_is_not_kept(folder):
    """It would be this process's."""
    held, layer = ops.convert_to_tensor(X), network()
    for _ in range(2):
        found, calls = run(layer, function=lambda x: layer(x + held))
        assert calls == 1
        assert found == pytest.approx(
            ops.convert_to_numpy(layer(2 * X)), rel=1e-5, abs=1e-5
        )
    assert not files(folder)


def test_nothing_is_kept_where_that_is_off(folder, monkeypatch):
    monkeypatch.setattr(compile_cache, "keep_programs", lambda backend: None)
    assert [run(network())[1] for _ in range(2)] == [1, 1]
    assert not list(folder.iterdir())


def test_new_weights_and_sizes_that_were_seen_are_not_traced_again(folder):
    """Nor read again, in the process that has them."""
    layer, calls = network(), []

    def called(x):
        calls.append(x)
        return layer(x)

    compiled = openvino_programs.Compiled(called, [layer])
    for count, seed in ((1, 0), (1, 1), (2, 1), (1, 2), (2, 2)):
        random = np.random.default_rng(seed)
        for variable in layer.variables:
            variable.assign(random.standard_normal(variable.shape))
        x = ops.convert_to_tensor(X[:count])
        found = ops.convert_to_numpy(compiled(x))
        assert found == pytest.approx(
            ops.convert_to_numpy(layer(x)), rel=1e-5, abs=1e-5
        )
    assert (len(calls), compiled.compiled) == (2, 5)
    assert not files(folder)  # without facts, none is
