"""Which files are opened as pictures, and what is said of the others."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from kerasdiffusion.pictures.formats import FORMATS
from kerasdiffusion.pictures.read import read_pictures

RGB = np.full((24, 32, 3), (200, 120, 40), np.uint8)
WRITTEN = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")


@pytest.mark.parametrize("name", WRITTEN)
def test_the_usual_ones_are_read_by_content_whatever_the_name(name, tmp_path):
    Image.fromarray(RGB).save(tmp_path / "picture.dat", name)
    assert name in FORMATS
    (read,) = read_pictures(tmp_path / "picture.dat")
    assert abs(read.astype(int) - RGB).max() < 12


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animated_one_the_first_frame_is_read(name, tmp_path):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    frames[0].save(tmp_path / "a", name, save_all=True, append_images=frames[1:])
    (read,) = read_pictures(tmp_path / "a")
    assert abs(read.astype(int) - RGB).max() < 12


@pytest.mark.parametrize("name", ["ICO", "PCX", "SGI", "JPEG2000", "IM", "EPS", "PDF"])
def test_what_pillow_knows_besides_is_refused(name, tmp_path):
    content = io.BytesIO()
    try:
        Image.fromarray(RGB).save(content, name)
    except (OSError, KeyError):
        pytest.skip(f"Pillow has no {name} here")
    (tmp_path / "a").write_bytes(content.getvalue())
    with pytest.raises(ValueError, match="must be .*PNG, JPEG, WebP.*Received: "):
        read_pictures(tmp_path / "a")


@pytest.mark.parametrize(
    "start, name",
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "EPS"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"<svg xmlns='x'>", "SVG"),
        (b"<!doctype html>", "a web page"),
        (b"8BPS\0\x01", "PSD"),
        (b"\x93NUMPY\x01\0", r"np.load\(path\)"),
        (b"PK\x03\x04", "ZIP"),
        (b"\0\0\x01\0\x01\0", "ICO"),
    ],
)
def test_other_formats_are_refused_by_their_name(start, name, tmp_path):
    (tmp_path / "a.png").write_bytes(start + bytes(200))
    with pytest.raises(ValueError, match=f"which is .*{name}"):
        read_pictures(tmp_path / "a.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match="must be a picture to read"):
        read_pictures(tmp_path / "a.png")


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_that_was_cut_or_changed_is_one_clear_error(name, tmp_path):
    content = io.BytesIO()
    Image.fromarray(RGB).save(content, name)
    content, random = content.getvalue(), np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(content[: random.integers(1, len(content) + 1)])
        broken[random.integers(len(broken))] = random.integers(256)
        (tmp_path / "a").write_bytes(bytes(broken))
        try:
            read_pictures(tmp_path / "a")
        except ValueError as error:
            assert "Received: " in str(error) and len(str(error)) < 600
