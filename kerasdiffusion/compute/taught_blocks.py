"""Blocks that are alike in a training step, traced once, forward and backward.

A U-Net's step is a graph of twenty thousand operations, which TensorFlow differentiates
one by one in Python and then rewrites as one: minutes in which nothing is to be seen.
Here the first block of a kind becomes a function of tensors and of its variables'
handles, with another for its gradients, and each block of the kind calls both. They
stay functions in the graph.

What is frozen enters by its handle, so that it is neither watched nor copied. What is
made of a frozen value (see `changed`) is made within the block.

For TensorFlow alone, which is imported where it is needed: `remat` calls this file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from kerasdiffusion.compute import tensorflow_gradients
from kerasdiffusion.compute.changed import Changed
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
    """A layer's variables as a step has them, and the tensors that they are made of.

    Those of a `Changed` scope are frozen, and its changes' tensors are watched; in
    another scope all values are watched, and without one what is trainable.
    """

    def __init__(self, layer):
        import tensorflow as tf
        from keras.src.backend.common.stateless_scope import get_stateless_scope

        self.layer, scope = layer, get_stateless_scope()
        self.are_changed = isinstance(scope, Changed)
        self.watched, self.frozen, self.tensors = [], [], []
        self.changes, self.kinds = [], []
        for variable in layer.variables:
            kind = (tuple(variable.shape), variable.dtype)
            if self.are_changed:
                self.frozen.append(variable)
                function, tensors = scope.changes.get(id(variable), (None, ()))
                tensors = [tf.convert_to_tensor(x) for x in tensors]
                shapes = [(tuple(x.shape), x.dtype) for x in tensors]
                self.kinds.append((*kind, shapes))
                if function is not None:
                    self.changes.append((variable, function, len(tensors)))
                    self.tensors += tensors
                continue
            value = scope and scope.get_current_value(variable)
            if value is None and variable.trainable and scope is None:
                value = tf.convert_to_tensor(variable._value)
            self.kinds.append((*kind, value is None))
            if value is None:
                self.frozen.append(variable)
            else:
                self.watched.append(variable)
                self.tensors.append(value)

    @property
    def handles(self) -> list:
        # In a layer of mixed precision, `value` would be a tensor: cast.
        return [variable._value.handle for variable in self.frozen]

    def scope(self, tensors, handles):
        """The scope of the block, with other tensors in place of `tensors`."""
        import keras
        import tensorflow as tf

        frozen = [
            (variable, _read(handle, variable))
            for handle, variable in zip(handles, self.frozen, strict=True)
        ]
        if not self.are_changed:  # else that stops gradients itself
            frozen = [(variable, tf.stop_gradient(each)) for variable, each in frozen]
            watched = zip(self.watched, tensors, strict=True)
            return keras.StatelessScope([*watched, *frozen])
        own, changes = iter(tensors), []
        for variable, function, count in self.changes:
            changes.append((variable, function, [next(own) for _ in range(count)]))
        return Changed(self.layer, changes, frozen)


class _Functions:
    """A kind's block and its gradients, for any other of the kind."""

    def __init__(self, step, variables, call, structure, leaves):
        import keras
        import tensorflow as tf

        given = [x for x in leaves if x is not None]
        kinds = [tf.TensorSpec(x.shape, x.dtype) for x in given + variables.tensors]
        given = len(given)
        self.remat, self.count = step.remat, len(kinds)

        def run(*tensors):
            """The block; tensors that are given, variables' tensors, handles."""
            own = iter(tensors[:given])
            own = [None if x is None else next(own) for x in leaves]
            args, kwargs = keras.tree.pack_sequence_as(structure, own)
            scope = tensors[given : self.count], tensors[self.count :]
            with contextlib.ExitStack() as stack:
                stack.enter_context(variables.scope(*scope))
                if not step.jit_compile:
                    stack.enter_context(tensorflow_gradients.gradients())
                result = call(*args, **kwargs)
            self.structure = keras.tree.map_structure(lambda _: 0, result)
            return keras.tree.flatten(result)

        def gradient(*tensors):
            """Of the block; tensors as above, then the results' gradients."""
            end = self.count + len(variables.frozen)
            inputs, douts = list(tensors[: self.count]), list(tensors[end:])
            if step.jit_compile:
                inputs[:given] = _after(inputs[:given], douts)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(inputs)
                results = run(*inputs, *tensors[self.count : end])
            return tape.gradient(results, inputs, douts, unconnected_gradients="zero")

        # Not put into the graph that calls them, which TensorFlow would rewrite whole.
        options = {"autograph": False, "experimental_attributes": {"_noinline": True}}
        handles = [tf.TensorSpec((), tf.resource) for _ in variables.frozen]
        self.run = tf.function(run, **options)
        self.run.get_concrete_function(*kinds, *handles)
        self.gradient = tf.function(gradient, **options)

    def __call__(self, given: list, variables):
        import keras
        import tensorflow as tf

        handles, inputs = variables.handles, given + variables.tensors
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

    # A Keras variable's own `dtype` is, within a layer, what it is cast to.
    dtype = variable._value.dtype
    value = tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype)
    value.set_shape(variable.shape)
    return value


def _after(inputs, douts):
    """Inputs which XLA cannot take for those of the forward pass, to merge the two."""
    import tensorflow as tf

    first = tf.reshape(douts[0], (-1,))[0]
    # XLA knows that x == x, but not of a float.
    nothing = tf.where(tf.math.is_nan(first), first, tf.zeros_like(first))
    return [x + tf.cast(nothing, x.dtype) for x in inputs]
