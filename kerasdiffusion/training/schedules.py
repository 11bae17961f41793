"""How the learning rate goes over a run."""

from __future__ import annotations

import math

import keras
from keras import ops


class WarmUpCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A straight rise to the peak, then half a cosine down.

    Keras' `CosineDecay` does the same by branches; its optimizers ask for the rate once
    a variable, and TensorFlow then traces for a minute longer.

    Args:
        peak: The highest learning rate.
        steps: Steps of the whole run.
        warm_up: Steps of the rise, fewer than `steps`.
        floor: What is left at the end, as a part of the peak.

    Example:

    >>> rate = WarmUpCosine(1e-3, steps=1000, warm_up=100)
    >>> print(float(rate(0)), round(float(rate(100)), 6), round(float(rate(1000)), 6))
    0.0 0.001 5e-05

    Reference:
        Loshchilov and Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm
        Restarts", equation 5, without restarts.
    """

    def __init__(self, peak: float, steps: int, warm_up: int, floor: float = 0.05):
        self.peak, self.steps, self.warm_up, self.floor = peak, steps, warm_up, floor

    def __call__(self, step):
        step = ops.cast(step, "float32")
        done = ops.clip((step - self.warm_up) / (self.steps - self.warm_up), 0.0, 1.0)
        cosine = 0.5 + 0.5 * ops.cos(math.pi * done)
        decayed = self.floor + (1.0 - self.floor) * cosine
        return self.peak * ops.minimum(step / max(1, self.warm_up), decayed)

    def get_config(self):
        names = ("peak", "steps", "warm_up", "floor")
        return {name: getattr(self, name) for name in names}
