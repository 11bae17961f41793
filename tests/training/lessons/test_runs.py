"""A run that is stopped at any step, however that is, ends as an unbroken one does."""

import csv
import errno
import os
import signal

import numpy as np
import pytest
from PIL import Image

from kerasdiffusion.storage.locks import locked
from kerasdiffusion.training.checkpoints import LOG
from kerasdiffusion.training.lessons import runs, states
from kerasdiffusion.training.lessons.runs import SAMPLES, SHEET, Run
from kerasdiffusion.training.lessons.states import STATE
from tests.training.test_checkpoints import Killed, Line, Numbers, at

pytestmark = pytest.mark.every_backend_at_length
STEPS = 6


class Counted(Numbers):
    """Batches of three an epoch; which were asked for is kept."""

    def __init__(self):
        super().__init__(steps=3)
        self.asked = []

    def epoch_at(self, number):
        return number // self.steps

    def batch(self, number):
        self.asked.append(number)
        return super().batch(number)


def make(folder, steps=STEPS, **options):
    line = Line()
    line.compile(make_optimizer(), jit_compile=False)
    line.build()
    options = {"save_every": 2, "report": lambda text: None, "made": {"a": 1}} | options
    return Run(folder, line, Counted(), steps, progress_bar=False, **options)


def make_optimizer():
    import keras

    return keras.optimizers.AdamW(1e-2, use_ema=True, ema_momentum=0.9)


def run(folder, **options):
    made = make(folder, **options)
    made.go()
    return [np.array(weight) for weight in made.trainer.weights]


def rows(folder):
    with open(folder / LOG, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    weights = run(folder)
    return weights, [float(row["loss"]) for row in rows(folder)]


@pytest.mark.parametrize(
    "moment",
    [
        (4, runs._Log, "write"),
        (4, Line, "train_on_batch"),
        (2, runs, "write_state"),
        (2, states.json, "dumps"),
        (4, os, "fsync"),
        (2, os, "replace"),
    ],
    ids=lambda moment: f"{moment[1].__name__}.{moment[2]}",
)
def test_killed_at_any_moment_it_goes_on(tmp_path, whole, monkeypatch, moment):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(*at(*moment))
        run(tmp_path)
    weights, losses = whole
    for ours, theirs in zip(run(tmp_path), weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    found = rows(tmp_path)
    assert [int(row["step"]) for row in found] == [1, 2, 3, 4, 5, 6]
    assert [int(row["epoch"]) for row in found] == [0, 0, 0, 1, 1, 1]
    assert [float(row["loss"]) for row in found] == losses
    assert {each.name for each in tmp_path.iterdir()} == {"config.json", LOG, STATE}


def test_it_goes_on_with_the_step_that_was_next(tmp_path):
    first = make(tmp_path, steps=3, may_change=("steps",))
    first.go()
    second = make(tmp_path, steps=5, may_change=("steps",))
    assert second.go() == 3
    assert (first.batches.asked, second.batches.asked) == ([0, 1, 2], [3, 4])
    third = make(tmp_path, steps=5)
    assert third.go() == 5 and third.batches.asked == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_waits_for_the_step_and_can_be_gone_on_with(tmp_path, number):
    made = make(tmp_path, save_every=None)
    step = made.trainer.train_on_batch

    def interrupted(batch, **options):
        if len(made.batches.asked) == 3:
            signal.raise_signal(number)  # to this thread, and now
        return step(batch, **options)

    made.trainer.train_on_batch = interrupted
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        made.go()
    assert signal.getsignal(number) == before
    assert len(rows(tmp_path)) == 3
    assert make(tmp_path).go() == 3


def test_a_full_disk_leaves_the_state_before(tmp_path, whole, monkeypatch):
    def full(handle):
        if (tmp_path / LOG).exists() and len(rows(tmp_path)) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space.*stands at step 2.*same command"):
            run(tmp_path)
    for ours, theirs in zip(run(tmp_path), whole[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_loss_that_is_no_number_ends_it_and_is_not_kept(tmp_path):
    made = make(tmp_path)
    made.batches.batch = lambda number: np.full((4, 2), np.nan if number == 3 else 1.0)
    with pytest.raises(ValueError, match="at step 4; the state of step 2 is kept"):
        made.go()
    assert make(tmp_path).go() == 2


def test_one_run_in_a_folder(tmp_path):
    run(tmp_path)
    with locked(tmp_path, "A test"), pytest.raises(BlockingIOError, match="another"):
        run(tmp_path)
    with pytest.raises(ValueError, match="begun with another a; choose"):
        run(tmp_path, made={"a": 2})


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_a_state_that_is_none_is_one_sentence(tmp_path, damage):
    run(tmp_path)
    path = tmp_path / STATE
    if damage == "other":
        import keras

        line = Line()
        line.dense = keras.layers.Dense(3)
        line.dense.build((None, 2))
        line.compile(make_optimizer())
        line.optimizer.build(line.trainable_variables)
        states.write_state(path, line, 3)
    else:
        path.write_bytes(path.read_bytes()[: 100 * (damage == "cut")])
    with pytest.raises(ValueError, match="A run goes on.*Received: ") as caught:
        run(tmp_path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 900


def test_pictures_on_the_way_and_a_sheet(tmp_path):
    made = make(tmp_path, sample_every=2)
    seen = []

    def paint():
        seen.append(np.array(made.trainer.dense.kernel))
        return np.full((2, 16, 16, 3), 40 * len(seen), "uint8")

    made.paint = paint
    made.go()
    names = sorted(each.name for each in (tmp_path / SAMPLES).iterdir())
    expected = [f"{i}-step-00000{step}.png" for i in (0, 1) for step in (2, 4, 6)]
    assert names == expected
    sheet = np.asarray(Image.open(tmp_path / SHEET))
    assert sheet.shape == (3 * 16, 2 * 16, 3)
    assert [row[0, 0] for row in sheet[::16]] == [40, 80, 120]
    # What was painted is the average; what is taught on is not.
    assert not np.array_equal(seen[-1], np.array(made.trainer.dense.kernel))


def test_the_loss_of_what_is_not_taught(tmp_path):
    run(tmp_path, validate=lambda: 0.25, validate_every=3)
    found = [row["validation_loss"] for row in rows(tmp_path)]
    assert found == ["", "", "0.25", "", "", "0.25"]


def test_it_says_how_long_it_takes(tmp_path):
    said = []
    run(tmp_path, report=said.append)
    (line,) = said
    assert "s a step (the first took" in line and "2 more take about 0 seconds" in line
    assert "GiB at most so far" in line
