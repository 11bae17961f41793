import threading

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.compute import backend, operations
from tests.models.test_layers import grouped

IS_TORCH = keras.backend.backend() == "torch"
RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def attended(query, key, value, causal):
    """Attention in float64, written out."""
    query, key, value = (x.astype("float64") for x in (query, key, value))
    logits = np.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(query.shape[-1])
    if causal:
        logits = np.where(np.tri(*logits.shape[-2:], dtype=bool), logits, -np.inf)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhqk,bkhd->bqhd", weights, value)


@pytest.mark.every_backend
@pytest.mark.parametrize("causal", [False, True])
def test_attention(causal):
    query, key, value = normal(2, 6, 3, 4), normal(2, 6, 3, 4), normal(2, 6, 3, 4)
    found = ops.convert_to_numpy(operations.attention(query, key, value, causal=causal))
    assert found == pytest.approx(attended(query, key, value, causal), abs=1e-5)


@pytest.mark.every_backend
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_softmax_is_computed_in_float32(dtype):
    """Of 4,000 like keys: their sum would stick at 256 or 2048 in half precision."""
    query, key = np.zeros((1, 2, 1, 4), "float32"), normal(1, 4000, 1, 4)
    value = np.zeros((1, 4000, 1, 4), "float32")
    value[:, :4] = 100
    halves = (ops.cast(x, dtype) for x in (query, key, value))
    found = operations.attention(*halves)
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    found = ops.convert_to_numpy(ops.cast(found, "float32"))
    assert found == pytest.approx(np.full_like(found, 0.1), rel=1e-2)


@pytest.mark.every_backend
def test_group_norm():
    x, gamma, beta = normal(2, 3, 4, 6), normal(6), normal(6)
    tensors = map(ops.convert_to_tensor, (x, gamma, beta))
    found = ops.convert_to_numpy(operations.group_norm(*tensors, 3, 1e-5))
    assert found == pytest.approx(grouped(x, 3, 1e-5) * gamma + beta, abs=1e-5)


@pytest.mark.every_backend
def test_a_program_is_traced_once_for_each_signature():
    dense = keras.layers.Dense(2)
    dense.build((None, 3))
    program = backend.Program(lambda inputs, bias: dense(inputs["x"]) + bias, [dense])
    x = normal(4, 3)
    for bias in (np.float32(1.5), np.float32(-2)):
        found = backend.to_numpy(program({"x": x}, bias))
        expected = x @ ops.convert_to_numpy(dense.kernel) + bias
        assert found == pytest.approx(expected, abs=1e-5)
    assert program.traces == (0 if IS_TORCH else 1)
    program({"x": x[:3]}, bias)
    assert program.traces == (0 if IS_TORCH else 2)


@pytest.mark.every_backend
def test_a_program_is_compiled_while_its_weights_are_read():
    dense = keras.layers.Dense(2, use_bias=False)
    dense.build((None, 3))
    x, kernel, traces = normal(4, 3), normal(3, 2), []

    def weights_arrive():
        traces.append(program.traces)
        dense.kernel.assign(kernel)

    program = backend.Program(dense, [dense], ready=weights_arrive)
    for _ in range(2):
        assert backend.to_numpy(program(x)) == pytest.approx(x @ kernel, abs=1e-5)
    assert traces == [0 if IS_TORCH else 1]  # before them, and they came once
    assert program.traces == (0 if IS_TORCH else 1)


@pytest.mark.every_backend
def test_a_program_is_compiled_in_a_thread():
    dense = keras.layers.Dense(2)
    dense.build((None, 3))
    threads, x = [], normal(4, 3)

    def function(inputs):
        threads.append(threading.current_thread().name)
        return dense(inputs)

    program = backend.Program(function, [dense])
    program.compile_soon(x)
    found = backend.to_numpy(program(x))
    expected = x @ ops.convert_to_numpy(dense.kernel)
    assert found == pytest.approx(expected, abs=1e-5)
    assert threads == [threading.main_thread().name if IS_TORCH else "compiler"]


@pytest.mark.every_backend
def test_a_loop_is_prepared_ahead_of_its_weights():
    dense = keras.layers.Dense(3, use_bias=False)
    dense.build((None, 3))
    kernel, seen = normal(3, 3), []

    def function(x, stop):
        return backend.while_loop(
            lambda i, _: i < stop, lambda i, x: (i + 1, dense(x)), (np.int32(0), x)
        )[1]

    def idle(x, stop):
        seen.append("idle")
        return x, 0 * stop

    def weights_arrive():
        seen.append("ready")
        dense.kernel.assign(kernel)

    program = backend.Program(function, [dense], ready=weights_arrive, idle=idle)
    x = normal(4, 3)
    for _ in range(2):
        found = backend.to_numpy(program(x, np.int32(2)))
        assert found == pytest.approx(x @ kernel @ kernel, abs=1e-4)
    is_prepared = keras.backend.backend() == "tensorflow"
    assert seen == (["idle"] if is_prepared else []) + ["ready"]


def test_what_fails_in_a_thread_is_raised_by_the_call():
    def function(x):
        raise ArithmeticError("no")

    program = backend.Program(function, [])
    program.compile_soon(normal(4, 3))
    with pytest.raises(ArithmeticError):
        program(normal(4, 3))


@pytest.mark.every_backend
def test_a_program_reads_the_weights_of_the_moment():
    dense = keras.layers.Dense(2, use_bias=False)
    dense.build((None, 3))
    program = backend.Program(dense, [dense])
    x = normal(4, 3)
    program(x)
    kernel = normal(3, 2)
    dense.kernel.assign(kernel)
    assert backend.to_numpy(program(x)) == pytest.approx(x @ kernel, abs=1e-5)


@pytest.mark.every_backend
def test_a_program_records_no_gradients():
    dense = keras.layers.Dense(2)
    dense.build((None, 3))
    out = backend.Program(dense, [dense])(normal(4, 3))
    assert not getattr(out, "requires_grad", False)
    assert backend.to_numpy(out).dtype == np.float32


@pytest.mark.skipif(IS_TORCH, reason="torch.compile needs a C++ compiler")
@pytest.mark.every_backend
def test_xla_computes_the_same():
    dense = keras.layers.Dense(2, activation="gelu")
    dense.build((None, 3))
    x = normal(4, 3)
    plain = backend.to_numpy(backend.Program(dense, [dense])(x))
    fused = backend.to_numpy(backend.Program(dense, [dense], jit_compile=True)(x))
    assert fused == pytest.approx(plain, abs=1e-5)


def accelerated(monkeypatch, found, bfloat16=True):
    monkeypatch.setattr(backend, "has_accelerator", lambda: found)
    monkeypatch.setattr(backend, "_multiplies_bfloat16", lambda: bfloat16)


@pytest.mark.every_backend
def test_jit_compile(monkeypatch):
    name = keras.backend.backend()
    accelerated(monkeypatch, False)
    assert backend.resolve_jit_compile("auto") == (name == "jax")
    accelerated(monkeypatch, True)
    assert backend.resolve_jit_compile("auto") == (name != "torch")
    assert backend.resolve_jit_compile(True) is True
    assert backend.resolve_jit_compile(False) is False
    for wrong in ("yes", None, 1):
        with pytest.raises(ValueError, match="`jit_compile` must be True, False, "):
            backend.resolve_jit_compile(wrong)


def test_precision(monkeypatch):
    accelerated(monkeypatch, False)
    assert backend.resolve_precision("auto") == "float32"
    assert backend.resolve_precision(None) == "float32"
    accelerated(monkeypatch, True)
    assert backend.resolve_precision("auto") == "bfloat16"
    accelerated(monkeypatch, True, bfloat16=False)
    assert backend.resolve_precision("auto") == "float16"
    assert backend.resolve_precision("mixed_bfloat16") == "mixed_bfloat16"
    keras.config.set_dtype_policy("mixed_float16")
    try:
        assert backend.resolve_precision("auto") == "mixed_float16"
        assert backend.resolve_precision("float32") == "float32"
    finally:
        keras.config.set_dtype_policy("float32")
    with pytest.raises(ValueError, match="`precision` must be one of auto.*: 'int8'"):
        backend.resolve_precision("int8")


@pytest.mark.every_backend
def test_a_cpu_that_multiplies_bfloat16_takes_it(monkeypatch, tmp_path):
    accelerated(monkeypatch, False)
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr(backend, "CPUINFO", cpuinfo)
    assert backend.resolve_precision("auto") == "float32"  # no Linux, no such file
    cpuinfo.write_text("flags\t\t: fpu avx512f avx512_bf16_like\n")
    assert backend.resolve_precision("auto") == "float32"
    # XLA does not use what is there.
    found = "float32" if keras.backend.backend() == "jax" else "bfloat16"
    for flag in ("avx512_bf16", "amx_bf16"):
        cpuinfo.write_text(f"flags\t\t: fpu avx512f {flag} amx_tile\n")
        assert backend.resolve_precision("auto") == found
    assert backend.describe_machine()["precision"] == found
    assert backend.resolve_precision("float32") == "float32"


@pytest.mark.every_backend
def test_the_machine_in_words(monkeypatch):
    accelerated(monkeypatch, True)
    name = keras.backend.backend()
    assert backend.describe_machine() == {
        "backend": name,
        "device": "GPU or TPU",
        "precision": "bfloat16",
        "compiled by": "the backend's own means" if IS_TORCH else "XLA",
    }
    accelerated(monkeypatch, False)
    assert backend.describe_machine()["device"] == "CPU"
    assert backend.describe_machine()["precision"] == "float32"


@pytest.mark.every_backend
def test_the_accelerator_is_asked_for():
    """Whatever the machine has, asking works, and a CPU's answer is a plain bool."""
    assert backend.has_accelerator() in (True, False)
    if not backend.has_accelerator():
        assert backend.resolve_precision("auto") == "float32"


def test_empty_weights_nest_and_end():
    assert backend.initializer() == "glorot_uniform"
    assert backend.initializer("ones") == "ones"
    with backend.empty_weights():
        with backend.empty_weights(False):
            made = backend.initializer("ones")((2, 3), "bfloat16")
            assert keras.backend.standardize_dtype(made.dtype) == "bfloat16"
            assert (backend.to_numpy(ops.cast(made, "float32")) == 1).all()
        assert (backend.to_numpy(backend.initializer()((2, 3))) == 0.0).all()
    with pytest.raises(RuntimeError), backend.empty_weights():
        raise RuntimeError
    assert backend.initializer() == "glorot_uniform"


@pytest.mark.every_backend
@pytest.mark.parametrize("device", ["cpu", "old gpu", "gpu", "tpu"])
def test_a_large_attention_map_is_made_in_pieces(monkeypatch, device):
    random = np.random.default_rng(0)
    query, key, value = random.normal(size=(3, 2, 24, 3, 8)).astype("float32")
    expected = backend.to_numpy(operations.attention(query, key, value))
    seen = []

    def watch(module, name):
        attend = getattr(module, name)

        def watched(query, *args, flash_attention=False, **options):
            if flash_attention and device != "gpu":
                raise NotImplementedError("as JAX says where there is no kernel")
            # Left the choice, Keras takes a kernel on TPUs that is always causal.
            assert flash_attention is not None or backend_name == "torch"
            seen.append(query.shape)
            return attend(query, *args, **options)

        monkeypatch.setattr(module, name, watched)

    backend_name = keras.backend.backend()
    watch(keras.ops, "dot_product_attention")
    watch(operations, "_attention_by_products")
    monkeypatch.setattr(backend, "has_accelerator", lambda: device != "cpu")
    has_flash = backend_name == "jax" and device in ("old gpu", "gpu")
    monkeypatch.setattr(operations, "_has_flash_attention", lambda: has_flash)
    for name in ("MAX_SCORES", "PIECE"):
        monkeypatch.setattr(operations, name, 2 * 6 * 3 * 24)
    found = backend.to_numpy(operations.attention(query, key, value))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # Neither cuDNN's kernel nor PyTorch makes a map.
    whole = backend_name == "torch" or (has_flash and device == "gpu")
    assert all(shape[1] == (24 if whole else 6) for shape in seen) and seen


@pytest.mark.every_backend
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_products_alone_give_what_attention_is(dtype):
    random = np.random.default_rng(0)
    query, key, value = random.normal(size=(3, 2, 24, 3, 8)).astype("float32")
    given = [ops.cast(x, dtype) for x in (query, key, value)]
    found = operations._attention_by_products(*given)
    expected = operations.attention(query, key, value)
    bar = {"float32": 1e-6, "float16": 2e-3, "bfloat16": 2e-2}[dtype]
    found, expected = (
        backend.to_numpy(ops.cast(x, "float32")) for x in (found, expected)
    )
    np.testing.assert_allclose(found, expected, atol=bar)


@pytest.mark.every_backend
@pytest.mark.parametrize("has_flash", [False, True])
def test_attention_knows_shapes_without_values(monkeypatch, has_flash):
    """As networks are built, which is so on accelerators too."""
    monkeypatch.setattr(backend, "has_accelerator", lambda: True)
    monkeypatch.setattr(operations, "_has_flash_attention", lambda: has_flash)
    query = keras.KerasTensor((2, 24, 3, 8), "bfloat16")
    found = operations.attention(query, query, query)
    assert found.shape == query.shape and found.dtype == "bfloat16"


@pytest.mark.every_backend
def test_scores_beyond_float16_leave_numbers():
    """As in SD 2.1, whose attention is known to overflow."""
    large = ops.cast(np.full((1, 4, 1, 8), 300.0), "float16")  # 8 * 300 ** 2 = 720000
    value = ops.cast(np.arange(4.0).reshape(1, 4, 1, 1), "float16")
    for query in (large, -large):
        found = operations._attention_by_products(query, large, value)
        assert backend.to_numpy(ops.cast(found, "float32")) == pytest.approx(1.5)
