"""`generate --from`: a picture of ours says all that it takes to paint it again."""

import os

import numpy as np
import pytest
from PIL import Image

from kerasdiffusion.apps import load, outputs
from kerasdiffusion.pictures.metadata import read_parameters
from kerasdiffusion.pictures.write import save_png
from kerasdiffusion.requests.request import is_same
from kerasdiffusion.weights import hub
from tests.tiny import (
    TEXTS,
    TINY,
    TINY_DEPTH,
    TINY_EDITING,
    TINY_UPSCALER,
    tiny_model,
)

PHOTO = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
MASK = np.zeros((32, 48, 3), np.uint8)
MASK[8:24, 8:24] = 255
DEPTH = np.linspace(0, 65535, 32 * 48).reshape(32, 48).astype("uint16")
MODELS = {"depth": TINY_DEPTH, "editing": TINY_EDITING, "upscaler": TINY_UPSCALER}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with a tiny model for each kind of task; `emoji` is one of them."""
    folder = tmp_path_factory.mktemp("models")
    for name, config in {"emoji": TINY, **MODELS}.items():
        tiny_model(config=config).save_preset(folder / name)
    return folder


@pytest.fixture
def paint(command, models, monkeypatch):
    """Paints in an empty folder with some pictures."""
    monkeypatch.setattr(hub, "ASSETS", models)
    save_png(PHOTO, "photo.png")
    save_png(MASK, "mask.png")
    Image.fromarray(DEPTH).save("depth.png")

    def paint(*arguments):
        assert command("generate", *arguments, "--quiet") == 0

    return paint


PLAIN = "--steps 3 --negative-prompt dark --guidance-scale 3.3 --sampler dpm_2_a"


LINES = (
    ("", None),
    ("--rng torch --variation-strength 0.3 --eta 0.7", None),
    ("--spacing beta --s-noise 1.013 --clip-skip 2", None),
    ("--sampler euler --sigmas 9.123456789,3.3,0.1 --s-churn 0.123", None),
    ("--timesteps 900,500,1 --prompt-weighting compel", None),
    ("--freeu 1.1,1.2,0.9,0.8 --apg 0.5 --pag-scale 2 --merge-tokens 0.4", None),
    ("--dynamic-thresholding 2.5 --guidance-rescale 0.3 --deep-cache 2", None),
    ("--guidance-interval 0.3,7 --size 32x48 --precision float16", None),
    ("--refiner emoji --refiner-start 0.6", None),
    ("--image photo.png", None),
    ("--image photo.png --strength 0.55", None),
    ("--image photo.png --mask mask.png --feather 3", None),
    ("--image photo.png --mask mask.png --padding 5 --size 48", None),
    ("--image photo.png --outpaint left=9,top=4 --overlap 8 --size 32", None),
    ("--image photo.png --depth depth.png --strength 0.9", "depth"),
    ("--image photo.png --upscale --noise-level 3", "upscaler"),
)


@pytest.fixture
def asked(monkeypatch):
    """What models are asked, and what they are; nothing is painted."""
    seen = []

    def painted(model, request):
        machine = model.precision, model.compiler, model.img_height, model.img_width
        seen.append((request, machine))
        count = request.batch_size * len(request.prompt or request.instruction)
        return np.zeros((count, model.img_height, model.img_width, 3), "uint8")

    monkeypatch.setattr(load, "paint", painted)
    return seen


def arguments(models, line, model):
    preset = [] if model is None else ["--preset", str(models / model)]
    line = f"{PLAIN} {line}" if "timesteps" not in line else line
    if "sigmas" in line or "deep-cache" in line:
        line = line.replace("--sampler dpm_2_a", "--sampler ddim", 1)
    if "--sigmas" in line:
        line = line.replace("--steps 3 ", "")
    return line.split(), preset


@pytest.mark.parametrize(("line", "model"), LINES)
def test_a_picture_asks_for_the_same_again(paint, asked, models, line, model):
    """Every field, every picture to begin with, and how it is computed."""
    line, preset = arguments(models, line, model)
    paint(TEXTS[0], *line, *preset, "--output", "one.png")
    paint("--from", "one.png", *preset, "--output", "two.png")
    (first, machine), (second, same) = asked
    written = {"num_steps": 3, "strength": 0.8, "unconditional_guidance_scale": 7.5}
    assert machine == same and first.task == second.task
    for name, value in second.given().items():
        if name in first.given():
            value = getattr(first, name)
        if name != "sampler" and name not in written:
            assert is_same(getattr(second, name), value), name
    assert set(first.given()) <= set(second.given())
    assert read_parameters("one.png") == read_parameters("two.png")


@pytest.mark.parametrize(
    ("line", "model"),
    [
        LINES[1],
        *(pytest.param(*each, marks=pytest.mark.heavy) for each in LINES[2:]),
    ],
)
def test_a_picture_is_painted_again_to_the_bit(paint, models, line, model):
    line, preset = arguments(models, line, model)
    paint(TEXTS[0], *line, *preset, "--output", "one.png")
    paint("--from", "one.png", *preset, "--output", "two.png")
    assert np.array_equal(Image.open("one.png"), Image.open("two.png"))
    assert read_parameters("one.png") == read_parameters("two.png")


@pytest.mark.heavy
def test_an_edited_picture_is_painted_again(paint, models):
    line = "--steps 2 --image photo.png --image-guidance-scale 1.2 --preset"
    paint(*line.split(), str(models / "editing"), "--instruction", "make it snow")
    (first,) = [name for name in os.listdir() if name.startswith("make-it")]
    paint("--from", first, "--preset", str(models / "editing"), "--output", "two.png")
    assert np.array_equal(Image.open(first), Image.open("two.png"))


def test_each_picture_of_a_batch_says_its_own_variation(paint, asked):
    line = "--steps 2 --batch-size 2 --seed 1 --variation-strength 0.5 --output many"
    paint(TEXTS[0], *line.split(), "--variation-seed", "7")
    made = [read_parameters(f"many/{name}") for name in sorted(os.listdir("many"))]
    assert {(each["seed"], each["Variation seed"]) for each in made} == {
        (1, "7"),
        (1, "8"),
    }


def test_a_picture_of_a_batch_is_painted_among_the_others(paint, asked):
    """Rounding is the batch's own; of it the one picture is written."""
    line = "--steps 2 --batch-size 2 --seed 5 --output many"
    paint(*TEXTS[:2], *line.split())
    (name,) = [each for each in os.listdir("many") if each.endswith("-8.png")]
    paint("--from", f"many/{name}", "--output", "again")
    (first, _), (second, _) = asked
    assert (second.prompt, second.batch_size, second.seed) == (TEXTS[:2], 2, 5)
    assert first.seed == 5 and os.listdir("again") == [name]
    assert read_parameters(f"again/{name}") == read_parameters(f"many/{name}")
    paint("--from", f"many/{name}", "--seed", "3", "--output", "alone")
    assert (asked[2][0].prompt, asked[2][0].seed) == ((TEXTS[1],), 3)


def test_a_grid_is_painted_again_as_a_whole(paint, asked):
    line = "--steps 2 --batch-size 2 --seed 5 --grid --output"
    paint(*TEXTS[:2], *line.split(), "one.png")
    paint("--from", "one.png", "--output", "two.png")
    (first, _), (second, _) = asked
    assert (second.prompt, second.batch_size, second.seed) == (TEXTS[:2], 2, 5)
    assert first.prompt == second.prompt
    assert Image.open("two.png").size == Image.open("one.png").size == (64, 64)
    assert read_parameters("two.png") == read_parameters("one.png")


def test_what_is_given_nowhere_is_not_written(paint, asked):
    paint(TEXTS[0], "--seed", "1", "--steps", "2", "--output", "one.png")
    assert set(read_parameters("one.png")) == {
        *("prompt", "negative_prompt", "steps", "sampler", "schedule_type"),
        *("guidance_scale", "seed", "width", "height", "model", "version"),
    }


def test_flags_count_more_than_the_picture(paint, calls):
    save_png(
        PHOTO,
        "made.png",
        {
            "prompt": "x",
            "steps": 3,
            "sampler": "Euler",
            "seed": 1,
            "version": "kerasdiffusion 1",
            "Sigmas": "9,3,1",
            "PAG scale": "2",
        },
    )
    paint("--from", "made.png", "--steps", "5", "--pag-scale", "3")
    assert calls[0][-1] == {
        "prompt": ("x",),
        "seed": 1,
        "num_steps": 5,
        "sampler": "euler",
        "pag_scale": 3.0,
    }


def test_a_picture_that_is_gone_or_has_changed_is_said(paint, asked, command, capsys):
    line = "--image photo.png --steps 2 --seed 1 --output one.png"
    paint(TEXTS[0], *line.split())
    Image.fromarray(255 - PHOTO).save("photo.png")
    paint("--from", "one.png", "--output", "two.png")
    assert "photo.png is not what one.png was painted from" in capsys.readouterr().err
    os.remove("photo.png")
    assert command("generate", "--from", "one.png") == 1
    assert "There must be a picture to read. Received: photo.png" in (
        capsys.readouterr().err
    )


def test_pictures_are_found_beside_the_one_that_names_them(paint, asked, monkeypatch):
    paint(TEXTS[0], "--image", "photo.png", "--steps", "2", "--output", "one.png")
    os.mkdir("elsewhere")
    monkeypatch.chdir("elsewhere")
    paint("--from", "../one.png", "--output", "two.png")
    assert asked[1][0].image == "../photo.png"


def test_what_is_not_followed_is_named(paint, calls, capsys):
    made = {"prompt": "x", "seed": 1, "version": "kerasdiffusion 9"}
    save_png(PHOTO, "new.png", {**made, "Glow": "3", "model": "my-own"})
    paint("--from", "new.png")
    said = capsys.readouterr().err
    assert "'Glow' of new.png is not followed" in said
    assert "the model 'my-own' of new.png is not followed: name it by --preset" in said


@pytest.mark.parametrize(
    "output",
    [
        "made.txt/one.png",
        "a" * 300 + ".png",
        "new/" + "a" * 300 + ".png",
        "sub\0/one.png",
    ],
)
def test_an_output_that_cannot_be_written_is_said_ahead(
    paint, command, calls, capsys, output
):
    (open("made.txt", "w")).close()
    assert command("generate", "x", "--output", output) == 1
    assert not calls
    assert "--output must be" in capsys.readouterr().err


def test_a_folder_that_takes_no_files_is_said_ahead(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(OSError, match="No space left on device.*Received: "):
        outputs.check(tmp_path / "one.png")
