"""Muon for networks with convolutions."""

from __future__ import annotations

import keras
from keras import ops


class Muon(keras.optimizers.Muon):
    """Keras' Muon, which also takes the kernels of convolutions, as matrices.

    Keras' own leaves all but matrices to AdamW, and most of a U-Net is convolutions.
    Both kinds of step have the size of AdamW's, so a learning rate for AdamW fits.
    Vectors, embeddings and `exclude_layers` go by AdamW. Long matrices, as those of
    convolutions are, take a third of Keras' time.

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

    def _muon_update_step(self, gradient, variable, lr, m):
        self.assign(m, self.momentum * m + gradient)
        g = gradient + self.momentum * m if self.nesterov else m
        # Height, width and input channels are the inputs of one output channel.
        matrix = ops.reshape(g, (-1, variable.shape[-1]))
        update = self.lr_adjust(self.zeropower_via_newtonschulz5(matrix, self.ns_steps))
        lr = ops.cast(lr, variable.dtype)
        self.assign_sub(variable, lr * ops.reshape(update, variable.shape))

    def zeropower_via_newtonschulz5(self, x, steps: int):
        """The Newton-Schulz iteration; of long matrices, on their Gram matrix.

        A step is `x <- p(x x^T) x`, and all that p's argument does is to change by
        p as well: so `x` itself is needed at the beginning and at the end alone.
        """
        short, long = sorted(x.shape)
        if long < 2 * short:
            return super().zeropower_via_newtonschulz5(x, steps)
        if x.shape[0] > x.shape[1]:
            return ops.transpose(
                self.zeropower_via_newtonschulz5(ops.transpose(x), steps)
            )
        x = x / (ops.norm(x) + 1e-7)
        gram = ops.matmul(x, ops.transpose(x))
        factor = whole = identity = ops.eye(short, dtype=x.dtype)
        for step in range(steps):
            if step:
                gram = ops.matmul(ops.matmul(factor, gram), factor)
            factor = self.muon_b * gram + self.muon_c * ops.matmul(gram, gram)
            factor = factor + self.muon_a * identity
            whole = ops.matmul(factor, whole)
        return ops.matmul(whole, x)
