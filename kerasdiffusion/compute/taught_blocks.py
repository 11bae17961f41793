"""Blocks that are alike in a training step, traced once, forward and backward.

A U-Net's step is a graph of twenty thousand operations, which TensorFlow differentiates
one by one in Python and then rewrites as one: minutes in which nothing is to be seen.
Here the first block of a kind becomes a function of tensors and of its variables'
handles, with another for its gradients, and each block of the kind calls both. They
stay functions in the graph.

What is frozen enters by its handle, so that it is neither watched nor copied.

For TensorFlow alone, which is imported where it is needed: `remat` calls this file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from kerasdiffusion.compute import tensorflow_gradients
from kerasdiffusion.compute.fingerprints import settings


def called(step, layer, call: Callable, args: tuple, kwargs: dict):
    """What a block gives, by the functions of its kind.

    Args:
        step: Whether to `remat`, whether it is compiled by XLA (`jit_compile`), and the
            `functions` of the kinds that it has met.
        layer: The layer.
        call: Its call.
        args: What that takes.
        kwargs: What else it takes.
    """
    import keras
    import tensorflow as tf

    leaves = keras.tree.flatten((args, kwargs))
    given = [x for x in leaves if x is not None]
    if not all(map(tf.is_tensor, given)):
        return call(*args, **kwargs)
    variables = _Variables(layer)
    shapes = [None if x is None else (tuple(x.shape), x.dtype) for x in leaves]
    places = keras.tree.pack_sequence_as((args, kwargs), list(range(len(leaves))))
    key = repr((places, shapes, variables.kinds)), tuple(settings([layer]))
    if key not in step.functions:
        step.functions[key] = _Functions(step, variables, call, (args, kwargs), leaves)
    return step.functions[key](given, variables)


class _Variables:
    """A layer's variables: those whose values are watched, and the frozen ones."""

    def __init__(self, layer):
        import tensorflow as tf
        from keras.src.backend.common.stateless_scope import get_stateless_scope

        scope = get_stateless_scope()
        self.watched, self.values, self.frozen, self.kinds = [], [], [], []
        for variable in layer.variables:
            value = scope and scope.get_current_value(variable)
            if value is None and variable.trainable and scope is None:
                value = tf.convert_to_tensor(variable._value)
            kind = (tuple(variable.shape), variable.dtype, value is None)
            self.kinds.append(kind)
            if value is None:
                self.frozen.append(variable)
            else:
                self.watched.append(variable)
                self.values.append(value)

    @property
    def handles(self) -> list:
        # In a layer of mixed precision, `value` would be a tensor: cast.
        return [variable._value.handle for variable in self.frozen]


class _Functions:
    """A kind's block and its gradients, for any other of the kind."""

    def __init__(self, step, variables, call, structure, leaves):
        import keras
        import tensorflow as tf

        given = [x for x in leaves if x is not None]
        kinds = [tf.TensorSpec(x.shape, x.dtype) for x in given + variables.values]
        count, watched, frozen = len(given), variables.watched, variables.frozen
        self.remat, self.count = step.remat, len(kinds)

        def run(*tensors):
            """The block; tensors that are given, values, handles."""
            own = iter(tensors[:count])
            own = [None if x is None else next(own) for x in leaves]
            values = [
                tf.stop_gradient(_read(handle, variable))
                for handle, variable in zip(tensors[self.count :], frozen, strict=True)
            ]
            values = [*tensors[count : self.count], *values]
            pairs = zip(watched + frozen, values, strict=True)
            args, kwargs = keras.tree.pack_sequence_as(structure, own)
            with contextlib.ExitStack() as stack:
                stack.enter_context(keras.StatelessScope(list(pairs)))
                if not step.jit_compile:
                    stack.enter_context(tensorflow_gradients.gradients())
                result = call(*args, **kwargs)
            self.structure = keras.tree.map_structure(lambda _: 0, result)
            return keras.tree.flatten(result)

        def gradient(*tensors):
            """Of the block; tensors as above, then the results' gradients."""
            end = self.count + len(frozen)
            inputs, douts = list(tensors[: self.count]), list(tensors[end:])
            if step.jit_compile:
                inputs[:count] = _after(inputs[:count], douts)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(inputs)
                results = run(*inputs, *tensors[self.count : end])
            return tape.gradient(results, inputs, douts, unconnected_gradients="zero")

        # Not put into the graph that calls them, which TensorFlow would rewrite whole.
        options = {"autograph": False, "experimental_attributes": {"_noinline": True}}
        handles = [tf.TensorSpec((), tf.resource) for _ in frozen]
        self.run = tf.function(run, **options)
        self.run.get_concrete_function(*kinds, *handles)
        self.gradient = tf.function(gradient, **options)

    def __call__(self, given: list, variables):
        import keras
        import tensorflow as tf

        handles, inputs = variables.handles, given + variables.values
        if not self.remat:
            results = self.run(*inputs, *handles)
            return keras.tree.pack_sequence_as(self.structure, results)

        @tf.custom_gradient
        def block(*tensors):
            # A tape that sees this would keep what is inside.
            results = self.run(*map(tf.stop_gradient, tensors), *handles)

            def gradient(*douts):
                return self.gradient(*tensors, *handles, *douts)

            return results, gradient

        return keras.tree.pack_sequence_as(self.structure, block(*inputs))


def _read(handle, variable):
    """A variable's value by its handle."""
    import tensorflow as tf

    value = tf.raw_ops.ReadVariableOp(resource=handle, dtype=variable.dtype)
    return tf.ensure_shape(value, variable.shape)


def _after(inputs, douts):
    """Inputs which XLA cannot take for those of the forward pass, to merge the two."""
    import tensorflow as tf

    first = tf.reshape(douts[0], (-1,))[0]
    # XLA knows that x == x, but not of a float.
    nothing = tf.where(tf.math.is_nan(first), first, tf.zeros_like(first))
    return [x + tf.cast(nothing, x.dtype) for x in inputs]
