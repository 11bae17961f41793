"""The index where nothing can be renamed: what is told as recorded counts, once."""

import uuid

import pytest

from kerasdiffusion.batch import object_index
from kerasdiffusion.batch.index import Superseded, digest, index_of, read_index
from kerasdiffusion.batch.object_index import ObjectIndex
from kerasdiffusion.batch.stores import store_of


def record(name, status="done", **more):
    return {"name": name, "key": "3f", "status": status, **more}


@pytest.fixture
def store():
    return store_of(f"memory://{uuid.uuid4().hex}/out")


def names(store):
    return sorted(each["name"] for each in ObjectIndex(store).records())


def test_a_batch_is_recorded_once(store):
    run, known = index_of(store).begin()
    assert known == (set(), set())
    assert run.write(3, [record("a"), record("b")])
    assert not run.write(3, [record("a"), record("c")])
    assert names(store) == ["a", "b"]
    assert [each["name"] for each in run.read(3)] == ["a", "b"]
    assert run.read(4) is None


def test_the_next_run_knows_it_and_the_last_may_record_no_more(store):
    run, _ = ObjectIndex(store).begin()
    run.write(0, [record("a"), record("b", "failed", error="why")])
    other, known = ObjectIndex(store).begin()
    assert known.done == {digest("a", "3f")} and known.failed == {digest("b", "3f")}
    with pytest.raises(Superseded, match="Another run of this batch has begun"):
        run.write(1, [record("c")])
    assert other.write(0, [record("c")])
    assert names(store) == ["a", "b", "c"]
    assert len(list(read_index(str(store)))) == 3


@pytest.mark.parametrize("moment", ["ahead of all", "ahead of the list", "after it"])
def test_a_part_that_comes_as_its_run_is_sealed(store, monkeypatch, moment):
    """It counts for its writer and for the next run, or for neither."""
    run, _ = ObjectIndex(store).begin()
    told, list_ = [], object_index._There
    seal, remove = ObjectIndex._seal, type(store).remove

    def write():
        try:
            told.append(run.write(7, [record("late")]))
        except Superseded:
            told.append(False)

    def sealing(self, number):
        if moment == "ahead of all":
            write()
        elif moment == "ahead of the list":

            def removing(store, names):
                if not told:
                    write()
                remove(store, names)

            monkeypatch.setattr(type(store), "remove", removing)
        else:

            def listing(store):
                found = list_(store)
                if not told and not store.has("index/run-00000001.open"):
                    write()
                return found

            monkeypatch.setattr(object_index, "_There", listing)
        seal(self, number)

    monkeypatch.setattr(ObjectIndex, "_seal", sealing)
    _, known = ObjectIndex(store).begin()
    assert told == [moment != "after it"]
    assert len(known.done) == told[0] and names(store) == ["late"] * told[0]


def test_killed_at_any_step_of_beginning_nothing_is_lost(store, monkeypatch):
    """The k-th call that changes the store never returns, nor does one after it."""
    monkeypatch.setattr(object_index, "MOST_PARTS", 3)
    wanted, step = [], 0
    while True:
        run, known = ObjectIndex(store).begin()
        assert len(known.done) == len(wanted)
        for i in range(4):
            wanted.append(f"{step} {i}")
            assert run.write(i, [record(wanted[-1])])
        left = [step]

        def dies(method, left=left):
            def wrapped(self, *arguments, **named):
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
                return method(self, *arguments, **named)

            return wrapped

        with monkeypatch.context() as dying:
            for name in ("create", "remove", "_send", "write"):
                own = getattr(type(store), name)
                dying.setattr(type(store), name, dies(own))
            try:
                ObjectIndex(store).begin()
            except KeyboardInterrupt:
                pass
            else:
                break
        assert names(store) == sorted(wanted)
        step += 1
    assert names(store) == sorted(wanted) and step > 4


def test_two_that_begin_at_once(store, monkeypatch):
    monkeypatch.setattr(type(store), "create", lambda *_: False)
    with pytest.raises(BlockingIOError, match="another one has begun there just now"):
        ObjectIndex(store).begin()


def test_a_part_that_was_changed_is_named(store):
    run, _ = ObjectIndex(store).begin()
    run.write(0, [record("a")])
    (part,) = [each for each in store.names("index") if each.endswith("l")]
    store.write(part, b'{"name": "a"}\n')
    with pytest.raises(ValueError, match=f"line 1 of {store}/{part}"):
        ObjectIndex(store).known()


def test_there_must_be_a_batch(store):
    with pytest.raises(FileNotFoundError, match="must be a batch to read"):
        list(read_index(store))
