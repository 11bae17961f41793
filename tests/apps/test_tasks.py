"""Which task the flags of `generate` ask for, and with what."""

import numpy as np
import pytest
from PIL import Image

from kerasdiffusion.apps import tasks
from kerasdiffusion.apps.cli import make_parser
from kerasdiffusion.pictures.metadata import read_parameters
from kerasdiffusion.pictures.write import save_png
from kerasdiffusion.requests.request import FIELDS
from tests.tiny import TEXTS

PHOTO = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
MASK = np.zeros((32, 48, 3), np.uint8)
MASK[8:24, 8:24] = 255
APPLE = TEXTS[0]


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Two files in the folder that is worked in."""
    monkeypatch.chdir(tmp_path)
    save_png(PHOTO, "photo.png")
    save_png(MASK, "mask.png")


def choose(line):
    args = make_parser().parse_args(["generate", *line.split()])
    return tasks.choose(args)


def test_every_option_of_the_tasks_has_a_flag():
    """But what only a program can pass, and what flags of their own stand for."""
    without = {name for name, field in FIELDS.items() if field.asked.flag is None}
    assert without == {
        *("prompt", "encoded_text", "pooled_text", "diffusion_noise"),
        *("left", "right", "top", "bottom", "control"),
        *("depth_estimator", "callback", "progress_bar"),
    }
    args = make_parser().parse_args(["walk", "x", "a.gif"])
    both = vars(args) | vars(make_parser().parse_args(["generate", "x"]))
    assert set(FIELDS) - without <= set(both)


@pytest.mark.parametrize(
    ("line", "method", "keywords"),
    [
        ("apple", "text_to_image", {}),
        ("apple --image photo.png", "image_to_image", {}),
        ("apple --image photo.png --strength 0.3", "image_to_image", {"strength": 0.3}),
        (
            "apple --image photo.png --mask mask.png --feather 4 --padding 16",
            "inpaint",
            {"feather": 4, "padding": 16},
        ),
        (
            "apple --image photo.png --outpaint left=32,top=8 --overlap 16 --size 64",
            "outpaint",
            {"left": 32, "top": 8, "overlap": 16},
        ),
        ("apple --image photo.png --depth auto", "depth_to_image", {}),
        (
            "--image photo.png --instruction winter --image-guidance-scale 1.2",
            "edit",
            {"image_guidance_scale": 1.2},
        ),
        (
            "apple --image photo.png --upscale --noise-level 5",
            "upscale",
            {"noise_level": 5},
        ),
    ],
)
def test_flags_choose_a_task(pictures, line, method, keywords):
    chosen = choose(line)
    files = {"image": "photo.png"} if method != "text_to_image" else {}
    files |= {"mask": "mask.png"} if method == "inpaint" else {}
    assert (chosen.task, chosen.fields) == (method, keywords | files)
    assert not chosen.controls


@pytest.mark.parametrize(
    ("line", "method", "told"),
    [
        ("x --image photo.png --depth mask.png", "depth_to_image", {}),
        ("--image photo.png --instruction winter", "edit", {"prompt": "winter"}),
        (
            "x --image photo.png --upscale --noise-level 5",
            "upscale",
            {"Noise level": "5"},
        ),
        (
            "x --image photo.png --mask mask.png --padding 3",
            "inpaint",
            {"strength": 1.0, "Padding": "3"},
        ),
        (
            "x --image photo.png --outpaint left=3 --strength 0.5",
            "outpaint",
            {"strength": 0.5, "Outpaint": "left=3"},
        ),
    ],
)
def test_tasks_are_called_as_they_ask(generate, pictures, calls, line, method, told):
    assert generate(*line.split(), "--output", "out.png", "--seed", "1") == 0
    assert calls[0][1] == method
    made = read_parameters("out.png")
    assert {name: made[name] for name in told} == told


def test_a_depth_map_may_be_given(pictures):
    chosen = choose("apple --image photo.png --depth mask.png")
    assert chosen.fields == {"image": "photo.png", "depth": "mask.png"}


def test_controls_have_their_own_scale_or_share_one(pictures):
    two = "apple --control net photo.png --control hf://a/b mask.png"
    chosen = choose(f"{two} --control-scale 0.5 --control-scale 0.8 --control-end 0.6")
    networks, files = zip(
        *((each.pop("network"), each.pop("picture")) for each in chosen.controls),
        strict=True,
    )
    assert networks == ("net", "hf://a/b")
    assert files == ("photo.png", "mask.png")
    assert chosen.controls == [{"scale": 0.5, "end": 0.6}, {"scale": 0.8, "end": 0.6}]


def test_a_control_picture_may_be_made_of_edges(pictures):
    (control,) = choose("apple --control canny edges:mask.png").controls
    edges = control["picture"]
    assert edges.shape == MASK.shape and set(np.unique(edges)) == {0, 255}
    assert edges[6:10, 12:20].any() and not edges[14:18, 14:18].any()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x --strength 0.5", "--strength is for --image or --mask or --outpaint"),
        ("x --mask mask.png", "--mask is for --image"),
        ("x --outpaint left=3", "--outpaint is for --image"),
        ("x --depth auto", "--depth is for --image"),
        ("--instruction x", "--instruction is for --image"),
        ("x --upscale", "--upscale is for --image"),
        ("x --image photo.png --feather 3", "--feather is for --mask or --outpaint"),
        ("x --image photo.png --noise-level 3", "--noise-level is for --upscale"),
        (
            "x --image photo.png --mask mask.png --depth auto",
            "--mask and --depth do not go together",
        ),
        (
            "x --image photo.png --outpaint up=3",
            "pixels of left, right, top and bottom, as left=32,right=32. Received: up",
        ),
        ("x --image photo.png --outpaint left=-3", "from 0 to 8192. Received: -3"),
        ("x --image photo.png --instruction y", "stands in place of PROMPT"),
        ("x --image photo.png --mask mask.png --size 64", "goes without --size"),
        ("x --control-scale 0.5", "--control-scale is for --control"),
        (
            "x --control a photo.png --control-end 0.5 --control-end 0.6",
            "--control-end must be given once, or once for each --control",
        ),
        ("x --freeu 1,2,3", "must be 4 numbers with commas between. Received: 1,2,3"),
        ("x --apg 1,2,3,4", "must be one to 3 numbers"),
        ("x --guidance-interval high", "must be one to 2 numbers"),
        ("x --guidance-rescale 2", "from 0 to 1. Received: 2"),
    ],
)
def test_what_does_not_go_together_is_said_before_anything_loads(
    pictures, capsys, line, message
):
    with pytest.raises(SystemExit):
        choose(line)
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and message in errors


def test_options_reach_the_task_the_picture_and_the_task_again(generate, calls):
    """Guidance, text and the like are written under their names and followed."""
    line = "--guidance-rescale 0.5 --guidance-interval 0.1,9 --apg 0.5,7.5,-0.5 "
    line += "--pag-scale 2 --pag-applied-layers down --freeu 1.1,1.2,0.9,0.8 "
    line += "--clip-skip 2 --prompt-weighting compel --dynamic-thresholding 5 "
    line += "--ucache 0.5 --merge-tokens 0.5 --quantize int8 "
    line += "--sigmas 9,3,1 --original-size 64x32 --seed 1 --quiet --output a.png"
    assert generate(APPLE, *line.split()) == 0
    keywords = calls[0][-1]
    assert keywords == {
        "prompt": (APPLE,),
        "seed": 1,
        "guidance_rescale": 0.5,
        "guidance_interval": (0.1, 9.0),
        "apg": (0.5, 7.5, -0.5),
        "pag_scale": 2.0,
        "pag_applied_layers": "down",
        "freeu": (1.1, 1.2, 0.9, 0.8),
        "ucache": (0.5, 0.15, 0.95, 1.0, 1.0, 1.0),
        "merge_tokens": 0.5,
        "clip_skip": 2,
        "prompt_weighting": "compel",
        "dynamic_thresholding": (5.0, 1.0),
        "sigmas": (9.0, 3.0, 1.0),
        "original_size": (32, 64),
    }
    made = read_parameters("a.png")
    assert made["Guidance interval"] == "0.1,9" and made["APG"] == "0.5,7.5,-0.5"
    assert made["clip_skip"] == 2 and made["PAG layers"] == "down"
    assert (made["FreeU"], made["Original size"]) == ("1.1,1.2,0.9,0.8", "64x32")
    assert made["UCache"] == "0.5,0.15,0.95,1,1,1"
    assert made["Token merging ratio"] == "0.5"
    assert made["Quantization"] == "int8"
    assert generate("--from", "a.png", "--quiet", "--output", "b.png") == 0
    again = calls[1][-1]
    sampler = {"sampler": "dpmpp_2m_karras", "unconditional_guidance_scale": 7.5}
    assert again == {**keywords, **sampler}
    assert read_parameters("b.png") == made


def test_of_other_programs_pictures_the_clip_skip_is_followed(generate, calls, capsys):
    made = {"prompt": "x", "steps": 2, "sampler": "Euler", "seed": 1, "clip_skip": 2}
    made |= {"version": "v1.10.1", "Refiner": "some [1234]", "Refiner start": "x"}
    save_png(PHOTO, "a1111.png", made)
    assert generate("--from", "a1111.png", "--quiet") == 0
    keywords = calls[0][-1]
    assert keywords["clip_skip"] == 2 and "refiner" not in keywords
    warnings = capsys.readouterr().err
    assert "'Refiner' of a1111.png is not followed" in warnings
    assert "clip_skip" not in warnings
    made |= {"version": "kerasdiffusion 1", "Refiner start": "2"}
    save_png(PHOTO, "ours.png", made)
    assert generate("--from", "ours.png", "--quiet") == 1
    assert "'Refiner start' in ours.png must be over 0" in capsys.readouterr().err


def test_a_refiner_and_other_parts_are_loaded(generate, assets, calls):
    vae = str(assets / "emoji" / "vae")
    line = f"--vae {vae} --refiner emoji --refiner-start 0.5 --size 48x32 --seed 1"
    generate(APPLE, *line.split(), "--output", "a.png")
    model, _, keywords = calls[0]
    assert model.image_encoder is not None and model._sources["decoder"] == vae
    assert (keywords["refiner"], keywords["refiner_start"]) == ("emoji", 0.5)
    made = read_parameters("a.png")
    assert (made["Refiner"], made["Refiner start"]) == ("emoji", "0.5")
    assert made["VAE"] == vae


def test_a_part_is_painted(generate, pictures):
    quick = "--steps 2 --seed 1 --quiet --output out.png --image photo.png"
    task = "--mask mask.png --strength 0.7 --feather 2"
    assert generate(APPLE, *quick.split(), *task.split()) == 0
    found = np.array(Image.open("out.png"))
    outside = np.ones(PHOTO.shape[:2], bool)
    outside[4:28, 4:28] = False
    assert np.array_equal(found[outside], PHOTO[outside])
    assert not np.array_equal(found, PHOTO)
    made = read_parameters("out.png")
    assert (made["strength"], made["Feather"]) == (0.7, "2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("x --image photo.png --depth auto", "depth"),
        ("--image photo.png --instruction winter", "channels"),
        ("x --image photo.png --upscale", "Received"),
    ],
)
def test_a_model_of_another_kind_is_an_error(
    generate,
    pictures,
    capsys,
    arguments,
    message,
):
    assert generate(*arguments.split()) == 1
    assert message in capsys.readouterr().err


def test_a_control_reaches_the_task(generate, pictures, calls):
    arguments = "--control net photo.png --control-scale 0.5 --output out.png"
    generate(APPLE, *arguments.split())
    (control,) = calls[0][-1]["control"]
    assert (control.scale, control.start, control.end) == (0.5, 0.0, 1.0)
    assert control.picture == "photo.png"
    made = read_parameters("out.png")
    assert made["Control 1"] == "net scale=0.5"
    assert made["Control 1 image"] == "photo.png"
