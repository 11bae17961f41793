"""What the trainers have in common."""

from __future__ import annotations

import functools

import keras

from kerasdiffusion.compute import backend
from kerasdiffusion.compute.rewriting import kept_as_traced


class Trainer(keras.Model):
    """A model that is trained for its networks' sake and never called by itself.

    Its `fit()` says that the first step takes longer: it is when the step's program is
    made, minutes for a large network, in which nothing else is printed.
    """

    def build(self, input_shape=None):
        pass

    @functools.wraps(keras.Model.compile)
    def compile(self, *args, **kwargs):
        # By XLA where programs are: Keras would on a CPU too, and take minutes.
        if kwargs.get("jit_compile", "auto") == "auto":
            kwargs["jit_compile"] = backend.resolve_jit_compile("auto")
        super().compile(*args, **kwargs)

    @functools.wraps(keras.Model.make_train_function)
    def make_train_function(self, force=False):
        is_new = force or self.train_function is None
        if is_new and self.optimizer is not None and not self.optimizer.built:
            # Else TensorFlow makes its variables in a first trace, and traces again.
            if all(each.built for each in self._flatten_layers(include_self=False)):
                self.optimizer.build(self.trainable_variables)
        found = super().make_train_function(force)
        if is_new and not self.run_eagerly:
            self.train_function = kept_as_traced(self.train_function, self.jit_compile)
        return found

    @functools.wraps(keras.Model.fit)
    def fit(self, *args, **kwargs):
        announce(self, kwargs.get("verbose", "auto"))
        return super().fit(*args, **kwargs)


def announce(model: keras.Model, verbose) -> None:
    """Says ahead of a `fit()` that its first step is a long one.

    Args:
        model: A compiled model; of one that has trained before nothing is said.
        verbose: As in `fit()`; with 0 nothing is said.
    """
    if verbose and model.train_function is None:
        print(
            f"{model.name}: the first step makes the program of all steps (it is "
            "traced or compiled) and takes longer than they do.",
            flush=True,
        )
