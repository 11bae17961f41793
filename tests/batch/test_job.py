"""A batch by one process: painted, recorded, gone on with, and what goes wrong."""

import errno
import functools
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerasdiffusion.batch import paint, read_index
from kerasdiffusion.batch import worker as workers
from kerasdiffusion.batch.asked import Item
from kerasdiffusion.batch.painter import Painter
from kerasdiffusion.pictures.metadata import read_parameters
from kerasdiffusion.requests.request import Request
from kerasdiffusion.storage.locks import locked
from kerasdiffusion.tasks.batches import filled_up
from tests.batch.stand_in import StandIn, painted, picture_of

QUIET = {"progress_bar": False, "engine": "local"}


def rows_of(count, **more):
    return [{"name": f"r{i}", "prompt": f"a cat {i}", **more} for i in range(count)]


@pytest.fixture
def batch(tmp_path):
    """Paints rows by a stand-in that writes down what it paints."""

    def run(rows, **how):
        make = functools.partial(StandIn, tmp_path / "log")
        return paint(rows, tmp_path / "out", make, **{**QUIET, **how})

    return run


def records(tmp_path):
    return {each["name"]: each for each in read_index(tmp_path / "out")}


def check_whole(tmp_path, count):
    """Each row once, and its picture the one of its key."""
    found = list(read_index(tmp_path / "out"))
    assert len(found) == count
    for each in found:
        (file,) = each["files"]
        picture = np.asarray(Image.open(tmp_path / "out" / file))
        size = each["height"], each["width"]
        assert np.array_equal(picture, picture_of(each["key"], size)[0])
    files = [each for each in (tmp_path / "out/pictures").rglob("*") if each.is_file()]
    assert len(files) == count


def test_a_second_run_paints_what_is_new(batch, tmp_path):
    assert batch(rows_of(10), batch_size=4)[:3] == (10, 0, 0)
    check_whole(tmp_path, 10)
    assert batch(rows_of(12), batch_size=4)[:3] == (2, 0, 10)
    check_whole(tmp_path, 12)
    assert sorted(painted(tmp_path / "log")) == sorted(f"r{i}" for i in range(12))
    changed = rows_of(12)
    changed[3]["seed"] = 5
    assert batch(changed)[:3] == (1, 0, 11)
    assert painted(tmp_path / "log")[-1] == "r3"


def test_the_index_is_a_parquet_file_too(batch, tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = rows_of(3, id=7)
    rows[1]["prompt"] = None
    batch(rows, keep=["id"])
    found = pq.read_table(tmp_path / "out/index.parquet").to_pylist()
    by_name = {each["name"]: each for each in found}
    assert by_name["r0"]["prompt"] == "a cat 0" and by_name["r0"]["width"] == 8
    assert (tmp_path / "out" / by_name["r0"]["file"]).is_file()
    assert json.loads(by_name["r0"]["kept"]) == {"id": 7}
    assert by_name["r1"]["status"] == "failed" and "prompt" in by_name["r1"]["error"]


def test_broken_rows_stop_nobody_and_are_tried_again_when_asked(batch, tmp_path):
    rows = rows_of(6)
    rows[1]["prompt"] = "broken"  # in painting: it can be told which it is
    rows[2]["prompt"] = "crash"  # in painting: the halves tell
    rows[4]["size"] = 500
    assert batch(rows)[:3] == (3, 3, 0)
    errors = {name: each.get("error") for name, each in records(tmp_path).items()}
    assert errors["r1"] == "`prompt` must not be broken. Received: one that is"
    assert errors["r2"] == "RuntimeError: it cannot be painted"
    assert "multiples of 8. Received: (500, 500)" in errors["r4"]
    assert {
        each["fault"] for each in records(tmp_path).values() if "fault" in each
    } == {*("row", "machine")}
    assert batch(rows)[:3] == (0, 0, 6)
    rows[4]["size"] = 16
    assert batch(rows, retry_failed=True)[:3] == (1, 2, 3)
    assert len(painted(tmp_path / "log")) == 4


def test_where_everything_fails_the_batch_ends(batch, tmp_path, monkeypatch):
    monkeypatch.setattr("kerasdiffusion.batch.engines.IN_A_ROW", 5)
    with pytest.raises(RuntimeError, match="5 rows have failed one after the other"):
        batch(rows_of(50, prompt="crash"), batch_size=1)
    assert 5 <= len(records(tmp_path)) < 10


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_other_kinds_of_files(batch, tmp_path, kind):
    batch(rows_of(1), kind=kind, quality=90)
    (file,) = records(tmp_path)["r0"]["files"]
    assert Image.open(tmp_path / "out" / file).format == kind.upper()


def test_a_folder_that_another_batch_is_at_work_in_is_refused(batch, tmp_path):
    batch(rows_of(1))
    with locked(tmp_path / "out", "A batch"):
        with pytest.raises(BlockingIOError, match="A batch needs its folder"):
            batch(rows_of(2))
    assert batch(rows_of(2))[:3] == (1, 0, 1)


def test_nothing_is_lost_on_a_full_disk(batch, tmp_path, monkeypatch):
    count, whole = [0], workers.Worker._written

    def full(self, item, found, seconds):
        count[0] += 1
        if count[0] > 5:
            raise OSError(errno.ENOSPC, "No space left on device", "picture.png")
        return whole(self, item, found, seconds)

    monkeypatch.setattr(workers.Worker, "_written", full)
    with pytest.raises(OSError, match="The disk is full.*the same command goes on"):
        batch(rows_of(12), batch_size=2)
    monkeypatch.undo()
    done = len(records(tmp_path))
    assert done == 4
    assert batch(rows_of(12), batch_size=2)[:3] == (8, 0, 4)
    check_whole(tmp_path, 12)


def test_rows_of_one_name_end_a_stream_and_what_is_painted_stays(batch, tmp_path):
    stream = iter([*rows_of(3), *rows_of(1)])
    with pytest.raises(ValueError, match="Received: 'r0' again"):
        batch(stream, batch_size=1)
    assert set(records(tmp_path)) >= {"r0"}
    (tmp_path / "out2").mkdir()
    with pytest.raises(ValueError, match="Received: 'r0' again, as row 3"):
        paint([*rows_of(3), *rows_of(1)], tmp_path / "out2", StandIn, **QUIET)
    assert not (tmp_path / "out2/pictures").exists()


def test_an_interruption_waits_for_what_is_in_hand(batch, tmp_path):
    def interrupted():
        yield from rows_of(6)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batch(interrupted(), batch_size=2)
    assert set(records(tmp_path)) == set(painted(tmp_path / "log"))
    recorded = len(records(tmp_path))
    assert batch(rows_of(6), batch_size=2)[:3] == (6 - recorded, 0, recorded)
    check_whole(tmp_path, 6)


@pytest.mark.parametrize(
    "how",
    [
        {"batch_size": 0},
        {"engine": "spark"},
        {"kind": "gif"},
        {"quality": 0},
        {"task": "paint"},
        {"constants": {"stepz": 3}},
    ],
)
def test_arguments_that_are_none_are_refused_ahead(tmp_path, how):
    with pytest.raises(ValueError, match="must be"):
        paint(rows_of(1), tmp_path / "out", StandIn, **{**QUIET, **how})
    assert not (tmp_path / "out/pictures").exists()


CHILD = """
import functools, sys
from kerasdiffusion.batch import paint
from tests.batch.stand_in import StandIn
from tests.batch.test_job import QUIET, rows_of
paint(rows_of(400), sys.argv[1], functools.partial(StandIn, sys.argv[2], 0.002),
      batch_size=4, **QUIET)
"""


def test_killed_at_any_moment_each_row_is_recorded_once(tmp_path):
    """Batches are painted twice that had no record yet: two of a worker at most."""
    random, kills = np.random.default_rng(0), 0
    while True:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "out"), str(tmp_path / "log")],
            cwd=Path(__file__).parents[2],
        )
        begun = len(painted(tmp_path / "log"))
        while child.poll() is None and len(painted(tmp_path / "log")) == begun:
            time.sleep(0.001)
        if kills < 4:
            time.sleep(random.uniform(0.0, 0.05))
            child.send_signal(signal.SIGKILL)
        if child.wait() == 0:
            break
        kills += 1
    assert kills == 4
    check_whole(tmp_path, 400)
    found = painted(tmp_path / "log")
    assert len(set(found)) == 400 and len(found) <= 400 + kills * 2 * 4
    assert not list((tmp_path / "out").rglob("*.part"))
    assert os.path.exists(tmp_path / "out/pictures")


def test_a_text_has_the_size_of_the_first_of_two_passes(tiny):
    """As everywhere: with it the picture is painted again."""
    told = {}
    for more in ({}, {"hires_scale": 1.5}):
        request = Request(task="text_to_image", prompt="a cat", seed=1, **more)
        pictures = np.zeros((1, 48, 48, 3), np.uint8)
        (text,) = Painter(tiny).described(Item("cat", "3f", request), pictures)
        told[bool(more)] = text["height"], text["width"]
    assert told == {False: (48, 48), True: (32, 32)}


def test_items_go_together_in_another_process_too():
    """Requests that were sent are joined as those that were made here."""
    requests = [Request(task="text_to_image", prompt=each, seed=1) for each in "abc"]
    sent = pickle.loads(pickle.dumps(requests))
    assert filled_up(sent) == filled_up(requests)


@pytest.mark.every_backend_at_length
def test_pictures_are_those_painted_alone(tmp_path, tiny, caplog):
    """To the bit one by one; in batches to their rounding, a step of 1 of 255."""
    rows = rows_of(3, steps=2)
    rows += [{"name": "large", "prompt": "two cats", "steps": 2, "size": "48x32"}]
    rows += [{"name": "several", "prompt": "two cats", "steps": 2, "batch_size": 2}]
    for size, most in ((1, 0), (4, 1)):
        out = tmp_path / f"{size}"
        assert paint(rows, out, lambda: tiny, batch_size=size, **QUIET).painted == 5
        for each in read_index(out):
            own = next(row for row in rows if row["name"] == each["name"])
            asked = {k: v for k, v in own.items() if k not in ("name", "steps", "size")}
            request = Request(
                task="text_to_image", num_steps=2, seed=each["seed"], **asked
            )
            from kerasdiffusion.tasks.sized import Sized

            view = Sized(tiny, each["height"], each["width"])
            alone = view.run(request).pictures().astype(int)
            files = [np.asarray(Image.open(out / x)).astype(int) for x in each["files"]]
            assert np.abs(np.stack(files) - alone).max() <= most
            text = read_parameters(out / each["files"][0])
            assert text["prompt"] == own["prompt"] and text["seed"] == each["seed"]
    assert not caplog.records  # that a batch was painted by halves
