"""An optimizer's step of variables that are alike, traced once for all of them.

An adapter has hundreds of small variables, and Keras traces thirty operations for each
on TensorFlow, which are most of a training step's graph. Here the step of the first of
a shape becomes a function of tensors and of the handles of what it reads and writes;
the others call it with their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras


def traced_once(optimizer) -> None:
    """Has an optimizer do so on TensorFlow; on other backends it stays as it is.

    Args:
        optimizer: A Keras optimizer. One whose `update_step` is not Keras's own stays
            as it is: that may tell variables apart by more than their shapes, as
            Muon's does.
    """
    if keras.backend.backend() != "tensorflow":
        return
    module = type(optimizer).update_step.__module__
    if not module.startswith("keras.src.optimizers.") or module.endswith(".muon"):
        return
    update = type(optimizer)._distributed_tf_update_step
    decay = type(optimizer)._apply_weight_decay

    def step(distribution, pairs, rate):
        if distribution.num_replicas_in_sync > 1:
            update(optimizer, distribution, pairs, rate)
            return
        _each(
            optimizer,
            [variable for _, variable in pairs],
            [[gradient] for gradient, _ in pairs],
            lambda one, own: update(optimizer, distribution, [(own[0], one)], rate),
        )

    def weight_decay(variables):
        if optimizer.weight_decay is None:
            return
        if optimizer._distribution_strategy.num_replicas_in_sync > 1:
            decay(optimizer, variables)
            return
        variables = [getattr(each, "_value", each) for each in variables]
        variables = [each for each in variables if optimizer._use_weight_decay(each)]
        _each(
            optimizer,
            variables,
            [[] for _ in variables],
            lambda one, own: decay(optimizer, [one]),
        )

    optimizer._distributed_tf_update_step = step
    optimizer._apply_weight_decay = weight_decay


def _each(optimizer, variables: Sequence, tensors: Sequence, step: Callable) -> None:
    """`step` of each variable, a `tf.Variable`, and of its tensors."""
    import tensorflow as tf

    groups: dict = {}
    for variable, own in zip(variables, tensors, strict=True):
        kinds = [(variable.shape, variable.dtype)]
        kinds += [(x.shape, x.dtype) for x in own if tf.is_tensor(x)]
        groups.setdefault(repr((kinds, type(variable))), []).append((variable, own))
    for pairs in groups.values():
        one_by_one = len(pairs) == 1 or tf.executing_eagerly()
        if one_by_one or not all(isinstance(x, tf.Tensor) for x in pairs[0][1]):
            for variable, own in pairs:
                step(variable, own)
        else:
            _alike(optimizer, pairs, step)


def _alike(optimizer, pairs: Sequence, step: Callable) -> None:
    """`step` of variables of one kind, by a function that is traced for the first."""
    import tensorflow as tf
    from tensorflow.python.eager import context

    (first, own), *_ = pairs
    # Not put into the graph that calls it, which TensorFlow goes over whole.
    function = tf.function(
        lambda *own: step(first, own),
        autograph=False,
        experimental_attributes={"_noinline": True},
    ).get_concrete_function(*(tf.TensorSpec(x.shape, x.dtype) for x in own))
    places = _places(optimizer)
    read = [places.get(id(each), (each, None)) for each in function.captured_inputs]
    index = optimizer._get_variable_index(first)
    if any(place not in (None, index) for _, place in read):
        for variable, own in pairs:  # it reads another's
            step(variable, own)
        return
    for variable, own in pairs:
        index = optimizer._get_variable_index(variable)
        handles = [
            what if place is None else what[index]._value.handle for what, place in read
        ]
        tf.raw_ops.StatefulPartitionedCall(
            args=[*own, *handles],
            Tout=[],
            f=function,
            config_proto=context.context().function_call_options.config_proto_serialized,
        )


def _places(optimizer) -> dict[int, tuple]:
    """By a handle's id: the list of variables that it is from, and its place there.

    Of lists that have one for each variable that is taught, and of these themselves.
    """
    taught = optimizer._trainable_variables
    lists = [
        each
        for name, each in vars(optimizer).items()
        if isinstance(each, (list, tuple))
        and len(each) == len(taught)
        and name != "_variables"  # all that it has, in no such order
    ]
    return {
        id(variable._value.handle): (each, place)
        for each in lists
        for place, variable in enumerate(each)
        if variable is not None
    }
