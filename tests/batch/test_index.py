"""The index: what is recorded is whole, once, and read by whoever comes next."""

import pytest

from kerasdiffusion.batch import index
from kerasdiffusion.batch.index import Index, Superseded, digest, read_index


def record(name, status="done", **more):
    return {"name": name, "key": "3f", "status": status, **more}


def names(out):
    return sorted(each["name"] for each in read_index(out))


def test_a_batch_is_recorded_once(tmp_path):
    run, known = Index(tmp_path).begin()
    assert known == (set(), set())
    assert run.write(3, [record("a"), record("b")])
    assert not run.write(3, [record("a"), record("c")])
    assert names(tmp_path) == ["a", "b"]
    assert [each["name"] for each in run.read(3)] == ["a", "b"]
    assert run.read(4) is None


def test_the_next_run_knows_it_and_the_last_may_record_no_more(tmp_path):
    run, _ = Index(tmp_path).begin()
    run.write(0, [record("a"), record("b", "failed", error="why")])
    _, known = Index(tmp_path).begin()
    assert known.done == {digest("a", "3f")} and known.failed == {digest("b", "3f")}
    with pytest.raises(Superseded, match="Another run of this batch has begun"):
        run.write(1, [record("c")])  # in a folder of the run that is there
    with pytest.raises(Superseded):
        run.write(1000, [record("c")])  # and in one that is not
    assert names(tmp_path) == ["a", "b"]


def test_what_failed_and_was_done_later_is_done(tmp_path):
    Index(tmp_path).begin()[0].write(0, [record("a", "failed", error="why")])
    Index(tmp_path).begin()[0].write(0, [record("a")])
    known = Index(tmp_path).known()
    assert (len(known.done), len(known.failed)) == (1, 0)
    (only,) = read_index(tmp_path)
    assert only["status"] == "done"


def test_many_parts_become_one_whatever_comes_between(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "MOST_PARTS", 3)
    run, _ = Index(tmp_path).begin()
    for i in range(9):
        run.write(i, [record(f"{i}")])
    monkeypatch.setattr(Index, "_clear", lambda self: 1 / 0)  # killed just then
    with pytest.raises(ZeroDivisionError):
        Index(tmp_path).begin()
    monkeypatch.undo()
    assert names(tmp_path) == [f"{i}" for i in range(9)]
    assert len(list(Index(tmp_path).records())) == 9
    run, known = Index(tmp_path).begin()
    assert len(known.done) == 9
    run.write(0, [record("9")])
    assert len(names(tmp_path)) == 10


def test_a_part_that_was_changed_is_named(tmp_path):
    run, _ = Index(tmp_path).begin()
    run.write(0, [record("a")])
    (part,) = run.folder.rglob("*.jsonl")
    part.write_text('{"name": "a"}\n')
    with pytest.raises(ValueError, match=f"line 1 of {part}"):
        Index(tmp_path).known()


def test_there_must_be_a_batch(tmp_path):
    with pytest.raises(FileNotFoundError, match="must be a batch to read"):
        list(read_index(tmp_path))


@pytest.mark.heavy
def test_a_million_keys_are_known_in_half_a_minute_and_a_gibibyte(tmp_path):
    """As one file and in parts of eight, in a process that does nothing else."""
    import subprocess
    import sys

    run, _ = Index(tmp_path).begin()
    path = run.folder / "00000"
    path.mkdir()
    text = '{{"name": "row {0}", "key": "{0:064x}", "status": "done", "files": ["pi'
    text += 'ctures/3f/{0}.png"], "prompt": "a red apple on a blue background"}}\n'
    with open(path / "00000000.jsonl", "w") as file:
        file.writelines(text.format(i) for i in range(900_000))
    for i in range(900_000, 1_000_000, 8):
        folder = run.folder / f"{i // 2048:05d}"
        folder.mkdir(exist_ok=True)
        lines = [text.format(j) for j in range(i, i + 8)]
        (folder / f"{i // 8:08d}.jsonl").write_text("".join(lines))
    script = (
        "import sys, time; from kerasdiffusion.batch.index import Index; "
        "began = time.process_time(); known = Index(sys.argv[1]).begin()[1]; "
        "print(len(known.done), time.process_time() - began, "
        "open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    child = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    count, seconds, kibibytes = map(float, child.stdout.split())
    print(f"{count:.0f} keys: {seconds:.1f} s of CPU, {kibibytes / 1024:.0f} MiB")
    assert count == 1_000_000
    assert kibibytes < 2**20
