"""`kerasdiffusion walk`, in this process, on a tiny model."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from kerasdiffusion.apps import load
from kerasdiffusion.pictures.metadata import read_parameters
from kerasdiffusion.requests.request import is_same
from tests.tiny import TEXTS

APPLE, CATS = TEXTS[:2]


def frames(path):
    with Image.open(path) as image:
        return np.stack(
            [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
        )


def test_a_walk_is_an_animation(walk, tiny, capsys):
    """Options may stand before, between and behind prompts and the file."""
    arguments = (APPLE, "--steps", "2", CATS, "--frames", "3", "sub/out.gif")
    assert walk(*arguments, "--seed", "1") == 0
    wrote, bundled = capsys.readouterr().out.splitlines()
    assert wrote == "Wrote sub/out.gif (3 frames)"
    assert "kerasdiffusion walk --preset sd1.5" in bundled
    expected = tiny.interpolate([APPLE, CATS], frames=3, num_steps=2, seed=1)
    # A GIF has 256 colours.
    error = np.abs(frames("sub/out.gif").astype(int) - expected)
    assert expected.shape == (3, 32, 32, 3) and error.mean() < 8


def test_the_way_and_the_task_are_chosen(walk, calls):
    walk(APPLE, "a.gif", "--seed", "4,5", "--closed", "--noise-path", "linear")
    walk(APPLE, "a.gif", "--circle", "--seed", "4", "--batch-size", "2", "--apg", "1")
    assert [call[1:] for call in calls] == [
        (
            "interpolate",
            {
                "prompt": (APPLE,),
                "seed": (4, 5),
                "frames": 60,
                "closed": True,
                "noise_path": "linear",
            },
        ),
        (
            "circular_walk",
            {"prompt": (APPLE,), "batch_size": 2, "seed": 4, "apg": (1.0, 7.5, -0.75)},
        ),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([APPLE, "a.gif"], "between two prompts, two seeds, or --circle"),
        ([APPLE, "a.gif", "--circle", "--closed"], "--circle goes without --closed"),
        ([], "the following arguments are required: FILE"),
        (["a.gif"], "the following arguments are required: PROMPT, or --from"),
        ([APPLE, CATS, "a.gif", "--seed", "1,x"], "from 0 to 2**64 - 1. Received: 1,x"),
        ([APPLE, CATS, "a.gif", "--no-such"], "unrecognized arguments: --no-such"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_with_2(walk, capsys, arguments, message):
    with pytest.raises(SystemExit) as exit:
        walk(*arguments)
    assert exit.value.code == 2 and message in capsys.readouterr().err


LINES = (
    (APPLE, CATS, "--seed", "3", "--frames", "5", "--eta", "0.5"),
    (APPLE, "--seed", "4,5", "--closed", "--noise-path", "linear", "--fps", "7.5"),
    (APPLE, CATS, "--circle", "--batch-size", "2", "--apg", "1", "--size", "48x32"),
    (CATS, "--circle", "--precision", "float16", "--negative-prompt", "dark"),
)


@pytest.mark.parametrize("line", LINES)
def test_an_animation_asks_for_the_same_again(walk, monkeypatch, line):
    """Every field, and how it is computed."""
    asked = []

    def painted(model, request):
        asked.append((request, model.precision, model.img_height, model.img_width))
        return np.zeros((request.frames, model.img_height, model.img_width, 3), "uint8")

    monkeypatch.setattr(load, "paint", painted)
    assert walk(*line, "one.gif", "--steps", "2", "--quiet") == 0
    assert walk("two.gif", "--from", "one.gif", "--quiet") == 0
    (first, *machine), (second, *same) = asked
    assert first.task == second.task and machine == same
    for name in set(second.given()) - {"sampler", "unconditional_guidance_scale"}:
        assert is_same(getattr(first, name), getattr(second, name)), name
    assert set(first.given()) <= set(second.given())
    assert read_parameters("one.gif") == read_parameters("two.gif")


def test_an_animation_is_painted_again_to_the_bit(walk):
    line = (APPLE, CATS, "--steps", "1", "--frames", "3", "--sampler", "euler_a")
    walk(*line, "one.gif", "--quiet")
    walk("--from", "one.gif", "two.gif", "--quiet")
    np.testing.assert_array_equal(frames("one.gif"), frames("two.gif"))


def test_flags_and_prompts_count_more_than_the_animation(walk, calls):
    walk(APPLE, CATS, "one.gif", "--seed", "1", "--frames", "4", "--fps", "9")
    walk(CATS, APPLE, "--from", "one.gif", "--frames", "6", "two.gif")
    fields = calls[1][-1]
    assert (fields["prompt"], fields["frames"], fields["seed"]) == ((CATS, APPLE), 6, 1)
    assert read_parameters("two.gif")["FPS"] == "9"


def test_pictures_and_animations_are_followed_by_their_own_command(
    walk, generate, calls, capsys
):
    walk(APPLE, CATS, "one.gif")
    generate(APPLE, "--output", "one.png")
    assert generate("--from", "one.gif") == 1
    assert "`kerasdiffusion walk --from`. Received: --from one.gif" in (
        capsys.readouterr().err
    )
    assert walk("--from", "one.png", "two.gif") == 1
    assert "for `generate --from`. Received: one.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([APPLE, CATS, "a.png"], "must end in .gif or .mp4. Received: a.png"),
        ([APPLE, CATS, "a.gif", "--fps", "0"], "over 0 and up to 120. Received: 0"),
        ([APPLE, CATS, "a.gif", "--preset", "emjoi"], "Did you mean emoji?"),
    ],
)
def test_what_cannot_be_walked_is_one_line(walk, capsys, tmp_path, arguments, message):
    assert walk(*arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and message in captured.err
    assert not captured.out and not list(tmp_path.iterdir())
