"""What a run needs to go on, in one file: weights, optimizer, draws and the count.

A file takes its name in one step: killed at any moment, a run goes on with the epoch
that it was at, and trains none twice.
"""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import keras

from kerasdiffusion.compute import backend
from kerasdiffusion.storage.bounds import shown
from kerasdiffusion.storage.reading import parse_json, read_json, read_text
from kerasdiffusion.storage.whole import whole_file, write_whole

CHECKPOINT = "checkpoint.weights.h5"
LOG = "log.csv"
RUN = "run.json"
_PROGRESS = "kerasdiffusion_progress"
# Of runs of the first version, which had it beside the weights.
_BESIDE = "progress.json"


class Checkpoint(keras.callbacks.Callback):
    """After each epoch: what `resume` reads.

    Keras does not save the state of a model's own seed generator.

    Args:
        folder: Where the checkpoint goes, in place of the one before.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def on_epoch_end(self, epoch, logs=None):
        import h5py

        progress = {
            "epoch": epoch + 1,
            "random": [
                backend.to_numpy(generator.state).tolist()
                for generator in _generators(self.model)
            ],
            "time": time.time(),
            **{name: float(value) for name, value in (logs or {}).items()},
        }
        path = self.folder / CHECKPOINT
        with whole_file(path, overwrite=True, ending=".weights.h5") as part:
            self.model.save_weights(part)
            with h5py.File(part, "r+") as file:
                file.attrs[_PROGRESS] = json.dumps(progress)
        (self.folder / _BESIDE).unlink(missing_ok=True)


def resume(trainer: keras.Model, folder: Path) -> int:
    """Gives a trainer the state of the last checkpoint, if there is one.

    Rows of the log of epochs that are trained again are taken out.

    Args:
        trainer: The model, built and compiled.
        folder: Where its checkpoint is.

    Returns:
        How many epochs are done.

    Raises:
        ValueError: If the checkpoint is of another model, or damaged.
    """
    path = folder / CHECKPOINT
    done, random = 0, None
    if path.exists():
        done, random = _progress(path)
        try:
            trainer.load_weights(path)
            for generator, drawn in zip(_generators(trainer), random, strict=True):
                generator.state.assign(drawn)
        except (ValueError, KeyError, OSError, RuntimeError) as error:
            raise ValueError(
                "A run goes on from a whole checkpoint of the same networks "
                f"({shown(str(error))}). Received: {path}; another folder, or this one "
                "without it, begins anew."
            ) from error
    _cut_log(folder / LOG, done)
    return done


def claim(folder: Path, made: dict) -> None:
    """Refuses a folder in which another recipe was trained; else notes this one's.

    Args:
        folder: The run's.
        made: What the run is made from, as JSON has it. How many epochs there are, and
            the dtype, may change on the way.

    Raises:
        ValueError: If the folder is another run's.
    """
    path, made = folder / RUN, _lasting(json.loads(json.dumps(made)))
    if path.exists():
        earlier = read_json(path)
        if earlier != made:
            names = set(made) | set(earlier if isinstance(earlier, dict) else ())
            other = sorted(n for n in names if dict(earlier).get(n) != made.get(n))
            raise ValueError(
                "A folder belongs to one run: this one was begun with another "
                f"{', '.join(other)}; choose another folder. Received: {folder}"
            )
        return
    write_whole(path, json.dumps(made, indent=1) + "\n")


def _lasting(made):
    if isinstance(made, dict):
        return {
            name: _lasting(value)
            for name, value in made.items()
            if name not in ("epochs", "precision")
        }
    return made


def _progress(path: Path) -> tuple[int, list]:
    """Epochs that are done and the draws' states, of a checkpoint."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get(_PROGRESS)
    except OSError as error:
        raise ValueError(
            f"A checkpoint must be a whole HDF5 file ({error}). Received: {path}; "
            "without it, the stage begins anew."
        ) from error
    if text is None:
        progress = read_json(path.with_name(_BESIDE))
    else:
        progress = parse_json(text, path)
    try:
        return int(progress["epoch"]), list(progress["random"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            "A checkpoint states its epoch and the draws' states. "
            f"Received: {shown(progress)} in {path}"
        ) from error


def _cut_log(path: Path, done: int) -> None:
    """Leaves the whole rows of epochs that are done."""
    if not path.exists():
        return
    lines = read_text(path, "log").splitlines(keepends=True)
    rows = list(csv.reader(lines))
    kept = [
        line
        for line, row in zip(lines, rows, strict=True)
        if line.endswith("\n") and (row[:1] == ["epoch"] or _is_done(row, done))
    ]
    # Keras writes a header where the file is empty.
    text = "".join(kept) if len(kept) > 1 else ""
    write_whole(path, text, overwrite=True)


def _is_done(row: list[str], done: int) -> bool:
    return bool(row) and row[0].isdigit() and int(row[0]) < done


def _generators(trainer) -> list[keras.random.SeedGenerator]:
    """Its own seed generator, where it draws anything."""
    return [trainer.seed_generator] if hasattr(trainer, "seed_generator") else []
