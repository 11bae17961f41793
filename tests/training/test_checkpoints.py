"""A run that is killed at any moment goes on, and trains no epoch twice."""

import csv
import os

import h5py
import keras
import numpy as np
import pytest

from kerasdiffusion.storage.locks import locked
from kerasdiffusion.training import checkpoints
from kerasdiffusion.training.bundled import emoji
from kerasdiffusion.training.bundled.recipes import TOY, Stage
from kerasdiffusion.training.checkpoints import CHECKPOINT, LOG, claim
from kerasdiffusion.training.examples.data import Batches
from kerasdiffusion.training.trainer import Trainer

STAGE = Stage(3, 2, 4, 1e-2, 0.9)


class Killed(BaseException):
    """Stands for the end of the process."""


class Line(Trainer):
    """A layer that learns numbers with noise of its own."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1, kernel_initializer="ones")
        self.dense.build((None, 2))
        self.seed_generator = keras.random.SeedGenerator(3)

    def call(self, x):
        noise = keras.random.normal(keras.ops.shape(x), seed=self.seed_generator)
        return keras.ops.square(self.dense(x + 0.1 * noise))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **kwargs):
        return keras.ops.mean(y_pred)


class Numbers(Batches):
    def batch(self, number):
        rng = np.random.default_rng(number)
        return rng.normal(size=(4, 2)).astype("float32")


def run(folder, stage=STAGE):
    """A process of its own, as far as anything is kept: its trained weights."""
    line = Line()
    emoji._fit(line, stage, Numbers(), folder)
    return [np.array(weight) for weight in line.weights]


def epochs(folder):
    with open(folder / LOG, newline="") as file:
        return [int(row["epoch"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"))


def at(number, owner, name):
    """Patches a function so that the process ends at a call of it."""
    calls, function = [], getattr(owner, name)

    def dying(*args, **kwargs):
        calls.append(args)
        if len(calls) == number:
            raise Killed
        return function(*args, **kwargs)

    return owner, name, dying


@pytest.mark.parametrize(
    "moment",
    [
        (2, keras.callbacks.CSVLogger, "on_epoch_end"),
        (2, keras.Model, "save_weights"),
        (2, checkpoints.json, "dumps"),
        (2, os, "fsync"),  # of the weights' file; the folder's is the next
        (3, os, "fsync"),
        (2, os, "replace"),
        (2, checkpoints.Checkpoint, "on_epoch_end"),
    ],
    ids=lambda moment: f"{moment[1].__name__}.{moment[2]}",
)
def test_killed_at_any_moment_it_goes_on(tmp_path, expected, monkeypatch, moment):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(*at(*moment))
        run(tmp_path)
    found = run(tmp_path)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert epochs(tmp_path) == [0, 1, 2]
    assert sorted(os.listdir(tmp_path)) == [CHECKPOINT, LOG]


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, expected, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    run(tmp_path, Stage(1, 2, 4, 1e-2, 0.9))
    before = (tmp_path / CHECKPOINT).read_bytes()
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(os, "fsync", full)
        run(tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_a_line_of_the_log_that_was_cut_goes(tmp_path):
    run(tmp_path, Stage(1, 2, 4, 1e-2, 0.9))
    with open(tmp_path / LOG, "a") as file:
        file.write("1,0.5\n2,0.")
    run(tmp_path)
    assert epochs(tmp_path) == [0, 1, 2]


def test_a_run_of_the_first_version_goes_on(tmp_path, expected):
    run(tmp_path, Stage(1, 2, 4, 1e-2, 0.9))
    with h5py.File(tmp_path / CHECKPOINT, "r+") as file:
        text = file.attrs.pop("kerasdiffusion_progress")
    (tmp_path / "progress.json").write_text(text)
    run(tmp_path)
    assert epochs(tmp_path) == [0, 1, 2]
    assert not (tmp_path / "progress.json").exists()


@pytest.mark.parametrize("damage", ["cut", "other", "no epoch", "empty"])
def test_a_checkpoint_that_is_none_is_one_sentence(tmp_path, damage):
    run(tmp_path, Stage(1, 2, 4, 1e-2, 0.9))
    path = tmp_path / CHECKPOINT
    if damage == "other":
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(
            tmp_path / "x.weights.h5"
        )
        with h5py.File(path) as file, h5py.File(tmp_path / "x.weights.h5", "r+") as x:
            x.attrs.update(file.attrs)
        (tmp_path / "x.weights.h5").replace(path)
    elif damage == "no epoch":
        with h5py.File(path, "r+") as file:
            file.attrs["kerasdiffusion_progress"] = "[1]"
    else:
        path.write_bytes(path.read_bytes()[: 1000 * (damage == "cut")])
    with pytest.raises(ValueError, match="checkpoint.*Received: ") as caught:
        run(tmp_path)
    assert str(tmp_path) in str(caught.value) and len(str(caught.value)) < 900


def test_one_run_trains_in_a_folder(tmp_path):
    with (
        locked(tmp_path, "A test"),
        pytest.raises(BlockingIOError, match="another process.*Received"),
    ):
        emoji.train(tmp_path, TOY)


def test_a_folder_is_not_taken_for_another_runs(tmp_path):
    made = {"recipe": {"seed": 0, "text": {"epochs": 3, "steps": 2}}, "start": None}
    claim(tmp_path, made)
    claim(
        tmp_path,
        {"recipe": {"seed": 0, "text": {"epochs": 9, "steps": 2}}} | {"start": None},
    )
    with pytest.raises(ValueError, match="another start; choose.*Received"):
        claim(tmp_path, {**made, "start": "emoji"})
    with pytest.raises(ValueError, match="another recipe"):
        claim(tmp_path, {**made, "recipe": {"seed": 1}})


def test_fit_says_that_its_first_step_is_long(capsys):
    line, x = Line(), np.ones((4, 2), "float32")
    line.compile("sgd")
    line.fit(x, verbose=0)
    assert capsys.readouterr().out == ""
    line = Line()
    line.compile("sgd")
    line.fit(x, verbose=2)
    out = capsys.readouterr().out
    assert out.startswith(f"{line.name}: the first step makes the program")
    line.fit(x, verbose=2)
    assert "first step" not in capsys.readouterr().out
