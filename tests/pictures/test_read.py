"""Pictures in: whatever holds one comes out as uint8 RGB of its own size."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from kerasdiffusion.pictures.read import (
    pad_to_multiple,
    read_masks,
    read_pictures,
    to_unit,
)

RGB = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


def read(picture):
    (array,) = read_pictures(picture)
    assert array.dtype == np.uint8 and array.shape[-1] == 3
    return array


class TestSources:
    def test_arrays_of_bytes_and_of_floats(self):
        assert (read(RGB) == RGB).all()
        assert (read(RGB / 255.0) == RGB).all()
        assert (read((RGB / 255.0).astype("float32")) == RGB).all()

    def test_files_and_pil_images(self, tmp_path):
        Image.fromarray(RGB).save(tmp_path / "a.png")
        assert (read(tmp_path / "a.png") == RGB).all()
        assert (read(str(tmp_path / "a.png")) == RGB).all()
        assert (read(Image.fromarray(RGB)) == RGB).all()

    def test_batches_and_lists(self, tmp_path):
        assert len(read_pictures(np.stack([RGB, RGB]))) == 2
        mixed = read_pictures([RGB, Image.fromarray(RGB[:16, :16])])
        assert [each.shape for each in mixed] == [(24, 32, 3), (16, 16, 3)]


class TestModes:
    def test_greyscale_is_repeated(self):
        grey = RGB[..., 0]
        for picture in (grey, grey[..., None], Image.fromarray(grey)):
            assert (read(picture) == grey[..., None]).all()

    def test_sixteen_bits_are_scaled_not_clipped(self):
        deep = (RGB[..., 0].astype("uint16") * 257).astype("uint16")
        assert (read(Image.fromarray(deep)) == RGB[..., :1]).all()

    def test_a_palette_is_looked_up(self):
        image = Image.fromarray(RGB).convert("P")
        assert (read(image) == np.array(image.convert("RGB"))).all()

    def test_what_is_transparent_is_laid_over_white(self):
        alpha = np.zeros((24, 32, 1), np.uint8)
        alpha[:, 16:] = 255
        alpha[0] = 51
        picture = np.concatenate([RGB, alpha], axis=-1)
        for source in (picture, picture / 255.0, Image.fromarray(picture)):
            array = read(source)
            assert (array[1:, :16] == 255).all() and (
                array[1:, 16:] == RGB[1:, 16:]
            ).all()
            assert array[0] == pytest.approx(0.2 * RGB[0] + 0.8 * 255, abs=1)

    def test_exif_rotation_is_applied(self):
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by a quarter to the right
        file = io.BytesIO()
        Image.fromarray(RGB).save(file, "PNG", exif=exif)
        turned = np.rot90(RGB, k=-1)
        assert (read(Image.open(file)) == turned).all()


class TestMask:
    def test_white_is_one_and_grey_between(self):
        grey = np.zeros((24, 32), np.uint8)
        grey[:, 16:], grey[:, 8:16] = 255, 51
        (mask,) = read_masks(grey, (24, 32))
        assert mask.dtype == np.float32
        assert mask[0, ::8] == pytest.approx([0.0, 0.2, 1.0, 1.0])
        (mask,) = read_masks(np.full((24, 32), 0.7), (24, 32))
        assert mask == pytest.approx(0.7), "finer than 256 levels"

    def test_bools_and_pictures_that_jpeg_has_tinted(self):
        white = np.ones((24, 32), bool)
        for mask in read_masks([white, white.astype("float32")], (24, 32)):
            assert (mask == 1.0).all()
        tinted = np.zeros((24, 32, 3), np.uint8) + np.array([255, 240, 250], np.uint8)
        expected = (0.299 * 255 + 0.587 * 240 + 0.114 * 250) / 255
        assert read_masks(tinted, (24, 32))[0][0, 0] == pytest.approx(
            expected, abs=1e-4
        )

    @pytest.mark.parametrize(
        "mask, message",
        [
            (np.ones((24, 24)), r"height and width, \(24, 32\). Received: \(24, 24\)"),
            (np.zeros((24, 32)), "Received: a mask that is black everywhere"),
        ],
    )
    def test_bad_masks(self, mask, message):
        with pytest.raises(ValueError, match=message):
            read_masks(mask, (24, 32))


class TestSizes:
    def test_padding_repeats_the_edge(self):
        padded = pad_to_multiple(RGB[:19, :31], 8)
        assert padded.shape == (24, 32, 3)
        assert (padded[:19, :31] == RGB[:19, :31]).all()
        assert (padded[19:, :31] == RGB[18, :31]).all()
        assert (
            pad_to_multiple(RGB, 8) is not None
            and pad_to_multiple(RGB, 8).shape == RGB.shape
        )

    def test_the_autoencoder_takes_minus_one_to_one(self):
        unit = to_unit([np.array([[[0, 255, 51]]], np.uint8)])
        assert unit[0, 0, 0] == pytest.approx([-1.0, 1.0, -0.6])


def bomb(width, height):
    """A PNG of a few bytes that says it has that many pixels."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "picture, error, message",
    [
        (5, TypeError, "must be a path, a PIL image.*Received: int"),
        (RGB.astype("complex64"), TypeError, "Received: an array of complex64"),
        (
            RGB * 1.5,
            ValueError,
            r"floats in \[0, 1\].* Received: float64 from 0 to",
        ),
        (np.full((24, 32), np.nan), ValueError, "Received: float64 from nan to nan"),
        (RGB[..., :2], ValueError, r"Received: shape \(24, 32, 2\)"),
        (RGB[0, 0], ValueError, r"Received: shape \(3,\)"),
        ([], ValueError, r"or a list of these. Received: \[\]"),
        (RGB[:1, :1], ValueError, "16 to 8192 pixels. Received: height=1, width=1"),
        ("no/such.png", FileNotFoundError, "Received: no/such.png"),
    ],
)
def test_what_is_no_picture(picture, error, message):
    with pytest.raises(error, match=message):
        read_pictures(picture)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"not a picture", "that Pillow reads"),
        (bomb(20000, 20000), "16 to 8192 pixels|that Pillow reads"),
        (bomb(8000, 30), "that Pillow reads"),
    ],
)
def test_files_that_are_no_pictures(tmp_path, content, message):
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_pictures(path)
