"""`kerasdiffusion generate` and `show`, in this process, on a tiny model."""

import os

import keras
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from kerasdiffusion.apps.cli import main
from kerasdiffusion.pictures.metadata import read_parameters
from kerasdiffusion.pictures.write import save_png
from tests.tiny import TEXTS

APPLE = TEXTS[0]
NAME = "a-red-apple-on-a-blue-background"


def test_a_picture_can_be_made_again_from_what_it_says(generate, tmp_path, capsys):
    assert generate(APPLE, "--negative-prompt", TEXTS[2], "--steps", "2") == 0
    (first,) = tmp_path.iterdir()
    made = read_parameters(first)
    seed = made.pop("seed")
    assert made.pop("version").startswith("kerasdiffusion ")
    assert made == {
        "prompt": APPLE,
        "negative_prompt": TEXTS[2],
        "steps": 2,
        "sampler": "DPM++ 2M",
        "schedule_type": "Karras",
        "guidance_scale": 7.5,
        "width": 32,
        "height": 32,
        "model": "emoji",
    }
    assert first.name == f"{NAME}-{seed}.png"
    wrote, bundled = capsys.readouterr().out.splitlines()
    assert wrote == f"Wrote {first.name} (seed {seed})"
    assert "the bundled model" in bundled and "--preset sd1.5" in bundled

    again = f"--negative-prompt={made['negative_prompt']}"
    generate(APPLE, again, "--steps", "2", "--seed", str(seed), "--quiet")
    second = f"{NAME}-{seed}-2.png"
    assert capsys.readouterr().out == f"{second}\n"
    assert np.array_equal(Image.open(first), Image.open(tmp_path / second))
    assert read_parameters(second)["seed"] == seed


def test_a_word_that_no_prompt_has_is_said(generate, tmp_path, calls, capsys):
    save_file({"<cat>": np.zeros((1, 32), "float32")}, tmp_path / "cat.safetensors")
    words = "--embedding", "cat.safetensors"
    generate("a cat", *words)
    assert (
        "No prompt has what cat.safetensors teaches: <cat>" in capsys.readouterr().err
    )
    generate("a <cat>", *words)
    generate("a dog", "--negative-prompt", "a <cat>", *words)
    assert "No prompt has" not in capsys.readouterr().err


def test_a_picture_is_painted_again_from_its_file(generate, tmp_path):
    sampler = ["--sampler", "DPM2 a", "--spacing", "beta"]
    noise = "--rng torch --seed 5 --variation-seed 3 --variation-strength 0.5"
    generate(TEXTS[1], "--steps", "2", *sampler, *noise.split(), "--quiet")
    (first,) = tmp_path.iterdir()
    assert generate("--from", str(first), "--output", "again") == 0
    (second,) = (tmp_path / "again").iterdir()
    assert np.array_equal(Image.open(first), Image.open(second))
    assert read_parameters(second) == read_parameters(first)
    assert read_parameters(second)["schedule_type"] == "Beta"


def test_options_reach_the_picture_and_a_grid_shows_all(generate, assets, capsys):
    options = "--batch-size 2 --steps 1 --sampler euler_a --size 48x32 --seed 7"
    options += f" --guidance-scale 1 --preset {assets / 'emoji'}"
    code = generate(*TEXTS[:2], *options.split(), "--grid", "--output", "sub/sheet.png")
    assert code == 0
    assert capsys.readouterr().out == "Wrote sub/sheet.png (seed 7)\n"
    assert Image.open("sub/sheet.png").size == (96, 64)
    made = read_parameters("sub/sheet.png")
    assert made["sampler"] == "Euler a" and made["schedule_type"] == "Uniform"
    assert made["guidance_scale"] == 1.0 and made["model"] == "emoji"
    assert (made["width"], made["height"]) == (48, 32)


def test_a_picture_to_begin_with(generate, tmp_path, capsys):
    sketch = np.full((29, 40, 3), 200, np.uint8)
    save_png(sketch, tmp_path / "sketch.png")
    options = ("--image", "sketch.png", "--steps", "4", "--seed", "1", "--quiet")
    generate(APPLE, *options, "--strength", "0.5", "--output", "half.png")
    generate(APPLE, *options, "--output", "most.png")
    half, most = Image.open("half.png"), Image.open("most.png")
    assert half.size == most.size == (40, 29)
    assert not np.array_equal(half, most)
    made = read_parameters("half.png")
    assert (made["strength"], made["width"], made["height"]) == (0.5, 40, 29)
    assert read_parameters("most.png")["strength"] == 0.8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strength", "0.5"], "--strength is for --image"),
        (["--image", "a.png", "--size", "64"], "goes without --size"),
        (["--image", "a.png", "--strength", "2"], "from 0 to 1. Received: 2"),
    ],
)
def test_pictures_and_what_does_not_go_with_them(generate, capsys, arguments, message):
    with pytest.raises(SystemExit):
        generate(APPLE, *arguments)
    assert message in capsys.readouterr().err


def test_each_picture_of_a_batch_has_its_seed_and_long_prompts_are_not_cut(
    generate, tmp_path, capsys
):
    long = "two cats and " * 5
    generate(long, "--batch-size", "2", "--steps", "1", "--seed", "3", "--output", "to")
    names = sorted(path.name for path in (tmp_path / "to").iterdir())
    assert [name.rpartition("-")[2] for name in names] == ["3.png", "4.png"]
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "none.png"], "There must be a picture to read. Received: none.png"),
        (["--preset", "emjoi"], "Did you mean emoji? Received: 'emjoi'"),
        (["--preset", "no/such/model"], "Received: 'no/such/model'"),
        (["--size", "33"], "multiples of 2, at least 2. Received: height=33, width=33"),
        (["--output", "picture.jpg"], "ends in .png, or a folder. Received: picture"),
        (["--image", "no.png"], "There must be a picture to read. Received: no.png"),
        (["--seed", str(2**64 - 1), "--batch-size", "2"], "from 0 to 2**64 - 1"),
        (["--low-memory", "--openvino"], 'low_memory=True, jit_compile="openvino"'),
        (["--low-memory", "--quantize", "int8"], "Received: low_memory=True"),
        (["--smallest-memory", "--quantize", "int8"], "low_memory='smallest'"),
    ],
)
def test_what_cannot_be_painted_is_one_line(generate, capsys, arguments, message):
    assert generate("x", *arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("kerasdiffusion: error: ") and not captured.out
    assert captured.err.count("\n") == 1 and message in captured.err


def test_show_prints_what_is_computed_with_here(capsys):
    assert main(["show", "--machine"]) == 0
    lines = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert lines["backend"] == keras.backend.backend()
    assert {"device", "precision", "compiled by"} < set(lines)
    assert main(["show"]) == 1
    assert "takes files, or --machine. Received: neither" in capsys.readouterr().err


def test_show_prints_the_parameters_of_each_file(tmp_path, capsys):
    picture = np.zeros((8, 8, 3), "uint8")
    paths = [
        save_png(picture, tmp_path / "a.png", {"prompt": "a cat", "seed": seed})
        for seed in (1, 2)
    ]
    missing = tmp_path / "none.png"
    assert main(["show", str(paths[0])]) == 0
    assert capsys.readouterr().out == "prompt: a cat\nseed: 1\n"
    assert main(["show", str(paths[0]), str(missing), str(paths[1])]) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        f"{paths[0]}:",
        "prompt: a cat",
        "seed: 1",
        f"{paths[1]}:",
        "prompt: a cat",
        "seed: 2",
    ]
    assert captured.err == (
        f"kerasdiffusion: error: There must be a picture to read. Received: {missing}\n"
    )


def test_adapters_are_asked_for_by_files_and_by_names(
    generate, calls, tmp_path, monkeypatch
):
    monkeypatch.setenv("KERASDIFFUSION_ADAPTERS", "")
    asked = ("--adapter", "a.safetensors:0.8", "--adapter", "style:0.5:0.2")
    generate("a cat", *asked, "--adapters", str(tmp_path))
    ((_, _, fields),) = calls
    assert fields["adapters"] == (("a.safetensors", 0.8), ("style", 0.5, 0.2))
    assert os.environ["KERASDIFFUSION_ADAPTERS"] == str(tmp_path)
