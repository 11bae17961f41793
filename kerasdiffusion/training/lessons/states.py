"""What a run needs to go on at any step, in one file that is whole or not there."""

from __future__ import annotations

import json
import time
from pathlib import Path

import keras
import numpy as np

from kerasdiffusion.compute import backend
from kerasdiffusion.storage.bounds import shown
from kerasdiffusion.storage.reading import parse_json
from kerasdiffusion.storage.whole import whole_file
from kerasdiffusion.training.checkpoints import generators
from kerasdiffusion.weights.base import WeightsError
from kerasdiffusion.weights.files import open_tensors

STATE = "state.safetensors"
_NOTE = "kerasdiffusion_state"


def write_state(path: Path, trainer: keras.Model, step: int) -> None:
    """Writes what is taught, the optimizer, the draws and the step.

    What is not taught is not in it: a LoRA's state is three times as large as the LoRA.

    Args:
        path: A `.safetensors` file, in place of the one before.
        trainer: The model, compiled, with its optimizer built.
        step: How many steps are done.
    """
    from safetensors.numpy import save_file

    found = {name: _values(each) for name, each in _variables(trainer).items()}
    told = {"step": step, "time": time.time(), "shapes": _shapes(found)}
    with whole_file(path, overwrite=True) as part:
        save_file(found, part, {_NOTE: json.dumps(told)})


def read_state(path: Path, trainer: keras.Model) -> int:
    """Gives a trainer the state that was written.

    Args:
        path: The file.
        trainer: The model, compiled, with its optimizer built.

    Returns:
        How many steps are done; 0 where there is no file.

    Raises:
        ValueError: If the file is of another trainer, or damaged. The trainer is as it
            was.
    """
    if not path.exists():
        return 0
    variables = _variables(trainer)
    try:
        with open_tensors(path) as file:
            told = parse_json(file.metadata.get(_NOTE, "{}"), path)
            values = {name: np.array(file.read(name)) for name in file.keys()}
        step, there = int(told["step"]), _shapes(values)
        if there != told["shapes"] or step < 0:
            raise ValueError(f"it states {shown(told)}")
    except (WeightsError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"A run goes on from a whole state ({shown(str(error))}). "
            f"Received: {path}; another folder, or this one without it, begins anew."
        ) from error
    wanted = {name: list(each.shape) for name, each in variables.items()}
    if there != wanted:
        differ = sorted(
            name for name in {*there, *wanted} if there.get(name) != wanted.get(name)
        )
        raise ValueError(
            "A run goes on with the same networks, adapter and optimizer: the state "
            f"has another {', '.join(differ[:3])}. Received: {path}"
        )
    for name, variable in variables.items():
        variable.assign(values[name])
    return step


def _variables(trainer: keras.Model) -> dict[str, keras.Variable]:
    """All that changes from step to step, by its place.

    (Keras numbers the names of what a process makes twice.)
    """
    groups = {
        "taught": trainer.trainable_variables,
        "optimizer": trainer.optimizer.variables,
        "draws": [each.state for each in generators(trainer)],
    }
    return {
        f"{group}/{place}": each
        for group, variables in groups.items()
        for place, each in enumerate(variables)
    }


def _values(variable: keras.Variable) -> np.ndarray:
    """A variable's values; of half precision as float32, which holds them exactly."""
    values = np.array(backend.to_numpy(variable.value), order="C")
    return values.astype("float32") if values.dtype.itemsize == 2 else values


def _shapes(values: dict) -> dict[str, list[int]]:
    return {name: list(each.shape) for name, each in values.items()}
