"""A store's objects: whole, on condition, listed, told of in one sentence."""

import pickle
import uuid

import pytest

from kerasdiffusion.batch.stores import is_url, store_of
from tests.batch import bucket

assert bucket  # (which has its URLs known)


@pytest.fixture(params=["memory", "bucket", "disk"])
def store(request, tmp_path):
    place = {
        "memory": f"memory://{uuid.uuid4().hex}/batch",
        "bucket": f"bucket://{tmp_path}/batch",
        "disk": tmp_path / "batch",
    }
    found = store_of(place[request.param])
    found.make()
    return found


def test_what_is_written_is_read_and_listed(store):
    assert store.names() == [] and store.names("index") == [] and store.tops() == []
    for name in ("b.txt", "index/2/a.txt", "index/1.txt", ".hidden", "index/.x/y"):
        store.write(name, name.encode())
    store.write("b.txt", b"again")
    assert store.read("b.txt") == b"again" and store.read("none") is None
    assert store.names() == ["b.txt", "index/1.txt", "index/2/a.txt"]
    assert store.names("index") == ["index/1.txt", "index/2/a.txt"]
    assert store.tops() == ["b.txt"]
    assert [store.kind_of(each) for each in ("b.txt", "index", "none")] == [
        *("file", "folder", None)
    ]
    with store.open("index/1.txt") as file:
        assert list(file) == [b"index/1.txt"]
    store.remove(["b.txt", "none"])
    assert store.tops() == []


def test_a_file_is_there_when_all_of_it_is(store):
    with pytest.raises(KeyboardInterrupt):
        with store.whole("a.tar", ending=".tar") as part:
            part.write_bytes(b"half")
            raise KeyboardInterrupt
    assert store.read("a.tar") is None
    with store.whole("a.tar", ending=".tar") as part:
        assert part.name.endswith(".tar")
        part.write_bytes(b"all")
    assert store.read("a.tar") == b"all"
    with pytest.raises(FileExistsError, match="not written over"):
        with store.whole("a.tar") as part:
            part.write_bytes(b"other")
    with store.whole("a.tar", overwrite=True) as part:
        part.write_bytes(b"other")
    assert store.read("a.tar") == b"other"


def test_it_goes_to_other_processes(store):
    store.write("a", b"a")
    assert pickle.loads(pickle.dumps(store)).read("a") == b"a"
    assert str(pickle.loads(pickle.dumps(store))) == str(store)


@pytest.mark.parametrize("kind", ["memory", "bucket"])
def test_objects_on_condition_and_many_at_once(kind, tmp_path):
    root = tmp_path if kind == "bucket" else f"{uuid.uuid4().hex}"
    store = store_of(f"{kind}://{root}/batch/")
    assert store.create("a", b"1") and not store.create("a", b"2")
    assert store.read("a") == b"1" and store.has("a") and not store.has("b")
    names = [f"many/{i:04d}" for i in range(600)]
    for each in names:
        store.write(each, each.encode())
    assert list(store.read_all(names)) == [each.encode() for each in names]
    with pytest.raises(OSError):
        list(store.read_all(["none", "a"]))


def test_which_places_are_urls(tmp_path):
    assert is_url("s3://bucket/x") and is_url("gs://b")
    assert not is_url("C:/x") and not is_url("a:b") and not is_url(tmp_path)
    assert store_of(f"file://{tmp_path}/x").path == tmp_path / "x"
    assert store_of("x").path.is_absolute()
    with pytest.raises(ValueError, match="three slashes"):
        store_of("file://x/y")


@pytest.mark.parametrize("url", ["nonsense://user:secret@place/x", "C2://x"])
def test_a_store_that_nobody_knows(url):
    with pytest.raises(ValueError, match="of a store that fsspec knows") as caught:
        store_of(url)
    assert "secret" not in str(caught.value) and "Received: " in str(caught.value)


def test_other_errors_of_a_store_are_those_of_a_place(monkeypatch):
    store = store_of(f"memory://{uuid.uuid4().hex}")

    def refuse(*_, **__):
        raise RuntimeError("no credentials\nwere found")

    monkeypatch.setattr(type(store._fs), "pipe_file", refuse)
    with pytest.raises(OSError, match="RuntimeError: no credentials were found"):
        store.write("a", b"a")
    monkeypatch.setattr(type(store._fs), "info", refuse)
    with pytest.raises(OSError, match="no credentials"):
        store.has("a")
