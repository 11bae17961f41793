"""Folders that are whole under their name, whatever happens while they are written."""

import os
import re
import shutil

import pytest

from kerasdiffusion.storage import folders
from kerasdiffusion.storage.folders import recover, whole_folder

OURS = re.compile(r"index\.json|unet/weights")


def is_ours(folder):
    return (folder / "index.json").is_file()


def save(path, content, overwrite=True):
    with whole_folder(path, overwrite, is_ours, OURS.fullmatch) as part:
        (part / "unet").mkdir()
        for name in ("index.json", "unet/weights"):
            (part / name).write_text(content)


def model_in(path):
    """What is there: the old or the new, and never some of both."""
    (content,) = {(path / n).read_text() for n in ("index.json", "unet/weights")}
    return content


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


@pytest.fixture(params=["exchange", "two renames", "no links"])
def system(request, monkeypatch):
    """Systems that can exchange names and link, and those that cannot."""
    if request.param == "two renames":
        monkeypatch.setattr(folders, "_exchanged", lambda *names: False)
    if request.param == "no links":

        def link(*names, **options):
            raise PermissionError(1, "no links here")

        monkeypatch.setattr(os, "link", link)


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


STEPS = ("rename", "link", "unlink", "rmdir", "mkdir", "symlink", "fsync")


def killed_at(number, path):
    """A save in a child that ends, without any cleaning up, at its n-th such call.

    Returns whether it came so far.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    count = 0

    def counted(function):
        def call(*args, **options):
            nonlocal count
            count += 1
            if count == number:
                os._exit(9)
            return function(*args, **options)

        return call

    try:
        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        folders._exchanged = counted(folders._exchanged)
        save(path, "new")
    finally:
        os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("there", ["nothing", "model"])
def test_a_kill_at_any_moment_leaves_the_old_or_the_new(tmp_path, there, system):
    for number in range(1, 200):
        path = tmp_path / str(number) / "model"
        path.parent.mkdir()
        if there == "model":
            save(path, "old")
            (path / "thesis").mkdir()
            (path / "thesis" / "chapter.txt").write_text("mine")
        if not killed_at(number, path):
            break
        recover(path)  # as who loads does
        if there == "model":
            assert model_in(path) in ("old", "new"), number
            assert (path / "thesis" / "chapter.txt").read_text() == "mine"
        else:
            assert not path.exists() or model_in(path) == "new"
        save(path, "newer")
        assert model_in(path) == "newer"
        assert os.listdir(path.parent) == ["model"], number
        shutil.rmtree(path.parent)
    assert 5 < number < 199


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("overwrite", [True, False])
def test_two_processes_save_to_one_name(tmp_path, overwrite, system):
    path = tmp_path / "model"
    for _ in range(10):
        children = []
        for content in ("one", "two"):
            child = os.fork()
            if not child:
                try:
                    save(path, content, overwrite)
                    os._exit(0)
                except FileExistsError:
                    os._exit(3)
                finally:
                    os._exit(4)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children]
        if overwrite and folders._exchanged.__name__ != "<lambda>":
            assert codes == [0, 0]
        assert 0 in codes
        assert model_in(path) in ("one", "two")
        assert os.listdir(tmp_path) == ["model"]
        shutil.rmtree(path)
