"""What a run needs to go on, in one file: weights, optimizer, draws and the count.

A file takes its name in one step: killed at any moment, a run goes on with the epoch
that it was at, and trains none twice.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Collection
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
                for generator in generators(self.model)
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
            for generator, drawn in zip(generators(trainer), random, strict=True):
                generator.state.assign(drawn)
        except (ValueError, KeyError, OSError, RuntimeError) as error:
            raise ValueError(
                "A run goes on from a whole checkpoint of the same networks "
                f"({shown(str(error))}). Received: {path}; another folder, or this one "
                "without it, begins anew."
            ) from error
    cut_log(folder / LOG, done)
    return done


def claim(
    folder: Path,
    made: dict,
    name: str = RUN,
    may_change: Collection[str] = ("epochs", "precision"),
) -> None:
    """Refuses a folder in which another recipe was trained; else notes this one's.

    Args:
        folder: The run's.
        made: What the run is made from, as JSON has it.
        name: The file that says it.
        may_change: What may be another when the run goes on, at any depth.

    Raises:
        ValueError: If the folder is another run's.
    """
    path, made = folder / name, json.loads(json.dumps(made))
    earlier = read_json(path) if path.exists() else made
    before, now = (_lasting(each, may_change) for each in (earlier, made))
    if before != now:
        names = set(now) | set(before if isinstance(before, dict) else ())
        other = sorted(n for n in names if dict(before).get(n) != now.get(n))
        raise ValueError(
            "A folder belongs to one run: this one was begun with another "
            f"{', '.join(other)}; choose another folder. Received: {folder}"
        )
    if not path.exists() or earlier != made:
        write_whole(path, json.dumps(made, indent=1) + "\n", overwrite=True)


def _lasting(made, may_change: Collection[str]):
    if isinstance(made, dict):
        return {
            name: _lasting(value, may_change)
            for name, value in made.items()
            if name not in may_change
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


def cut_log(path: Path, done: int, first: str = "epoch") -> None:
    """Leaves the whole rows of what is done.

    Args:
        path: A CSV file, if there is one.
        done: How many epochs or steps are; a row's first number is under it.
        first: What the header calls that number.
    """
    if not path.exists():
        return
    lines = read_text(path, "log").splitlines(keepends=True)
    rows = list(csv.reader(lines))
    kept = [
        line
        for line, row in zip(lines, rows, strict=True)
        if line.endswith("\n") and (row[:1] == [first] or _is_done(row, done))
    ]
    # Keras writes a header where the file is empty.
    text = "".join(kept) if len(kept) > 1 else ""
    write_whole(path, text, overwrite=True)


def _is_done(row: list[str], done: int) -> bool:
    return bool(row) and row[0].isdigit() and int(row[0]) < done


def generators(trainer) -> list[keras.random.SeedGenerator]:
    """A trainer's own seed generator, where it draws anything."""
    return [trainer.seed_generator] if hasattr(trainer, "seed_generator") else []
