"""What KerasCV's four networks have in common: their weights, and files of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kerasdiffusion.compute import backend
from kerasdiffusion.keras_cv import sources
from kerasdiffusion.weights import keras_cv, load
from kerasdiffusion.weights.base import WeightsError
from kerasdiffusion.weights.files import open_tensors
from kerasdiffusion.weights.formats import HDF5File


class Part:
    """A network of this library with KerasCV's arguments, inputs and files.

    Attributes:
        part: Its name in a model.
        version: Of Stable Diffusion, 1 or 2.
    """

    part: str
    version = 1
    saved_as = "kerasdiffusion.keras_cv"

    @classmethod
    def config_class(cls) -> type:
        """Of which class the configuration is."""
        bases = (base for base in cls.__mro__ if not issubclass(base, Part))
        return next(bases).config_class()

    def _start(self, make: Callable, config, usual, dtype, name, read: bool) -> None:
        """Makes the network: of its own configuration, or of the published one."""
        read = read and config is None
        with backend.empty_weights(read):
            make(usual() if config is None else config, dtype, name or self.part)
        if read:
            load.load_weights({self.part: self}, sources.source(self.version))

    def load_weights(
        self, filepath, skip_mismatch=False, by_name=False, options=None, **kwargs
    ) -> None:
        """Reads KerasCV's files, Keras's own, and those of any layout we read.

        Args:
            filepath: A file: `.h5` of KerasCV, by Keras 2 or 3; `.weights.h5` of
                `save_weights`; `.safetensors` of diffusers; or a folder.
            skip_mismatch: Must be left as it is: weights are read whole or not at all.
            by_name: The same.
            options: The same.

        Raises:
            WeightsError: If the file is none of those, or does not fit.
        """
        if skip_mismatch or by_name or options is not None:
            raise ValueError(
                "Weights are read whole or not at all: `skip_mismatch`, `by_name` and "
                f"`options` are not taken. Received: {skip_mismatch=}, {by_name=}, "
                f"{options=}"
            )
        path = Path(filepath)
        if _is_keras_own(path):
            super().load_weights(path, **kwargs)
        else:
            load.load_weights({self.part: self}, {self.part: path})

    def save_weights(
        self, filepath, overwrite=True, save_format=None, options=None, **kwargs
    ) -> None:
        """As of any Keras model, to a path that ends in `.weights.h5`."""
        if save_format is not None or options is not None:
            raise ValueError(
                "Keras 3 has one format: `save_format` and `options` are not taken. "
                f"Received: {save_format=}, {options=}"
            )
        super().save_weights(filepath, overwrite=overwrite, **kwargs)


def _is_keras_own(path: Path) -> bool:
    """Whether a file is of `save_weights` of one of these networks."""
    if not path.name.endswith(".weights.h5") or not path.is_file():
        return False
    with open_tensors(path) as file:
        if not isinstance(file, HDF5File):
            return False
        try:
            return not keras_cv.layers(file)
        except WeightsError:
            return True
