"""GIF and MP4 files, read back by Pillow and by FFmpeg."""

import sys

import numpy as np
import pytest
from PIL import Image, ImageSequence

from kerasdiffusion.pictures.animations import save_animation

COLOURS = np.array([[200, 30, 30], [30, 160, 60], [40, 60, 220]], "uint8")
FRAMES = np.tile(COLOURS[:, None, None], (1, 18, 23, 1))


def test_a_gif_shows_the_frames_forever(tmp_path):
    path = save_animation(FRAMES, tmp_path / "sub" / "walk.gif", fps=12)
    with Image.open(path) as image:
        assert image.format == "GIF" and image.size == (23, 18)
        assert image.info["loop"] == 0
        pairs = [
            (np.array(frame.convert("RGB")), frame.info["duration"])
            for frame in ImageSequence.Iterator(image)
        ]
    assert np.array_equal([frame for frame, _ in pairs], FRAMES)
    # A twelfth of a second is no whole number of hundredths: 8, 9 and 8.
    assert [duration for _, duration in pairs] == [80, 90, 80]


def test_an_mp4_shows_the_frames(tmp_path):
    iio = pytest.importorskip("imageio.v3")
    path = save_animation(FRAMES, tmp_path / "walk.mp4", fps=10)
    found = iio.imread(path, plugin="FFMPEG")
    # An odd side has its last column repeated.
    assert found.shape == (3, 18, 24, 3)
    assert np.abs(found[:, :, :23].astype(int) - FRAMES).max() < 12
    assert iio.immeta(path, plugin="FFMPEG")["fps"] == 10


def test_no_file_is_overwritten(tmp_path):
    first = save_animation(FRAMES, tmp_path / "walk.gif")
    second = save_animation(FRAMES, tmp_path / "walk.gif")
    assert (first.name, second.name) == ("walk.gif", "walk-2.gif")


@pytest.mark.parametrize(
    ("frames", "name", "options", "error", "message"),
    [
        (
            FRAMES,
            "walk.png",
            {},
            ValueError,
            r"end in .gif or .mp4. Received: walk.png",
        ),
        (FRAMES / 255.0, "a.gif", {}, TypeError, "must be uint8. Received: float64"),
        (FRAMES[:0], "a.gif", {}, ValueError, "one or more.*Received: 0 frames"),
        (FRAMES[0], "a.gif", {}, ValueError, "Received: 18 frames of shapes"),
        ([FRAMES[0], FRAMES[0][1:]], "a.gif", {}, ValueError, "all of one shape"),
        (FRAMES, "a.gif", {"fps": 0}, ValueError, "up to 120. Received: 0"),
        (FRAMES, "a.gif", {"fps": "3"}, TypeError, "`fps` must be a number.*'3'"),
    ],
)
def test_bad_arguments(tmp_path, monkeypatch, frames, name, options, error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        save_animation(frames, name, **options)
    assert not list(tmp_path.iterdir())


def test_without_the_extra_an_mp4_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ImportError, match="pip install imageio-ffmpeg.*a.mp4"):
        save_animation(FRAMES, tmp_path / "a.mp4")
