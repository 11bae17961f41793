"""What a Keras optimizer is told beside: own learning rates, and when to average."""

from __future__ import annotations

from collections.abc import Callable

from keras import ops

from kerasdiffusion.compute.updates import traced_once


def prepare(optimizer, rate_of: Callable[[object], float]) -> None:
    """Has an optimizer teach some variables faster or slower, and average in steps.

    Args:
        optimizer: A Keras optimizer; another call takes the place of the one before.
        rate_of: The factor of a Keras variable's learning rate.

    Raises:
        ValueError: If it would write averages over the variables in the midst of an
            accumulated step.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    _set_rates(optimizer, rate_of)
    traced_once(optimizer)
    steps = optimizer.gradient_accumulation_steps
    if not (optimizer.use_ema and steps):
        return
    if optimizer.ema_overwrite_frequency:
        raise ValueError(
            "With accumulated gradients Keras would write the average over the weights "
            "before the step is whole: leave `ema_overwrite_frequency` out, and `fit` "
            "does so at its end. Received: "
            f"ema_overwrite_frequency={optimizer.ema_overwrite_frequency}, "
            f"gradient_accumulation_steps={steps}"
        )
    _average_whole_steps(optimizer, steps)


def _set_rates(optimizer, rate_of) -> None:
    update = type(optimizer)._backend_update_step

    def by_rates(gradients, variables, learning_rate):
        groups: dict[float, list] = {}
        for pair in zip(gradients, variables, strict=True):
            groups.setdefault(float(rate_of(pair[1])), []).append(pair)
        for factor, pairs in groups.items():
            rate = learning_rate if factor == 1.0 else learning_rate * factor
            update(optimizer, *map(list, zip(*pairs, strict=True)), rate)

    optimizer._backend_update_step = by_rates


def _average_whole_steps(optimizer, steps: int) -> None:
    """Averages once for each accumulated step; Keras does for each part of it."""

    def average(variables):
        whole = ops.equal((optimizer._iterations + 1) % steps, 0)
        for variable, mean in zip(
            variables, optimizer._model_variables_moving_average, strict=True
        ):
            if mean is None:
                continue
            first = ops.equal(optimizer.iterations, 0)
            momentum = ops.where(first, 0.0, optimizer.ema_momentum)
            value, old = map(ops.convert_to_tensor, (variable, mean))
            momentum = ops.cast(momentum, old.dtype)
            blended = momentum * old + (1.0 - momentum) * value
            mean.assign(ops.where(whole, blended, old))

    optimizer._update_model_variables_moving_average = average
