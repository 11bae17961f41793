"""What a network answers to Keras's saving, cloning and exporting."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Iterator, Mapping

import keras

from kerasdiffusion.compute.precision import policy


class KerasFiles:
    """A network that is made from its `config` alone, as Keras keeps it."""

    def get_config(self):
        if any(variable.dtype == "int8" for variable in self.weights):
            raise ValueError(
                "Keras's files, copies and exports have no 8-bit weights of this "
                f"library's. Received: {self.name!r}, whose kernels are in 8 bits"
            )
        values, dtype = dataclasses.asdict(self.config), self.dtype_policy.name
        return {"config": values, "dtype": dtype, "name": self.name}

    @classmethod
    def from_config(cls, values, custom_objects=None):
        own = values["config"]
        if isinstance(own, Mapping):
            kind = cls.config_class()
            own = kind(**{name: _tuples(each) for name, each in own.items()})
        return cls(config=own, dtype=policy(values["dtype"]), name=values["name"])

    @classmethod
    def config_class(cls) -> type:
        """Of which class the configuration is."""
        return type(inspect.signature(cls.__init__).parameters["config"].default)

    def save(self, filepath, *args, **kwargs):
        self.get_config()  # what cannot be saved is said ahead of the file
        super().save(filepath, *args, **kwargs)

    def export(self, filepath, format="tf_saved_model", input_signature=None, **kwargs):
        if input_signature is None:
            raise ValueError(
                "A part takes inputs of many sizes: pass those to export as "
                '`input_signature=[keras.InputSpec(shape=(1, 64, 64, 4), dtype="float32'
                f'")]`. Received: none for the {self.name}'
            )
        with exporting(format):
            super().export(filepath, format, input_signature=input_signature, **kwargs)


def register(cls) -> None:
    """Has Keras know a class of this package when it reads one.

    Args:
        cls: A layer or a model. Its `saved_as` is the package that files name, where
            another class of this package has its name.
    """
    if cls.__module__.startswith("kerasdiffusion."):
        package = getattr(cls, "saved_as", "kerasdiffusion")
        keras.saving.register_keras_serializable(package)(cls)


@contextlib.contextmanager
def exporting(format: str) -> Iterator[None]:
    """Within it, a package that Keras needs and does not find is said by its name.

    Args:
        format: What is exported to.

    Raises:
        ImportError: If there is none.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(
            f"Keras exports to this format by the package {error.name!r}: "
            f"pip install {error.name}. Received: format={format!r}"
        ) from error


def _tuples(value):
    """JSON's lists, nested too, as the tuples that they were."""
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value
