"""A batch in an object store: as on a disk, whatever is killed at whatever step."""

import functools
import io
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerasdiffusion.apps.cli import main
from kerasdiffusion.batch import paint, pictures_of, read_index
from kerasdiffusion.batch.stores import lease, store_of
from tests.batch import bucket
from tests.batch.stand_in import StandIn, painted, picture_of

assert bucket  # (which has its URLs known)
QUIET = {"progress_bar": False, "engine": "local"}


def rows_of(count):
    return [{"name": f"r{i}", "prompt": f"a cat {i}"} for i in range(count)]


@pytest.fixture
def url():
    return f"memory://{uuid.uuid4().hex}/out"


def check_whole(url, count, store="files"):
    """Each row once, and its picture the one of its key."""
    assert len(list(read_index(url))) == count
    found = list(pictures_of(url))
    assert sorted(told["name"] for told, _ in found) == sorted(
        each["name"] for each in rows_of(count)
    )
    for told, content in found:
        picture = np.asarray(Image.open(io.BytesIO(content)))
        assert np.array_equal(picture, picture_of(told["key"], picture.shape[:2])[0])
    files = [each for each in store_of(url).names("pictures")]
    assert len(files) == (count if store == "files" else 0)
    assert store_of(url).read(".lock") is None


def test_a_second_run_paints_what_is_new(url, tmp_path):
    make = functools.partial(StandIn, tmp_path / "log")
    done = paint(rows_of(10), url, make, batch_size=4, **QUIET)
    assert done == (10, 0, 0, url)
    assert paint(rows_of(12), url, make, batch_size=4, **QUIET)[:3] == (2, 0, 10)
    check_whole(url, 12)
    assert sorted(painted(tmp_path / "log")) == sorted(f"r{i}" for i in range(12))
    assert "index.parquet" in store_of(url).tops()


@pytest.mark.parametrize("packed", ["parquet", "webdataset"])
def test_pictures_are_packed_there_too(url, packed):
    how = {"store": packed, "shard": 4, "batch_size": 2, **QUIET}
    assert paint(rows_of(6), url, StandIn, **how).painted == 6
    assert paint(rows_of(9), url, StandIn, **how)[:3] == (3, 0, 6)
    check_whole(url, 9, packed)
    with pytest.raises(ValueError, match="Lance table must be in a folder on a disk"):
        paint(rows_of(9), url, StandIn, **{**how, "store": "lance"})


class Killed(BaseException):
    """What nothing in the process outlives."""


@pytest.mark.parametrize("packed", ["files", "webdataset"])
def test_killed_at_any_step_each_row_is_recorded_once(url, packed, monkeypatch):
    """The k-th call that changes the store never returns, nor does one after it.

    Every second step, ahead of what the call does, or after it.
    """
    how = {"store": packed, "shard": 3, "batch_size": 2, **QUIET}
    kind, left, steps = type(store_of(url)), [0], 0

    def dies(method, after):
        def wrapped(*arguments, **named):
            left[0] -= 1
            if left[0] < 0 or (left[0] == 0 and not after):
                raise Killed
            found = method(*arguments, **named)
            if left[0] == 0:
                raise Killed
            return found

        return wrapped

    monkeypatch.setattr(lease, "is_gone", lambda owner: True)
    while True:
        steps += 1
        left[0] = steps
        with monkeypatch.context() as dying:
            for name in ("create", "write", "remove", "_send"):
                own = getattr(kind, name)
                dying.setattr(kind, name, dies(own, steps % 2))
            try:
                paint(rows_of(steps % 9 + 3), url, StandIn, **how)
                break
            except Killed:
                pass
    assert steps > 10
    paint(rows_of(11), url, StandIn, **how)
    check_whole(url, 11, packed)


def test_rows_and_their_pictures_are_read_from_a_store(url):
    store = store_of(url)
    content = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(content, "PNG")
    store.write("rows/begin.png", content.getvalue())
    table = "name,prompt,image\na,a cat,begin.png\nb,a cat,none.png\n"
    store.write("rows/rows.csv", table.encode())
    how = {"task": "image_to_image", **QUIET}
    assert paint(f"{url}/rows/rows.csv", url, StandIn, **how)[:2] == (1, 1)
    errors = [each["error"] for each in read_index(url) if "error" in each]
    assert "must be a picture below the table's own place" in errors[0]
    with pytest.raises(FileNotFoundError, match="must be a file of rows"):
        paint(f"{url}/rows/none.csv", url, StandIn, **how)


def test_parquet_rows_are_read_from_a_store(url):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    for name in "ab":
        with store_of(url).whole(f"rows/{name}.parquet") as part:
            pq.write_table(pa.table({"name": [name], "prompt": ["a cat"]}), part)
    assert paint(f"{url}/rows", url, StandIn, **QUIET).painted == 2
    assert paint(f"{url}/rows/a.parquet", url, StandIn, **QUIET).before == 1


def test_the_command_says_what_cannot_be(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("prompt\na cat\n")
    for url, message in (
        ("nonsense://x/y", "of a store that fsspec knows"),
        ("lakefs://x/y", "needs a library of its own"),
    ):
        assert main(["batch", "rows.csv", "--out", url]) == 1
        assert message in capsys.readouterr().err
    (tmp_path / "cats").mkdir()
    assert main(["encode", "cats", "--out", "memory://x"]) == 1
    assert "must go to a folder on a disk" in capsys.readouterr().err
    with pytest.raises(ValueError, match="memory:// is one process's own"):
        paint("rows.csv", "memory://x", StandIn, progress_bar=False, engine="ray")


CHILD = """
import functools, sys
from kerasdiffusion.batch import paint
from tests.batch import bucket
from tests.batch.stand_in import StandIn
from tests.batch.test_object_job import QUIET, rows_of
paint(rows_of(300), sys.argv[1], functools.partial(StandIn, sys.argv[2], 0.002),
      batch_size=4, **QUIET)
"""


def killed(url, log, kills=6) -> int:
    """Paints 300 rows, killed by SIGKILL at random moments; returns how often."""
    random, told = np.random.default_rng(0), 0
    while True:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, url, str(log)], cwd=Path(__file__).parents[2]
        )
        begun = len(painted(log))
        while child.poll() is None and len(painted(log)) == begun:
            time.sleep(0.001)
        if told < kills:
            time.sleep(random.uniform(0.0, 0.1))
            child.kill()
        if child.wait() == 0:
            return told
        told += 1


@pytest.mark.heavy
def test_killed_at_any_moment_in_a_bucket(tmp_path):
    url = f"bucket://{tmp_path}/out"
    kills = killed(url, tmp_path / "log")
    assert kills == 6
    check_whole(url, 300)
    assert len(painted(tmp_path / "log")) <= 300 + kills * 2 * 4


@pytest.fixture
def s3(monkeypatch):
    """A server that speaks S3, and the URL of a bucket of its own."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server")
    import fsspec

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    found = server.ThreadedMotoServer(port=0, verbose=False)
    found.start()
    host, port = found.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    fsspec.filesystem("s3").mkdir("pictures")
    yield "s3://pictures/out"
    found.stop()


@pytest.mark.heavy
def test_killed_at_any_moment_in_s3(s3, tmp_path):
    kills = killed(s3, tmp_path / "log")
    assert kills == 6
    check_whole(s3, 300)
    assert len(painted(tmp_path / "log")) <= 300 + kills * 2 * 4
    store = store_of(s3)
    assert not store.create("index.parquet", b"") and store.has("index.parquet")
    store.write("rows/rows.csv", b"name,prompt\na,a cat\n")
    assert paint(f"{s3}/rows/rows.csv", s3, StandIn, **QUIET).painted == 1
    with pytest.raises(OSError, match="must have a place that it may write to"):
        paint(rows_of(1), "s3://nobodys/out", StandIn, **QUIET)
