"""Folders that are whole under their name, whatever happens while they are written."""

import os
import subprocess
import sys

import pytest

from kerasdiffusion.storage import folders
from kerasdiffusion.storage.folders import whole_folder
from tests.storage.forked import OURS, ROOT, SYSTEMS, as_on, is_ours, model_in, save


@pytest.fixture
def model(tmp_path):
    """A model, and beside it in the folder what is other people's."""
    path = tmp_path / "model"
    save(path, "old")
    (path / "thesis").mkdir()
    (path / "thesis" / "chapter.txt").write_text("mine")
    (path / "unet" / "notes.txt").write_text("mine")
    (path / "empty").mkdir()
    os.symlink("thesis/chapter.txt", path / "link")
    return path


def assert_theirs(path):
    assert (path / "thesis" / "chapter.txt").read_text() == "mine"
    assert (path / "unet" / "notes.txt").read_text() == "mine"
    assert (path / "link").is_symlink() and (path / "link").read_text() == "mine"
    assert (path / "empty").is_dir()


@pytest.fixture(params=SYSTEMS)
def system(request, monkeypatch):
    """Systems that can exchange names and link, and those that cannot."""
    as_on(request.param, monkeypatch.setattr)
    return request.param


def test_only_what_is_ours_is_replaced(model, system):
    inode = (model / "thesis").stat().st_ino
    save(model, "new")
    assert model_in(model) == "new"
    assert_theirs(model)
    assert inode and os.listdir(model.parent) == ["model"]


def test_what_comes_in_meanwhile_stays(model, system, monkeypatch):
    carry = folders._carry

    def late(old, *rest):
        carry(old, *rest)
        if old == model:
            (model / "late.txt").write_text("late")
            (model / "thesis" / "late.txt").write_text("late")

    monkeypatch.setattr(folders, "_carry", late)
    save(model, "new")
    assert (model / "late.txt").read_text() == "late"
    assert (model / "thesis" / "late.txt").read_text() == "late"


def test_a_folder_of_something_else_is_never_touched(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="something else .thesis.txt.*Received"):
        save(home, "new")
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        save(home, "new", overwrite=False)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="a file has its name"):
        save(tmp_path / "file", "new")
    assert sorted(os.listdir(tmp_path)) == ["file", "home"]
    assert os.listdir(home) == ["thesis.txt"]


def test_an_error_leaves_what_was_there(model, system):
    for error in (KeyboardInterrupt, OSError(28, "No space left on device")):
        with pytest.raises((KeyboardInterrupt, OSError)) as raised:
            with whole_folder(model, True, is_ours, OURS.fullmatch) as part:
                (part / "index.json").write_text("half")
                raise error
        assert model_in(model) == "old"
        assert_theirs(model)
        assert os.listdir(model.parent) == ["model"]
    assert "The disk is full: nothing was saved" in str(raised.value)


def test_a_link_to_a_folder_stays_a_link(model, tmp_path):
    os.symlink(model, tmp_path / "link")
    save(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert model_in(model) == "new"


def forked(*arguments):
    """Runs what forks in a process without frameworks, where that is cheap."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.storage.forked", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("there", ["nothing", "model"])
def test_a_kill_at_any_moment_leaves_the_old_or_the_new(tmp_path, there, system):
    forked("kills", tmp_path, system, there)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("overwrite", ["overwrite", "new"])
def test_two_processes_save_to_one_name(tmp_path, overwrite, system):
    forked("two", tmp_path, system, overwrite)
