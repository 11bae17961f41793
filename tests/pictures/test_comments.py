"""Animations say how they were made, as a comment of a GIF or of an MP4."""

import numpy as np
import pytest
from PIL import Image

from kerasdiffusion.pictures.animations import save_animation
from kerasdiffusion.pictures.comments import read_comment
from kerasdiffusion.pictures.metadata import read_parameters
from kerasdiffusion.pictures.read import read_pictures
from kerasdiffusion.storage.bounds import BOUNDS

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), "uint8")
MADE = {
    "prompt": "a (red:1.2) apple; 猫と城\nin two lines" + ", and more" * 99,
    "negative_prompt": "dark",
    "steps": 4,
    "sampler": "Euler a",
    "seed": 2**64 - 1,
    "width": 16,
    "height": 16,
    "Prompts": '["a", "b"]',
}


@pytest.mark.parametrize("ending", ["gif", "mp4"])
def test_an_animation_says_how_it_was_made(tmp_path, ending):
    path = save_animation(FRAMES, tmp_path / f"a.{ending}", parameters=MADE)
    assert read_parameters(path) == MADE
    plain = save_animation(FRAMES, tmp_path / f"b.{ending}")
    with pytest.raises(ValueError, match="must hold a text chunk.*which has no text"):
        read_parameters(plain)


def test_the_frames_are_the_same_with_and_without(tmp_path):
    paths = [
        save_animation(FRAMES, tmp_path / "a.gif", parameters=told)
        for told in (None, MADE)
    ]
    first, second = (np.array(Image.open(path).convert("RGB")) for path in paths)
    np.testing.assert_array_equal(first, second)


def test_what_a_text_cannot_have_becomes_what_it_can(tmp_path):
    for ending in ("gif", "mp4"):
        path = tmp_path / f"a.{ending}"
        save_animation(FRAMES, path, parameters={"prompt": "a\0b\ud800", "seed": 1})
        assert read_comment(path) == "a b?\nSeed: 1"


def test_another_programs_name_is_no_prompt(tmp_path):
    Image.fromarray(FRAMES[0]).save(tmp_path / "a.gif", comment=b"Created with GIMP")
    with pytest.raises(ValueError, match="which has no text"):
        read_parameters(tmp_path / "a.gif")


def test_a_video_of_another_program_has_none(tmp_path):
    path = save_animation(FRAMES, tmp_path / "a.mp4", parameters=MADE)
    content = path.read_bytes()
    cut = content[: content.index(b"ilst") + 9]
    for broken in (content[:40], cut, content.replace(b"udta", b"free")):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="which has no text"):
            read_parameters(path)


def test_more_than_a_comment_holds_is_refused(tmp_path):
    most = BOUNDS["comment"].most
    for ending, size in (("gif", most), ("mp4", 100_000)):
        with pytest.raises(ValueError, match=f"has at most {size} bytes.*Received"):
            save_animation(
                FRAMES, tmp_path / f"a.{ending}", parameters={"prompt": "x" * size}
            )
    assert not list(tmp_path.iterdir())


def test_a_longer_one_is_not_read_nor_is_its_picture(tmp_path):
    path, most = tmp_path / "a.gif", BOUNDS["comment"].most
    Image.fromarray(FRAMES[0]).save(path, comment=b"x" * (most + 1))
    for read in (read_parameters, read_pictures):
        with pytest.raises(ValueError, match=f"at most {most} bytes. Received"):
            read(path)


def test_a_picture_is_neither(tmp_path):
    Image.fromarray(FRAMES[0]).save(tmp_path / "a.png")
    assert read_comment(tmp_path / "a.png") is None
