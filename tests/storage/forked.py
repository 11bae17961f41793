"""Folders that several processes write, or that one is killed at: for `test_folders`.

Forks of a process that has loaded no framework: one of pytest's takes a tenth of a
second.
"""

import os
import re
import shutil
import sys
from pathlib import Path

from kerasdiffusion.storage import folders
from kerasdiffusion.storage.folders import recover, whole_folder

ROOT = Path(__file__).parents[2]
OURS = re.compile(r"index\.json|unet/weights")
#: What a system can: exchange two names at once, rename, and link.
SYSTEMS = ("exchange", "two renames", "no links")
STEPS = ("rename", "link", "unlink", "rmdir", "mkdir", "symlink", "fsync")


def as_on(system, replace=setattr):
    """Has this process do as on such a system."""
    if system == "two renames":
        replace(folders, "_exchanged", lambda *names: False)
    if system == "no links":

        def link(*names, **options):
            raise PermissionError(1, "no links here")

        replace(os, "link", link)


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


def kills(root, there):
    """Killed at any moment, the old or the new is there."""
    for number in range(1, 200):
        path = root / str(number) / "model"
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


def two(root, overwrite):
    """Of two processes that save to one name, one's model is there, whole."""
    path = root / "model"
    for _ in range(50):
        children = []
        for content in ("one", "two"):
            child = os.fork()
            if not child:
                try:
                    save(path, content, overwrite == "overwrite")
                    os._exit(0)
                except FileExistsError:
                    os._exit(3)
                finally:
                    os._exit(4)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children]
        if overwrite == "overwrite" and folders._exchanged.__name__ != "<lambda>":
            assert codes == [0, 0]
        assert 0 in codes
        assert model_in(path) in ("one", "two")
        assert os.listdir(root) == ["model"]
        shutil.rmtree(path)


if __name__ == "__main__":
    task, place, system, how = sys.argv[1:]
    as_on(system)
    {"kills": kills, "two": two}[task](Path(place), how)
