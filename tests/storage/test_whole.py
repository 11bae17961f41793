import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from kerasdiffusion.storage import whole
from kerasdiffusion.storage.whole import (
    clear_leftovers,
    part_beside,
    whole_file,
    write_whole,
)

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="processes by /proc")


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_written_takes_its_name_at_the_end(tmp_path):
    path = tmp_path / "a.txt"
    with whole_file(path) as part:
        part.write_text("red")
        assert not path.exists() and part.parent == tmp_path
    assert path.read_text() == "red" and names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_stays_of_what_failed(tmp_path, error, overwrite):
    path = tmp_path / "a.txt"
    if overwrite:
        path.write_text("old")
    with pytest.raises(error), whole_file(path, overwrite=overwrite) as part:
        part.write_text("half")
        raise error
    assert names(tmp_path) == ["a.txt"] * overwrite
    assert not overwrite or path.read_text() == "old"


def test_a_disk_that_is_full_at_the_end_leaves_the_old(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = write_whole(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "new", overwrite=True)
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_a_name_that_is_taken_is_refused_or_replaced_or_counted_on(tmp_path):
    path = write_whole(tmp_path / "a.tar.gz", b"1")
    with pytest.raises(FileExistsError, match="Received: .*a.tar.gz"):
        write_whole(path, b"2")
    assert path.read_bytes() == b"1"
    assert write_whole(path, b"2", overwrite=True) == path
    assert write_whole(path, b"3", next_free=True).name == "a.tar-2.gz"
    assert write_whole(path, b"4", next_free=True).name == "a.tar-3.gz"
    assert [each.read_bytes() for each in sorted(tmp_path.iterdir())] == [
        b"3",
        b"4",
        b"2",
    ]


def test_a_name_that_is_taken_meanwhile_is_refused_too(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(FileExistsError), whole_file(path) as part:
        part.write_text("mine")
        path.write_text("theirs")
    assert path.read_text() == "theirs" and names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("links", [True, False])
def test_two_writers_never_get_one_name(tmp_path, monkeypatch, links):
    """Also on a file system without hard links."""
    if not links:

        def link(*args):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)
    found, path = [], tmp_path / "a.txt"

    def writer(number):
        for _ in range(10):
            place = write_whole(path, str(number), next_free=True)
            found.append((place, str(number)))

    threads = [threading.Thread(target=writer, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({place for place, _ in found}) == 40 == len(names(tmp_path))
    assert all(place.read_text() == text for place, text in found)


def test_a_writer_that_looks_at_the_ending_finds_it(tmp_path):
    with whole_file(tmp_path / "a.weights.h5", ending=".weights.h5") as part:
        assert part.name.endswith(".part.weights.h5")
        part.write_text("x")
    with whole_file(tmp_path / ("ä" * 125)) as part:
        part.write_text("x")  # a name as long as names can be


def test_the_folder_must_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="must exist. Received: "):
        write_whole(tmp_path / "none" / "a.txt", "x")


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b"], ids=["long", "NUL"])
def test_a_name_that_no_file_has_is_one_sentence(tmp_path, name):
    with pytest.raises((OSError, ValueError), match="a name that a file can have.*Rec"):
        write_whole(tmp_path / name, "x")


WRITER = """
import pathlib, sys, time
from kerasdiffusion.storage.whole import part_beside, whole_file
with whole_file(sys.argv[1], overwrite=True) as part:
    part.write_text("half")
    folder = part_beside("a folder")
    print(folder, flush=True)
    time.sleep(60)
"""


@LINUX
def test_the_part_of_a_killed_process_goes_with_the_next_write(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    folder = tmp_path / child.stdout.readline().strip()
    (folder / "unet").mkdir(parents=True)
    write_whole(tmp_path / "b.txt", "b")
    assert len(names(tmp_path)) == 4, "it is alive: its parts are its own"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert path.read_text() == "old"
    write_whole(tmp_path / "b.txt", "b", overwrite=True)
    assert names(tmp_path) == ["a.txt", "b.txt"]


@LINUX
def test_a_process_of_the_same_number_is_another(tmp_path):
    own = part_beside(tmp_path / "a.txt").name
    pid, start = os.getpid(), whole._start(os.getpid())
    (tmp_path / own).write_text("mine")
    (tmp_path / own.replace(f"-{pid}-{start}-", f"-{pid}-{start - 1}-")).write_text("x")
    clear_leftovers(tmp_path)
    assert names(tmp_path) == [own]


def test_a_part_of_another_machine_stays_for_a_day(tmp_path):
    path = tmp_path / ".a.txt.00000000-1-1-0.part"
    path.write_text("x")
    assert clear_leftovers(tmp_path) == []
    old = time.time() - whole.STALE - 9
    os.utime(path, (old, old))
    assert clear_leftovers(tmp_path) == [path]


@pytest.mark.parametrize(
    "name", [".a.part", "a.part", ".a.0-1-1-0.part", "x.00000000-1-1-0.part", ".part."]
)
def test_what_others_call_a_part_is_not_touched(tmp_path, name):
    path = tmp_path / name
    path.write_text("x")
    os.utime(path, (0, 0))
    assert clear_leftovers(tmp_path) == [] and path.exists()


def test_links_among_leftovers_are_not_followed(tmp_path):
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "a.txt").write_text("x")
    link = tmp_path / ".a.00000000-1-1-0.part"
    link.symlink_to(thesis)
    os.utime(link, (0, 0), follow_symlinks=False)
    clear_leftovers(tmp_path)
    assert names(tmp_path) == ["thesis"] and names(thesis) == ["a.txt"]
