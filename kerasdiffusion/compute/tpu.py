"""What only TPUs have: their attention kernel, and programs compiled without a TPU.

For JAX alone, which is imported where it is needed: `backend` calls this file.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Queries of one piece of the kernel, and the fewest that are worth one.
QUERIES, FEWEST = 128, 256
#: Bytes of a chip's own memory (VMEM, 128 MiB from v5e on) that a kernel may take.
VMEM = 100 * 2**20


@dataclass(frozen=True)
class Chip:
    """What a chip can do, by its maker's data sheet.

    Args:
        name: As jobs name its accelerators, with the number of chips at the end.
        flops: bfloat16 operations a second.
        bandwidth: Bytes a second from and to its memory.
        memory: Bytes of its memory.
    """

    name: str
    flops: float
    bandwidth: float
    memory: float


#: https://cloud.google.com/tpu/docs/v5e and .../v6e
CHIPS = {
    "v5e": Chip("v5litepod", 197e12, 819e9, 16e9),
    "v6e": Chip("v6e", 918e12, 1640e9, 32e9),
}
COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)

_target = None  # the mesh that programs are being compiled for


def is_target() -> bool:
    """Whether a program is being compiled for chips that need not be there."""
    return _target is not None


def has_kernel(query, key) -> bool:
    """Whether `attention` takes these: long enough, and not too long for a chip."""
    import jax

    if query.dtype != "bfloat16" or query.shape[1] < FEWEST:
        return False
    if query.shape[1] % QUERIES or _bytes_of_vmem(query, key) > VMEM:
        return False
    if is_target():
        return True
    if jax.__version_info__ < (0, 7):
        return False
    # Older chips have an eighth of the memory that is meant here.
    device = jax.devices()[0]
    kind = re.match(r"TPU v(\d+)", device.device_kind)
    return device.platform == "tpu" and bool(kind) and int(kind[1]) >= 5


def _bytes_of_vmem(query, key) -> int:
    _, keys, heads, width = key.shape
    lanes = -(-heads * width // 128) * 128
    # Keys and values twice, as the next are fetched; scores and their exponentials.
    return 2 * 2 * keys * lanes * 2 + 3 * QUERIES * keys * 4


def attention(query, key, value, plain: Callable, interpret: bool = False):
    """Attention whose scores never leave the chip.

    A piece of the queries meets all keys of one picture at once, head by head. The
    tensors stay as the projections made them, heads side by side, so that nothing is
    transposed or padded in memory.

    Args:
        query: Tensor of shape `(batch, queries, heads, head_width)`, bfloat16.
        key: Tensor of shape `(batch, keys, heads, head_width)`.
        value: Tensor of the shape of `key`.
        plain: The same function without a kernel, for the gradients.
        interpret: Whether to run on the CPU, slowly, for tests.

    Returns:
        Tensor of the shape of `query`.

    Reference:
        Rabe and Staats 2021, "Self-attention Does Not Need O(n^2) Memory"; Dao et al.
        2022, "FlashAttention".
    """
    import jax

    kernel = functools.partial(_attention, interpret=interpret)
    mesh = _mesh()
    if mesh is not None and mesh.size > 1:
        # The compiler cannot divide a kernel among chips.
        spec = _by_batch(mesh, query)
        kernel = jax.shard_map(
            kernel, mesh=mesh, in_specs=(spec,) * 3, out_specs=spec, check_vma=False
        )
    run = jax.custom_vjp(kernel)
    run.defvjp(
        lambda *args: (kernel(*args), args),
        lambda args, gradient: jax.vjp(plain, *args)[1](gradient),
    )
    return run(query, key, value)


def _attention(query, key, value, interpret):
    import jax
    from jax.experimental import pallas
    from jax.experimental.pallas import tpu

    batch, queries, heads, width = query.shape
    keys, channels = key.shape[1], heads * width
    scores = batch * heads * queries * keys
    blocks = [
        pallas.BlockSpec((1, QUERIES, channels), lambda i, j: (i, j, 0)),
        pallas.BlockSpec((1, keys, channels), lambda i, j: (i, 0, 0)),
        pallas.BlockSpec((1, keys, channels), lambda i, j: (i, 0, 0)),
    ]
    flat = [x.reshape(*x.shape[:2], channels) for x in (query, key, value)]
    out = pallas.pallas_call(
        functools.partial(_kernel, heads=heads),
        grid=(batch, queries // QUERIES),
        in_specs=blocks,
        out_specs=blocks[0],
        out_shape=jax.ShapeDtypeStruct(flat[0].shape, query.dtype),
        compiler_params=tpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=VMEM
        ),
        cost_estimate=pallas.CostEstimate(
            flops=4 * scores * width,
            bytes_accessed=2 * (2 * query.size + key.size + value.size),
            transcendentals=scores,
        ),
        interpret=interpret,
    )(*flat)
    return out.reshape(query.shape)


def _kernel(query, key, value, out, heads):
    """A piece of the queries of a picture, `(1, QUERIES, channels)`, and all keys."""
    import jax
    import jax.numpy as jnp

    width = query.shape[-1] // heads
    product = functools.partial(jax.lax.dot_general, preferred_element_type=jnp.float32)
    for head in range(heads):
        at = slice(head * width, (head + 1) * width)
        scores = product(query[0, :, at], key[0, :, at], (((1,), (1,)), ((), ())))
        scores = scores * (1.0 / math.sqrt(width))
        weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
        total = jnp.sum(weights, axis=-1, keepdims=True)
        weights = weights.astype(value.dtype)
        sums = product(weights, value[0, :, at], (((1,), (0,)), ((), ())))
        out[0, :, at] = (sums / total).astype(out.dtype)


def spread(x):
    """As `backend.spread`, on the chips that a program is made for."""
    import jax

    mesh = _mesh()
    if mesh is None or mesh.size == 1:
        return x
    sharding = jax.sharding.NamedSharding(mesh, _by_batch(mesh, x))
    return jax.lax.with_sharding_constraint(x, sharding)


def devices() -> int:
    """How many devices `spread` spreads over."""
    mesh = _mesh()
    return 1 if mesh is None else mesh.shape[mesh.axis_names[0]]


def _by_batch(mesh, x):
    """The first axis over the mesh's first, where it divides; else whole."""
    import jax

    axis = mesh.axis_names[0]
    whole = x.shape[0] % mesh.shape[axis]
    return jax.sharding.PartitionSpec(None if whole else axis)


def _mesh():
    """The devices that programs are made for, if several may be meant."""
    import keras

    if _target is not None:
        return _target
    distribution = keras.distribution.distribution()
    return distribution and distribution.device_mesh.backend_mesh


def prepare_environment(chip: str, shape: str) -> None:
    """Sets what lets libtpu compile where there is no TPU; before JAX is imported."""
    count = math.prod(map(int, shape.split("x")))
    os.environ |= {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_LOG_DIR": "disabled",
        "TPU_ACCELERATOR_TYPE": f"{CHIPS[chip].name}-{count}",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
        # No TPU is touched: another such process need not be waited for.
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }


def topology_mesh(chip: str, shape: str):
    """The chips of a topology as a `jax.sharding.Mesh` of one axis, `"batch"`.

    Raises:
        ValueError: If libtpu is not installed or knows no such topology.
    """
    import jax
    import numpy as np
    from jax.experimental import topologies

    try:
        found = topologies.get_topology_desc(
            platform="tpu", topology_name=f"{chip}:{shape}"
        )
    except Exception as error:  # whatever the plugin raises
        raise ValueError(
            "A topology is one that libtpu knows, which must be installed: pip install "
            f"libtpu. Received: {chip}:{shape} ({str(error).splitlines()[0]})"
        ) from error
    return jax.sharding.Mesh(np.array(found.devices), ("batch",))


@contextlib.contextmanager
def abstract_weights():
    """Within it, variables are made with shapes and dtypes, and without values.

    For a process that does nothing else: at the end of another `keras.StatelessScope`,
    Keras gives them values.
    """
    import keras

    with keras.StatelessScope(initialize_variables=False):
        yield


def compile_for(
    mesh,
    function: Callable,
    layers: Sequence,
    args: Any,
    axes: Any,
    shard_weights: bool = False,
) -> dict[str, float]:
    """Compiles a program by XLA for chips that need not be there.

    Args:
        mesh: As from `topology_mesh`.
        function: Takes and returns nested structures of tensors.
        layers: The Keras layers that it calls, made within `abstract_weights()`.
        args: What it takes: nested structures of `jax.ShapeDtypeStruct`.
        axes: Of the structure of `args`: the axis that is spread over the chips, or
            -1 for what each has whole.
        shard_weights: Whether each chip holds only its share of the weights, along
            `shared_axis`.

    Returns:
        Of one chip: bytes of memory by `"arguments"`, `"temporaries"` and `"outputs"`;
        `"flops"` and `"bytes"` that it computes and moves; how often the program has
        each of `COLLECTIVES`.
    """
    import jax
    import keras

    variables = [variable for layer in layers for variable in layer.variables]

    def stateless(values, args):
        mapping = list(zip(variables, values, strict=True))
        with keras.StatelessScope(mapping, initialize_variables=False):
            return function(*args)

    values = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in variables]
    shares = [_share(mesh, v.shape, shard_weights) for v in variables]
    return compile_stateless(mesh, stateless, (values, args), (shares, axes))


def compile_training(
    mesh, trainer, batch: Any, shard_weights: bool = False
) -> dict[str, float]:
    """Compiles the step of a trainer as `fit()` runs it, which replaces its state.

    Args:
        mesh: As from `topology_mesh`.
        trainer: A compiled Keras model on JAX, made within `abstract_weights()`, its
            optimizer built.
        batch: What `fit()` takes: nested structures of `jax.ShapeDtypeStruct`, of
            which each chip has its part.
        shard_weights: As in `compile_for`.

    Returns:
        As `compile_for`.
    """
    import jax

    state = tuple(
        [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in variables]
        for variables in (
            trainer.trainable_variables,
            trainer.non_trainable_variables,
            trainer.optimizer.variables,
            trainer.metrics_variables,
        )
    )
    shares = jax.tree.map(lambda x: _share(mesh, x.shape, shard_weights), state)
    axes = jax.tree.map(lambda _: 0, batch)

    def step(state, batch):
        with abstract_weights():  # else Keras gives them values
            logs, state = trainer.train_step(state, (batch,))
        return state, logs

    return compile_stateless(mesh, step, (state, batch), (shares, axes), donate=(0,))


def _share(mesh, shape, shard_weights: bool) -> int:
    """The axis of a weight that is spread over the chips, or -1."""
    return shared_axis(shape, mesh.size) if shard_weights else -1


def compile_stateless(mesh, function, args, axes, donate=()) -> dict[str, float]:
    """As `compile_for`, of a function that depends on its arguments alone.

    Args:
        mesh: As there.
        function: It.
        args: As there.
        axes: As there.
        donate: Places of arguments whose memory the results may have.
    """
    global _target
    import jax

    def spread(axis):
        axes = () if axis < 0 else (None,) * axis + mesh.axis_names
        return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))

    how = {"in_shardings": jax.tree.map(spread, axes), "donate_argnums": donate}
    before, _target = _target, mesh
    try:
        lowered = jax.jit(function, **how).lower(*args)
    finally:
        _target = before
    with tempfile.TemporaryDirectory() as folder:
        # Its text is what the compiler writes itself: for a v6e, libtpu 0.0.52 fails as
        # it hands a large program over.
        dump = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
        compiled = lowered.compile(dump)
        (text,) = Path(folder).glob("*.after_optimizations.txt")
        return _facts(compiled, text.read_text("utf-8"))


def shared_axis(shape: Sequence[int], count: int) -> int:
    """The last axis that divides by the number of devices; -1 where none does."""
    return max((i for i, n in enumerate(shape) if n % count == 0), default=-1)


def _facts(compiled, text: str) -> dict[str, float]:
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    found = {
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "flops": cost["flops"],
        "bytes": cost["bytes accessed"],
    }
    for name in COLLECTIVES:  # asynchronous ones have a start and a done
        found[name] = len(re.findall(rf" {name}(?:-start)?\(", text))
    return found
