"""What depends on the Keras backend, the device or the compiler.

Everything above is written in `keras.ops` and asks here for compiled programs and for
the defaults of the machine, and `operations.py` for attention and its like.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kerasdiffusion.compute import (
    kept_traces,
    openvino_programs,
    processor,
    replicas,
    tpu,
)
from kerasdiffusion.compute.memory import collector_paused
from kerasdiffusion.compute.shortage import shortage_told, to_tensor
from kerasdiffusion.compute.within import Within

with collector_paused(importing=True):
    import keras
    from keras import ops

    from kerasdiffusion.compute import tensorflow_cpu
    from kerasdiffusion.compute.precision import FLOAT16_WEIGHTS

PRECISIONS = (
    *("auto", "float32", "float16", "bfloat16"),
    *("mixed_float16", "mixed_bfloat16", FLOAT16_WEIGHTS),
)
#: Where Linux says what the CPU can do.
CPUINFO = processor.CPUINFO


def while_loop(condition: Callable, body: Callable, state: tuple) -> tuple:
    """`ops.while_loop`; one pass where a program does not go round, see `Program`."""
    if openvino_programs.is_tracing():
        return tuple(body(*state))
    return ops.while_loop(condition, body, state)


def spread(x):
    """The batch spread over the devices of `keras.distribution`, where there is one.

    What is computed from it is spread alike. A batch that does not divide by the number
    of devices stays whole, and so does any on another backend than JAX.

    Args:
        x: Tensor whose first axis is the batch, within a `Program`.

    Returns:
        The same tensor.
    """
    return tpu.spread(x) if keras.backend.backend() == "jax" else x


def has_accelerator() -> bool:
    """Whether the backend sees a GPU or a TPU, or compiles for one."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return bool(
            tf.config.list_physical_devices("GPU")
            or tf.config.list_physical_devices("TPU")
        )
    if backend == "jax":
        import jax

        return jax.default_backend() != "cpu" or tpu.is_target()
    import torch

    return torch.cuda.is_available()


def _multiplies_bfloat16() -> bool:
    """Whether the accelerator has bfloat16 units (TPUs; NVIDIA from Ampere on)."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if not gpus:
            return True
        details = tf.config.experimental.get_device_details(gpus[0])
        return details.get("compute_capability", (8, 0)) >= (8, 0)
    if backend == "jax":
        import jax

        capability = getattr(jax.devices()[0], "compute_capability", "8.0")
        return float(capability) >= 8.0
    import torch

    return torch.cuda.is_bf16_supported()


def _cpu_multiplies_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 itself and the backend uses it."""
    # XLA's CPU compiler shows no use of it; Linux alone lists it.
    known = processor.instructions(CPUINFO)
    multiplies = "amx_bf16" in known or "avx512_bf16" in known
    return multiplies and keras.backend.backend() != "jax"


def compiles_ahead() -> bool:
    """Whether programs are traced or compiled, for which weights need not be there."""
    return keras.backend.backend() in ("tensorflow", "jax")


def thread_settings() -> Callable[[], contextlib.AbstractContextManager]:
    """The device that was chosen for this thread, as a context for another."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf
        from tensorflow.python.eager import context

        return functools.partial(tf.device, context.context().device_name)
    if keras.backend.backend() != "jax":
        return contextlib.nullcontext
    import jax

    return functools.partial(jax.default_device, jax.config.jax_default_device)


def describe_machine() -> dict[str, str]:
    """What the library computes with here where it is not told, in words."""
    name = keras.backend.backend()
    xla = "torch.compile" if name == "torch" else "XLA"
    return {
        "backend": name,
        "device": "GPU or TPU" if has_accelerator() else "CPU",
        "precision": resolve_precision("auto"),
        "compiled by": xla
        if resolve_jit_compile("auto")
        else "the backend's own means",
    }


def resolve_jit_compile(jit_compile: bool | str) -> bool | str:
    """Whether to compile by XLA: `"auto"` does on GPUs and TPUs. Or `"openvino"`.

    On a CPU, XLA is slower than TensorFlow's own kernels; JAX has no other path.
    """
    if jit_compile == "auto":
        return keras.backend.backend() == "jax" or (
            keras.backend.backend() == "tensorflow" and has_accelerator()
        )
    if isinstance(jit_compile, bool):
        return jit_compile
    if jit_compile == openvino_programs.OPENVINO:
        return openvino_programs.check(keras.backend.backend(), has_accelerator())
    raise ValueError(
        '`jit_compile` must be True, False, "auto" or "openvino". '
        f"Received: {jit_compile!r}"
    )


def resolve_precision(precision: str | None) -> str:
    """The name of the dtype policy to build with.

    Args:
        precision: One of `PRECISIONS`. `None` or `"auto"` takes the global policy
            where one was set, else bfloat16 where it is multiplied natively; where it
            is not, float16 on a GPU and float32 on a CPU.
    """
    if precision is None or precision == "auto":
        policy = keras.config.dtype_policy().name
        if policy != "float32":
            return policy
        if has_accelerator():
            return "bfloat16" if _multiplies_bfloat16() else "float16"
        return "bfloat16" if _cpu_multiplies_bfloat16() else "float32"
    if precision not in PRECISIONS:
        near = difflib.get_close_matches(str(precision), PRECISIONS, n=2, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(
            f"`precision` must be one of {', '.join(PRECISIONS)}.{hint} "
            f"Received: {precision!r}"
        )
    return precision


class Program:
    """A function of tensors and layers, compiled once for each input signature.

    The layers' weights enter as arguments (JAX) or by reference (TensorFlow), never
    as constants, so new weights need no new program.

    Args:
        function: Takes and returns nested structures of tensors.
        layers: The Keras layers that the function calls.
        jit_compile: Whether to compile by XLA (on PyTorch: by `torch.compile`). With
            `"openvino"` the weights are copied into the program, which is compiled anew
            where they have changed.
        axes: Where the batch is, to be divided under `tf.distribute`: `replicas`.
        ready: Returns when the layers have their weights: before that, a program can
            be traced and compiled but not run.
        idle: For a loop: makes of arguments those with which it does not go round, and
            TensorFlow prepares it ahead of the weights. On CPUs that is without a graph
            optimizer, which takes seconds and gains a loop of the U-Net nothing.
        facts: What the function depends on beside its arguments and the layers, as
            text. Where it is given, `kept_traces` keeps TensorFlow's traces for CPUs.
        sparing: As in `kept_traces.KeptTraces`.

    Attributes:
        traces: How often it was traced, or its trace read, and so compiled. PyTorch
            does not trace.
        goes_round: Whether a `while_loop` goes round within it. If not, there is one
            pass to each call.

    Example:

    >>> dense = keras.layers.Dense(2)
    >>> dense.build((None, 3))
    >>> to_numpy(Program(dense, [dense])(np.ones((1, 3), "float32"))).shape
    (1, 2)
    """

    def __init__(
        self,
        function: Callable,
        layers: Sequence[keras.layers.Layer],
        jit_compile: bool | str = False,
        axes: tuple[Callable, Callable] | None = None,
        ready: Callable[[], None] | None = None,
        idle: Callable | None = None,
        facts: str | None = None,
        sparing: bool = False,
    ):
        self._traced, self._axes, self._ready, self._idle = 0, axes, ready, idle
        self._facts, self._sparing, self._kept = facts, sparing, None
        self._compiling = None
        self.goes_round = jit_compile != openvino_programs.OPENVINO
        self._layers = list(layers)
        wrap = {"tensorflow": self._tensorflow, "jax": self._jax}
        wrap = wrap.get(keras.backend.backend(), self._torch)
        self._run = wrap(function, jit_compile)

    @property
    def traces(self) -> int:
        if not self.goes_round:
            return self._kept.compiled
        return self._traced + (self._kept.found if self._kept else 0)

    def __call__(self, *args: Any) -> Any:
        """Runs on arrays or tensors; returns the backend's tensors."""
        with shortage_told():
            args = keras.tree.map_structure(to_tensor, args)
            self.settle()
            ready = self._ready
            if ready is not None:
                self._compile(*args)
                ready()
                self._ready = None
            return self._run(*args)

    def settle(self) -> None:
        """Returns when nothing is compiled in another thread any more."""
        if self._compiling is not None:
            self._compiling.join()

    def compile_soon(self, *args: Any) -> None:
        """Traces, and compiles on JAX, for arguments like these, in a thread."""
        args = keras.tree.map_structure(ops.convert_to_tensor, args)
        settings = thread_settings()

        def run():
            # What fails here fails again, and is raised, when the program is called.
            with settings(), contextlib.suppress(Exception):
                if threading.main_thread().is_alive():
                    self._compile(*args)

        # No daemon: one that is at work as the interpreter ends can abort it.
        self._compiling = threading.Thread(target=run, name="compiler")
        self._compiling.start()

    def _tensorflow(self, function, jit_compile):
        import tensorflow as tf

        function = self._counted(function)
        if jit_compile == openvino_programs.OPENVINO:
            kept = openvino_programs.Compiled(function, self._layers, self._facts)
            self._kept, self._compile = kept, kept.trace  # for more it wants weights
            return kept
        if not jit_compile and not has_accelerator():
            function = tensorflow_cpu.kernels()(function)
        strategy = self._axes and replicas.strategy_of(self._variables())
        if strategy:
            function = replicas.divided(function, self._axes, strategy, jit_compile)
            jit_compile = False
        elif not jit_compile and not has_accelerator():
            how = self._facts, self._idle is None, self._sparing
            run = self._kept = kept_traces.kept(function, self._layers, *how)
            make = run.make
        if self._kept is None:
            run = tf.function(function, jit_compile=jit_compile, autograph=False)
            make = run.get_concrete_function

        def prepare(*args):
            make(*args)
            if self._idle is not None:
                run(*self._idle(*args))

        self._compile = prepare
        return run

    def _jax(self, function, jit_compile):
        import jax

        function = self._counted(function)

        @jax.jit
        def stateless(values, args):
            mapping = list(zip(self._variables(), values, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                return function(*args)

        def values():
            return [v.value for v in self._variables()]

        # What it compiles is found again when it runs.
        self._compile = lambda *args: stateless.lower(values(), args).compile()
        return lambda *args: stateless(values(), args)

    def _torch(self, function, jit_compile):
        import torch

        self._compile = lambda *args: None
        return torch.no_grad()(torch.compile(function) if jit_compile else function)

    def _counted(self, function):
        """The function, counting how often it is traced."""

        def traced(*args):
            self._traced += 1
            with collector_paused():
                return function(*args)

        return traced

    def _variables(self):
        return [variable for layer in self._layers for variable in layer.variables]


def to_numpy(tensor) -> np.ndarray:
    """The tensor as a numpy array."""
    return ops.convert_to_numpy(tensor)


#: Numbers of which TensorFlow's memory is left as it is, see `empty_weights`.
UNTOUCHED = 2**18
_empty_weights = Within("empty_weights", False)


def empty_weights(empty: bool = True) -> contextlib.AbstractContextManager:
    """Within it, variables are made of anything cheap: weights are read next."""
    return _empty_weights.set(_empty_weights.get() or empty)


def reads_weights_next() -> bool:
    """Whether `empty_weights()` holds here and now."""
    return _empty_weights.get()


def initializer(otherwise: str = "glorot_uniform"):
    """The initializer of a variable: `otherwise`, or a cheap one in `empty_weights()`.

    That one gives ones where it would be ones, and else zeros.
    """
    return _Plain(float(otherwise == "ones")) if _empty_weights.get() else otherwise


class _Plain(keras.initializers.Constant):
    """A number everywhere, made as cheaply as the backend can.

    JAX would compile a program for each shape. The memory of many zeros, which are
    overwritten, is not even touched: TensorFlow's holds anything.
    """

    def __call__(self, shape, dtype=None):
        dtype = keras.backend.standardize_dtype(dtype)
        if keras.distribution.distribution() is not None:
            return super().__call__(shape, dtype)
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            if self.value or np.prod(shape) < UNTOUCHED:
                return tf.fill(shape, np.asarray(self.value, np.dtype(dtype)))
            return tf.raw_ops.Empty(shape=shape, dtype=dtype)
        make = np.ones if self.value else np.zeros
        return make(shape, np.dtype(dtype))
