"""Muon for networks with convolutions."""

from __future__ import annotations

import math

import keras
from keras import ops

from kerasdiffusion.compute import replicas


class Muon(keras.optimizers.Muon):
    """Keras' Muon, which also takes the kernels of convolutions, as matrices.

    Keras' own leaves all but matrices to AdamW, and most of a U-Net is convolutions.
    Both kinds of step have the size of AdamW's, so a learning rate for AdamW fits.
    Vectors, embeddings and `exclude_layers` go by AdamW. Matrices of the same shape are
    stepped together, and long ones, as those of convolutions are, take a third of
    Keras' time.

    Args:
        learning_rate: A float, or a schedule.
        **kwargs: As of `keras.optimizers.Muon`.

    Example:

    >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
    >>> model.compile(Muon(1e-3), "mse")

    Reference:
        Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks";
        Liu et al. 2025, "Muon is Scalable for LLM Training", section 2.2, for the
        size of the steps.
    """

    def _should_use_adamw(self, variable):
        if len(variable.shape) != 4:
            return super()._should_use_adamw(variable)
        return any(name in variable.path for name in self.exclude_layers)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        alone, alike = [], {}
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            if self._should_use_adamw(variable):
                alone.append((gradient, variable))
            else:
                shape = _matrix_shape(variable)
                alike.setdefault(shape, []).append((gradient, variable))
        if replicas.strategy_of(trainable_variables):  # it steps each by itself
            alone, alike = list(zip(grads, trainable_variables, strict=True)), {}
        if alone:
            super()._backend_update_step(*zip(*alone, strict=True), learning_rate)
        for shape, pairs in alike.items():
            self._muon_update_steps(shape, pairs, learning_rate)

    def _muon_update_steps(self, shape, pairs, learning_rate):
        """One step of all variables that are matrices of this shape."""
        gradients, variables = zip(*pairs, strict=True)
        momentums = [self.momentums[self._get_variable_index(v)] for v in variables]
        gradient = ops.stack([ops.reshape(each, shape) for each in gradients])
        momentum = ops.stack([ops.reshape(each, shape) for each in momentums])
        gradient = ops.cast(gradient, momentum.dtype)
        momentum = self.momentum * momentum + gradient
        x = gradient + self.momentum * momentum if self.nesterov else momentum
        size = 1.0 if self.rms_rate is None else max(shape) ** 0.5 * self.rms_rate
        update = self.zeropower_via_newtonschulz5(x, self.ns_steps)
        update = update * (size * ops.cast(learning_rate, update.dtype))
        for i, (variable, each) in enumerate(zip(variables, momentums, strict=True)):
            self.assign(each, ops.reshape(momentum[i], each.shape))
            self.assign_sub(variable, ops.reshape(update[i], variable.shape))

    def _muon_update_step(self, gradient, variable, lr, m):
        self._muon_update_steps(_matrix_shape(variable), [(gradient, variable)], lr)

    def zeropower_via_newtonschulz5(self, x, steps: int):
        """The Newton-Schulz iteration; of long matrices, on their Gram matrix.

        A step is `x <- p(x x^T) x`, and all that p's argument does is to change by
        p as well: so `x` itself is needed at the beginning and at the end alone.
        """
        short, long = sorted(x.shape[-2:])
        if long < 2 * short:
            return super().zeropower_via_newtonschulz5(x, steps)
        if x.shape[-2] > x.shape[-1]:
            x = self.zeropower_via_newtonschulz5(ops.swapaxes(x, -1, -2), steps)
            return ops.swapaxes(x, -1, -2)
        x = x / (ops.norm(x, axis=(-2, -1), keepdims=True) + 1e-7)
        gram = ops.matmul(x, ops.swapaxes(x, -1, -2))
        factor = whole = identity = ops.eye(short, dtype=x.dtype)
        for step in range(steps):
            if step:
                gram = ops.matmul(ops.matmul(factor, gram), factor)
            factor = self.muon_b * gram + self.muon_c * ops.matmul(gram, gram)
            factor = factor + self.muon_a * identity
            whole = ops.matmul(factor, whole) if step else factor
        return ops.matmul(whole, x)


def _matrix_shape(variable) -> tuple[int, int]:
    """Height, width and input channels are the inputs of one output channel."""
    return math.prod(variable.shape[:-1]), variable.shape[-1]
