"""TensorFlow's `tf.distribute`: a batch divided among the replicas of a strategy.

For TensorFlow alone, which is imported where it is needed: `backend` calls this file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable


def scope() -> Callable:
    """What opens the scope that is open now, also when it is not any more."""
    import tensorflow as tf

    if not tf.distribute.has_strategy():
        return contextlib.nullcontext
    return tf.distribute.get_strategy().scope


def strategy_of(variables: Iterable):
    """The strategy that Keras variables were made under; `None` for a single device."""
    for variable in variables:
        strategy = getattr(variable.value, "distribute_strategy", None)
        if strategy is not None and strategy.num_replicas_in_sync > 1:
            return strategy
        return None
    return None


def divided(function: Callable, axes, strategy, jit_compile: bool) -> Callable:
    """The function on all replicas, each with its part of the batch.

    A batch that does not divide by the number of replicas is not divided.

    Args:
        function: Takes and returns nested structures of tensors.
        axes: Two functions, of the arguments and of the result: they return the same
            structures of the batch's axis in each tensor, -1 where there is none.
        strategy: A `tf.distribute.Strategy`.
        jit_compile: Whether each replica's program is compiled by XLA; on TPUs it
            always is.

    Returns:
        A function of the same arguments and result, for a `tf.function` to trace.
    """
    import keras
    import tensorflow as tf

    taken, given = axes
    count = strategy.num_replicas_in_sync
    if not isinstance(strategy, tf.distribute.TPUStrategy):
        inner = tf.function(function, jit_compile=jit_compile, autograph=False)
    else:
        inner = function

    def run(*args):
        flat = keras.tree.flatten(args)
        where = keras.tree.flatten(taken(*args))
        sizes = {
            x.shape[axis] for x, axis in zip(flat, where, strict=True) if axis >= 0
        }
        if len(sizes) != 1 or None in sizes or min(sizes) % count:
            return function(*args)
        size = min(sizes) // count

        def replica(*flat):
            context = tf.distribute.get_replica_context()
            start = context.replica_id_in_sync_group * size
            own = [
                tf.gather(x, start + tf.range(size), axis=axis) if axis >= 0 else x
                for x, axis in zip(flat, where, strict=True)
            ]
            return inner(*keras.tree.pack_sequence_as(args, own))

        result = strategy.run(replica, args=flat)

        def join(part, axis):
            parts = strategy.experimental_local_results(part)
            return parts[0] if axis < 0 else tf.concat(parts, axis)

        return keras.tree.map_structure(join, result, given(result))

    return run
