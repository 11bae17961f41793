"""Saving where something is already: nothing is lost, nothing is half there."""

import functools
import os

import numpy as np

from kerasdiffusion.pictures.animations import save_animation
from kerasdiffusion.pictures.write import save_png
from kerasdiffusion.storage.whole import write_whole
from tests.hostile.harness import Collection

CASES = Collection(framework=True)
PICTURE = np.zeros((16, 16, 3), "uint8")


@functools.cache
def model():
    from tests.tiny import tiny_model

    return tiny_model()


@CASES.reader("presets")
def preset(arguments):
    path, options = arguments
    return model().save_preset(path, **options)


@CASES.reader("files")
def file(arguments):
    function, *rest = arguments
    return function(*rest)


def add(name, prepare, outcome="refused", check=None, place="a", **options):
    def make(folder):
        prepare(folder)
        return os.path.join(folder, place), options

    CASES.add("presets", name, make, outcome, check=check or as_before)


def as_before(folder, _):
    """Nothing came, and what was there is there."""
    names = {path.name for path in folder.iterdir()}
    assert names <= {"a", "b", "a.safetensors", "thesis.txt"}, names
    thesis = folder / "a" / "thesis.txt"
    if (folder / "a").is_dir() and "thesis" in names | set(os.listdir(folder / "a")):
        assert thesis.read_text() == "years"


def thesis(folder):
    (folder / "a").mkdir()
    (folder / "a" / "thesis.txt").write_text("years")


def thesis_is_there(folder, _):
    assert (folder / "a" / "thesis.txt").read_text() == "years"
    assert {path.name for path in folder.iterdir()} == {"a"}


def saved(folder):
    model().save_preset(folder / "a")


def model_is_there(folder, _):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*.safetensors")}
    assert len(names) == 3 and {path.name for path in folder.iterdir()} == {"a"}, names


def nothing(folder):
    pass


add("a folder of something else", thesis, check=thesis_is_there)
add(
    "a folder of something else, over it",
    thesis,
    "refused",
    thesis_is_there,
    overwrite=True,
)
add("a model", saved, check=model_is_there)
add("a model, over it", saved, "taken", model_is_there, overwrite=True)


def model_and_thesis(folder):
    saved(folder)
    (folder / "a" / "thesis.txt").write_text("years")


add(
    "a model and a thesis, over it",
    model_and_thesis,
    "taken",
    thesis_is_there,
    overwrite=True,
)
add("no folder to save in", nothing, place="none/a")
add("a name that is too long", nothing, place="a" * 300)
add("a name with a NUL", nothing, place="a\0")
add("a file in the way", lambda folder: (folder / "a").write_text("x"))
add("a file for a folder", lambda folder: (folder / "b").write_text("x"), place="b/a")
add("a dtype that is none", nothing, dtype="os.system")
add("a dtype of whole numbers", nothing, dtype="int8")


@CASES.case("presets", "values beyond float16 over a model", check=model_is_there)
def _(folder):
    saved(folder)
    variable = model().diffusion_model.weights[0]
    before = np.array(variable)
    variable.assign(np.full(before.shape, 1e30, "float32"))
    return folder / "a", {"overwrite": True, "dtype": "float16"}


@CASES.case(
    "presets",
    "a link to a folder of something else, over it",
    "refused",
    check=thesis_is_there,
)
def _(folder):
    (folder.parent / "real").mkdir()
    (folder.parent / "real" / "thesis.txt").write_text("years")
    (folder / "a").symlink_to(folder.parent / "real")
    return folder / "a", {"overwrite": True}


def writes(
    name, function, *rest, prepare=nothing, outcome="refused", check=None, place="a.png"
):
    def make(folder):
        prepare(folder)
        return (function, *(folder / place if each is ... else each for each in rest))

    CASES.add("files", name, make, outcome, check=check)


def taken(folder):
    (folder / "a.png").write_text("mine")


def mine(folder, _):
    assert (folder / "a.png").read_text() == "mine"
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


writes(
    "a picture where one is",
    save_png,
    PICTURE,
    ...,
    prepare=taken,
    outcome="taken",
    check=mine,
)
writes("a picture of another ending", save_png, PICTURE, ..., place="a.exe")
writes("a picture that is none", save_png, np.zeros((0, 1, 3), "uint8"), ...)
writes("a picture of NaN", save_png, np.full((16, 16, 3), np.nan), ...)
writes(
    "a picture to a name of 5,000", save_png, PICTURE, ..., place="a" * 5000 + ".png"
)
writes("a picture to a NUL", save_png, PICTURE, ..., place="a\0.png")
writes(
    "an animation of nothing",
    save_animation,
    np.zeros((0, 16, 16, 3), "uint8"),
    ...,
    8,
    place="a.gif",
)
writes(
    "an animation to another ending",
    save_animation,
    PICTURE[None],
    ...,
    8,
    place="a.exe",
)
writes(
    "an animation of NaN a second",
    save_animation,
    PICTURE[None],
    ...,
    np.nan,
    place="a.gif",
)
writes("bytes where some are", write_whole, ..., b"x", prepare=taken, check=mine)
writes("bytes in no folder", write_whole, ..., b"x", place="none/a")
