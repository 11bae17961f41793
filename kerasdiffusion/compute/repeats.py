"""Layers that are alike, traced once for all of them.

A U-Net has sixteen transformers of four kinds, a text encoder twelve layers of one. To
trace each by itself is most of the Python that a program costs. Here the first of a
kind becomes a function of tensors and of its variables' handles, and the others call
it with their own; TensorFlow puts all of them into one graph as the program starts.

For TensorFlow alone, which is imported where it is needed: `kept_traces` asks for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from kerasdiffusion.compute import remat
from kerasdiffusion.compute.fingerprints import settings
from kerasdiffusion.compute.within import Within

_traced = Within("traced")


def traced_once() -> contextlib.AbstractContextManager:
    """Within it, of `Repeated` layers that are alike one is traced."""
    return _traced.set({})


def one_by_one() -> contextlib.AbstractContextManager:
    """Within it, each layer is traced by itself: for what tells like layers apart."""
    return _traced.set(None)


class Repeated:
    """A layer that has its like in the same network, as a base class ahead of Keras's.

    It must depend on its settings, its variables and its arguments alone.
    """

    def __call__(self, *args, **kwargs):
        if remat.are_on():
            return remat.called(self, super().__call__, args, kwargs)
        known = _traced.get()
        if known is None:
            return super().__call__(*args, **kwargs)
        return _called(known, self, super().__call__, args, kwargs)


def _called(known: dict, layer, call: Callable, args: tuple, kwargs: dict):
    import keras
    import tensorflow as tf

    leaves = keras.tree.flatten((args, kwargs))
    given = [x for x in leaves if x is not None]
    if not layer.built or not all(map(tf.is_tensor, given)):
        return call(*args, **kwargs)
    key = _kind(layer, (args, kwargs), leaves)
    if key not in known:
        known[key] = _Function(layer, call, (args, kwargs), leaves)
    function = known[key]
    if not function.is_whole:
        return call(*args, **kwargs)
    return function(layer, given)


def _kind(layer, structure, leaves) -> tuple:
    """What layers and calls have in common that are alike."""
    import keras

    shapes = [None if x is None else (tuple(x.shape), x.dtype) for x in leaves]
    places = keras.tree.pack_sequence_as(structure, list(range(len(leaves))))
    variables = [(tuple(v.shape), v.dtype) for v in layer.variables]
    return repr((places, shapes, variables)), tuple(settings([layer]))


class _Function:
    """A layer's call as a function, for any other layer of its kind."""

    def __init__(self, layer, call, structure, leaves):
        import keras
        import tensorflow as tf

        def flat(*given):
            given = iter(given)
            own = [None if x is None else next(given) for x in leaves]
            args, kwargs = keras.tree.pack_sequence_as(structure, own)
            result = call(*args, **kwargs)
            self.structure = keras.tree.map_structure(lambda _: 0, result)
            return keras.tree.flatten(result)

        kinds = [tf.TensorSpec(x.shape, x.dtype) for x in leaves if x is not None]
        run = _as_it_is(flat).get_concrete_function(*kinds)
        handles = {id(each): i for i, each in enumerate(_handles(layer))}
        self.run, self.places = run, [handles.get(id(x)) for x in run.captured_inputs]
        # Whatever else it reads is the first layer's own.
        self.is_whole = None not in self.places

    def __call__(self, layer, given: list):
        import keras
        import tensorflow as tf

        handles, outputs = _handles(layer), self.run.outputs
        results = tf.raw_ops.StatefulPartitionedCall(
            args=given + [handles[place] for place in self.places],
            Tout=[each.dtype for each in outputs],
            f=self.run,
        )
        for result, output in zip(results, outputs, strict=True):
            result.set_shape(output.shape)
        return keras.tree.pack_sequence_as(self.structure, results)


def _as_it_is(function: Callable):
    """A function that TensorFlow traces without looking for an order of effects.

    It only reads variables, and has none. To look takes a twelfth of its trace.
    """
    import tensorflow as tf

    try:
        how = {"_disable_acd": True}
        return tf.function(function, autograph=False, experimental_attributes=how)
    except (TypeError, ValueError):  # another version knows no such thing
        return tf.function(function, autograph=False)


def _handles(layer) -> list:
    """What TensorFlow knows the layer's variables by."""
    # In a layer of mixed precision, `value` would be a tensor: cast.
    return [variable._value.handle for variable in layer.variables]
