"""Pictures packed into larger files, once each, whatever comes between."""

import functools
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from kerasdiffusion.batch import packing, paint, pictures_of, read_index
from tests.batch.stand_in import StandIn, picture_of

QUIET = {"progress_bar": False, "engine": "local"}
STORES = ("parquet", "webdataset", "lance")


def rows_of(count):
    return [{"name": f"r{i}", "prompt": f"a cat {i}", "id": i} for i in range(count)]


def painted(tmp_path, count, store, **how):
    make = functools.partial(StandIn, None)
    more = {"store": store, "shard": 4, "keep": ["id"], "batch_size": 2, **QUIET}
    return paint(rows_of(count), tmp_path / "out", make, **{**more, **how})


def check(tmp_path, count):
    found = list(pictures_of(tmp_path / "out"))
    assert sorted(told["name"] for told, _ in found) == sorted(
        f"r{i}" for i in range(count)
    )
    for told, content in found:
        picture = np.asarray(Image.open(io.BytesIO(content)))
        assert np.array_equal(picture, picture_of(told["key"], (8, 8))[0])
        assert told["prompt"] == f"a cat {told['name'][1:]}"


@pytest.fixture(params=STORES)
def store(request):
    pytest.importorskip("lance" if request.param == "lance" else "pyarrow")
    return request.param


def test_shards_are_full_but_for_the_last_of_a_run(store, tmp_path):
    assert painted(tmp_path, 10, store)[:3] == (10, 0, 0)
    check(tmp_path, 10)
    assert not [x for x in (tmp_path / "out/pictures").rglob("*.png")]
    assert painted(tmp_path, 12, store)[:3] == (2, 0, 10)
    check(tmp_path, 12)
    assert len(list(read_index(tmp_path / "out"))) == 12


def test_a_larger_file_that_was_taken_away_costs_no_other(store, tmp_path):
    painted(tmp_path, 8, store)
    if store != "lance":
        first, second = sorted((tmp_path / "out").glob("pictures-*.*"))
        first.rename(tmp_path / first.name)
        held = second.read_bytes()
    painted(tmp_path, 12, store)
    if store != "lance":
        assert second.read_bytes() == held
        (tmp_path / first.name).rename(first)
    check(tmp_path, 12)


def test_a_kill_between_a_shard_and_its_files_doubles_nothing(
    store, tmp_path, monkeypatch
):
    monkeypatch.setattr(packing.Packing, "_remove", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        painted(tmp_path, 10, store)
    monkeypatch.undo()
    painted(tmp_path, 10, store)
    check(tmp_path, 10)


def test_files_are_packed_by_a_later_run(store, tmp_path):
    painted(tmp_path, 5, "files")
    check(tmp_path, 5)
    assert painted(tmp_path, 5, store).before == 5
    check(tmp_path, 5)
    assert not [x for x in (tmp_path / "out/pictures").rglob("*.png")]


def test_a_shard_is_read_by_webdataset(tmp_path):
    wds = pytest.importorskip("webdataset")
    painted(tmp_path, 4, "webdataset")
    shard = tmp_path / "out/pictures-000000.tar"
    with tarfile.open(shard) as tar:
        assert len(tar.getnames()) == 12
    samples = list(wds.WebDataset(str(shard), shardshuffle=False).decode("rgb8"))
    assert sorted(each["txt"] for each in samples) == [f"a cat {i}" for i in range(4)]
    assert all(each["png"].shape == (8, 8, 3) for each in samples)
    assert {json.loads(each["json"]["kept"])["id"] for each in samples} == {0, 1, 2, 3}


def test_a_parquet_shard_is_rows_of_another_batch(tmp_path):
    pytest.importorskip("pyarrow")
    painted(tmp_path, 4, "parquet")
    rows = tmp_path / "out/pictures-000000.parquet"
    keep = ["key", "row", "position", "kept"]
    how = {"task": "image_to_image", "keep": keep, **QUIET}
    done = paint(rows, tmp_path / "again", StandIn, **how)
    assert done.painted == 4, list(read_index(tmp_path / "again"))


@pytest.mark.parametrize("how", [{"store": "zip"}, {"store": "parquet", "shard": 0}])
def test_what_is_no_store_is_refused(tmp_path, how):
    with pytest.raises(ValueError, match="must be"):
        paint(rows_of(1), tmp_path / "out", StandIn, **{**QUIET, **how})
