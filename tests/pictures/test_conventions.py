"""What numbers mean: each kind of mask and picture is read as its makers mean it, or
refused with a way that works."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays
from PIL import Image

from kerasdiffusion.pictures.conventions import MASKS, PICTURES, white_of
from kerasdiffusion.pictures.depth_maps import read_depths
from kerasdiffusion.pictures.read import read_masks, read_pictures

SIZE = (32, 48)
#: A quarter is to be painted.
SQUARE = np.zeros(SIZE, "uint8")
SQUARE[8:24, 12:36] = 1
RGB = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


def strokes(mode="RGBA", colour=255):
    """Strokes of a colour on a clear layer."""
    layer = np.stack([SQUARE * np.uint8(colour)] * 3 + [SQUARE * 255], axis=-1)
    return Image.fromarray(layer).convert(mode)


def clear_palette():
    image = Image.fromarray(SQUARE, "L").convert("P")
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.info["transparency"] = 0
    return image


def tensor(framework, dtype="bool"):
    """The mask as a tensor of a framework."""
    if framework == "torch":
        import torch

        values = torch.tensor(SQUARE).to(getattr(torch, dtype))
        return values.requires_grad_() if dtype == "float32" else values
    if framework == "jax":
        import jax.numpy as jnp

        return jnp.asarray(SQUARE, dtype)
    import tensorflow as tf

    return tf.cast(SQUARE, dtype)


@pytest.mark.parametrize(
    "mask",
    [
        SQUARE,  # one class of a segmentation, KerasCV
        SQUARE > 0,
        SQUARE * 255,
        SQUARE.astype("int8"),
        SQUARE.astype("int64"),
        SQUARE.astype("int32") * 255,
        SQUARE.astype("uint16") * 65535,
        SQUARE.astype("float16"),
        SQUARE * 255.0,  # Keras's img_to_array
        SQUARE[..., None] * np.ones((1, 1, 3), "uint8"),
        SQUARE[None],
        SQUARE[None, None],
        Image.fromarray(SQUARE),
        Image.fromarray(SQUARE > 0),
        Image.fromarray(SQUARE.astype("int32")),
        Image.fromarray(SQUARE.astype("int32") * 255),
        Image.fromarray(SQUARE.astype("int32") * 65535),
        Image.fromarray(SQUARE.astype("uint16") * 255),
        Image.fromarray(SQUARE.astype("uint16") * 65535),
        Image.fromarray(SQUARE.astype("float32")),
        Image.fromarray(SQUARE.astype("float32") * 255),
        strokes(),
        strokes("LA"),
        strokes("RGBa"),
        np.array(strokes()),
        np.array(strokes()) / 255.0,
        clear_palette(),
    ],
    ids=lambda mask: str(getattr(mask, "mode", None) or (mask.dtype, mask.shape)),
)
def test_a_mask_of_a_quarter_is_read_as_a_quarter(mask):
    (read,) = read_masks(mask, SIZE)
    assert read.dtype == np.float32 and read.shape == SIZE
    assert (read == SQUARE).all()


@pytest.mark.parametrize("framework", ["tensorflow", "jax", "torch"])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "float32", "bfloat16"])
def test_tensors_are_masks(framework, dtype):
    (read,) = read_masks(tensor(framework, dtype), SIZE)
    assert (read == SQUARE).all()


def test_a_stack_of_masks_is_as_many():
    for count in (2, 3, 5):
        assert len(read_masks(np.stack([SQUARE] * count), SIZE)) == count
    assert len(read_masks(np.stack([SQUARE[None]] * 3), SIZE)) == 3


@pytest.mark.parametrize(
    "mask, message",
    [
        (
            SQUARE * 5,
            "Of class numbers, give `x == number`.*Received: uint8",
        ),
        (SQUARE.astype("int64") * 200, "white 1, 255 or 65535.*Received: int64"),
        (SQUARE * 2.0 - 1.0, r"of \[-1, 1\].*give \(x \+ 1\) / 2|\(x \+ 1\) / 2"),
        (SQUARE * 128.5, "give x / 255"),
        (SQUARE * np.nan, "NaN and infinity are no colours"),
        (SQUARE.astype("int16") * -1, "Received: int16 from -1 to 0"),
        (strokes(colour=0), r"array\[..., 3\] > 127.*< 128"),
        (strokes(colour=120), "white strokes on a clear layer"),
        (Image.new("RGBA", SIZE[::-1]), "clear everywhere"),
        (np.stack([SQUARE * 255, SQUARE, SQUARE], -1), r"image.convert\('L'\)"),
        (np.ones((*SIZE, 2)), "Received: shape"),
    ],
)
def test_masks_that_may_mean_two_things_are_refused_with_a_way_out(mask, message):
    with pytest.raises(ValueError, match=message):
        read_masks(mask, SIZE)


def test_the_ways_out_work():
    for mask in (
        (SQUARE * 5) == 5,
        (SQUARE * 2.0 - 1.0 + 1.0) / 2.0,
        np.array(strokes(colour=0))[..., 3] > 127,
    ):
        assert (read_masks(mask, SIZE)[0] == SQUARE).all()


def test_three_channels_first_or_three_masks_is_asked_of_torch():
    import torch

    with pytest.raises(ValueError, match="channels first"):
        read_masks(torch.ones((3, *SIZE)), SIZE)
    (picture,) = read_pictures(torch.tensor(RGB).permute(2, 0, 1) / 255.0)
    assert (picture == RGB).all(), "in pictures torch's channels stand first"


class TestPictures:
    @pytest.mark.parametrize(
        "picture",
        [
            RGB.astype("int64"),
            RGB.astype("float32"),  # Keras's img_to_array
            RGB / 255.0,
            RGB.astype("uint16") * 257,
            np.moveaxis(RGB, -1, 0)[None],
        ],
        ids=lambda picture: f"{picture.dtype} {picture.shape}",
    )
    def test_what_has_one_meaning_is_read(self, picture):
        (read,) = read_pictures(picture)
        assert (read == RGB).all()

    def test_bools_and_black(self):
        assert read_pictures(SQUARE > 0)[0].max() == 255
        assert read_pictures(np.zeros((16, 16), "uint8"))[0].max() == 0

    @pytest.mark.parametrize(
        "picture, message",
        [
            (SQUARE, r"Where 1 is white, give x \* 255"),
            ((RGB // 8).astype("uint16"), "Of 8 bits, give x.astype"),
            (RGB / 127.5 - 1.0, r"give \(x \+ 1\) / 2"),
            (RGB * 0.7, "Of 0 to 255, give x / 255"),
            (RGB.astype("int32") * 256, "Received: int32"),
            (np.moveaxis(RGB, -1, 0), r"np.moveaxis\(array, 0, -1\)"),
        ],
    )
    def test_what_has_two_is_refused_with_a_way_out(self, picture, message):
        with pytest.raises(ValueError, match=message):
            read_pictures(picture)

    def test_a_dark_file_is_a_dark_picture(self, tmp_path):
        """In files and Pillow's images of 8 bits nothing but 255 is white."""
        Image.fromarray(SQUARE).save(tmp_path / "dark.png")
        assert read_pictures(tmp_path / "dark.png")[0].max() == 1

    def test_deep_and_floating_images(self, tmp_path):
        grey = RGB[..., 0]
        for image in (
            Image.fromarray(grey.astype("uint16") * 257),
            Image.fromarray(grey.astype("int32")),
            Image.fromarray(grey.astype("int32") * 257),
            Image.fromarray(grey.astype("float32")),
            Image.fromarray(grey.astype("float32") / 255),
        ):
            assert (read_pictures(image)[0][..., 0] == grey).all(), image.mode

    def test_cmyk_is_converted(self, tmp_path):
        flat = np.full((32, 32, 3), (200, 40, 90), np.uint8)
        Image.fromarray(flat).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
        read = read_pictures(tmp_path / "a.jpg")[0].astype(int)
        assert abs(read - flat).max() < 8

    def test_of_an_mpo_the_photo_is_read(self, tmp_path):
        photo = Image.fromarray(np.full((32, 32, 3), 9, np.uint8))
        thumb = Image.fromarray(np.full((32, 32, 3), 99, np.uint8))
        photo.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[thumb])
        assert abs(int(read_pictures(tmp_path / "a.jpg")[0].mean()) - 9) < 3


class TestDepths:
    def test_grey_of_any_range_and_shape(self):
        depth = RGB[..., 0].astype("float32") * 7
        for each in (depth, depth[None, None], np.stack([depth] * 3, -1)):
            (read,) = read_depths(each)
            assert (read == depth).all()

    @pytest.mark.parametrize(
        "depth, message",
        [
            (RGB, "A depth map must be grey"),  # a colour map has nobody's order
            (Image.fromarray(RGB), "A depth map must be grey"),
            (strokes(), "clear parts"),
            (Image.fromarray(np.full(SIZE, np.nan, "float32")), "NaN"),
        ],
    )
    def test_what_has_no_order_is_refused(self, depth, message):
        with pytest.raises(ValueError, match=message):
            read_depths(depth)


NUMBERS = some.one_of(
    arrays.integer_dtypes(), arrays.unsigned_integer_dtypes(), arrays.boolean_dtypes()
)


@settings(deadline=None, max_examples=150)
@given(
    white=some.sampled_from([1, 255, 65535, 1.0, 255.0]),
    dtype=some.one_of(NUMBERS, arrays.floating_dtypes(sizes=(16, 32, 64))),
    shift=some.sampled_from([0, 0, 0, -1, 1]),
    factor=some.sampled_from([1, 1, 1, 2, 7, 100]),
)
def test_a_changed_mask_is_read_as_it_was_or_refused(white, dtype, shift, factor):
    """Whatever type and scale a mask of two levels has: it is that mask, or none."""
    with np.errstate(all="ignore"):
        mask = ((SQUARE.astype("float64") * white + shift) * factor).astype(dtype)
    try:
        (read,) = read_masks(mask, SIZE)
    except (ValueError, TypeError) as error:
        assert "Received: " in str(error) and len(str(error)) < 500
        return
    high = float(mask.max())
    known = mask.dtype == bool or high in (1.0, 255.0, 65535.0)
    grey_is_meant = (mask.dtype == np.uint8 and high >= 32) or (
        mask.dtype.kind == "f" and 0 < high < 1
    )
    assert known or grey_is_meant
    if known:
        assert (read == (mask == mask.max())).all() or mask.min() > 0


@pytest.mark.parametrize("table", [PICTURES, MASKS])
def test_every_row_of_a_table_can_be_reached(table):
    for row in table:
        name = {"integer": "int32", "float": "float32"}.get(row.kinds[0], row.kinds[0])
        assert white_of(np.array([0, row.most]).astype(name), table, "x") == row.white
