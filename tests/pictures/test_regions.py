"""Masks, boxes and windows."""

import numpy as np
import pytest

from kerasdiffusion.pictures.regions import (
    Box,
    box_around,
    canvas_for,
    enlarged,
    feathered,
    filled,
    fit,
    laid,
    outward,
    resize_mask,
)

RGB = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


class TestFeather:
    def test_falls_in_even_steps_and_ends(self):
        mask = np.zeros((9, 11), "float32")
        mask[4, 5] = 1.0
        soft = feathered(mask, 3)
        assert soft[4, 5:] == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0, 0.0])
        assert soft[4:, 5] == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0])
        assert (soft == soft[::-1]).all() and (soft == soft[:, ::-1]).all()
        # Round rather than square or a diamond.
        assert soft[1, 2] == 0.0 and soft[2, 3] == pytest.approx(0.25)

    def test_none_is_the_mask_and_greys_stay(self):
        mask = np.array([[0.0, 0.2, 1.0, 0.0]], "float32")
        assert (feathered(mask, 0) == mask).all()
        assert feathered(mask, 1) == pytest.approx(np.array([[0.1, 0.5, 1.0, 0.5]]))


class TestSizes:
    @pytest.mark.parametrize("size", [(8, 8), (4, 2), (5, 3), (16, 24)])
    def test_no_white_pixel_is_lost(self, size):
        for row, column in ((0, 0), (3, 7), (5, 2)):
            mask = np.zeros((8, 8), "float32")
            mask[row, column] = 1.0
            small = resize_mask(mask, size)
            assert small.shape == size and small.max() == 1.0
            (rows, columns), (height, width) = np.nonzero(small), size
            assert abs(rows.mean() + 0.5 - (row + 0.5) * height / 8) < 1.0
            assert abs(columns.mean() + 0.5 - (column + 0.5) * width / 8) < 1.0

    def test_blocks_as_latents_see_them(self):
        mask = np.zeros((16, 16), bool)
        mask[7, 8:] = True
        assert resize_mask(mask, (2, 2)).tolist() == [[False, True], [False, False]]

    @pytest.mark.parametrize(
        "size, within, expected",
        [
            ((20, 20), (64, 64), (64, 64)),
            ((20, 40), (64, 64), (32, 64)),
            ((300, 100), (64, 32), (64, 21)),
            ((1, 5000), (64, 64), (1, 64)),
        ],
    )
    def test_fit_keeps_the_ratio(self, size, within, expected):
        assert fit(size, within) == expected


class TestBoxes:
    @pytest.mark.parametrize(
        "white, padding, shape, expected",
        [
            (Box(10, 20, 30, 40), 0, (8, 8), Box(10, 20, 30, 40)),
            (Box(10, 20, 30, 40), 5, (8, 8), Box(5, 25, 25, 45)),
            # Grown to the ratio, and moved inside.
            (Box(10, 20, 30, 40), 0, (8, 16), Box(10, 20, 25, 45)),
            (Box(0, 10, 56, 60), 0, (8, 8), Box(0, 10, 50, 60)),
            # As far as the picture goes.
            (Box(0, 40, 0, 10), 9, (8, 16), Box(0, 40, 0, 60)),
        ],
    )
    def test_around_a_mask(self, white, padding, shape, expected):
        mask = np.zeros((40, 60), bool)
        mask[white.inside] = True
        assert box_around(mask, padding, shape) == expected

    @pytest.mark.parametrize("box", [Box(4, 20, 8, 24), Box(0, 40, 0, 60)])
    def test_there_and_back_changes_only_what_is_covered(self, box):
        cover = np.zeros((40, 60), "float32")
        cover[8:12, 10:20], cover[9, 12] = 1.0, 0.5
        part, mask = (enlarged(each, box, (64, 64)) for each in (RGB, cover))
        assert part.shape == (64, 64, 3) and mask.shape == (64, 64)
        found = laid(RGB, 255 - part, cover, box)
        assert (found[cover == 0] == RGB[cover == 0]).all()
        white = cover == 1.0
        off = np.abs(found[white].astype(int) - (255 - RGB[white].astype(int)))
        assert off.mean() < 40, "the negative, as far as scaling keeps it"
        assert (laid(RGB, part, 0 * cover, box) == RGB).all()


class TestOutward:
    def test_margins_are_what_is_around(self):
        margins = Box(1, 4, 2, 9).margins((5, 12))
        assert margins == [(1, 1), (2, 3)]
        assert np.pad(np.zeros((3, 7)), margins).shape == (5, 12)

    def test_the_nearest_known_pixels(self):
        picture, known = np.arange(24).reshape(4, 6, 1), np.zeros((4, 6), bool)
        known[1:3, 2:4] = True
        expected = [[8, 8, 8, 9, 9, 9]] * 2 + [[14, 14, 14, 15, 15, 15]] * 2
        assert filled(picture, known)[..., 0].tolist() == expected
        known[3, 0] = True
        assert filled(picture, known)[3, :, 0].tolist() == [18] * 6

    @pytest.mark.parametrize(
        "sides", [(5, 0, 0, 0), (0, 3, 8, 1), (100, 7, 0, 31), (0, 0, 200, 200)]
    )
    def test_windows_cover_the_canvas_and_begin_with_what_is_known(self, sides):
        names = ("left", "right", "top", "bottom")
        canvas, given, wanted = canvas_for(
            (20, 33), dict(zip(names, sides, strict=True)), 8
        )
        assert given.size == (20, 33)
        left, right, top, bottom = sides
        assert wanted.size == (20 + top + bottom, 33 + left + right)
        assert (given.top - wanted.top, given.left - wanted.left) == (top, left)
        window = min(32, canvas[0]), min(32, canvas[1])
        known = np.zeros(canvas, bool)
        known[given.inside] = True
        for box in outward(canvas, given, window, (16, 16)):
            assert box.size == window and min(box) >= 0
            assert box.bottom <= canvas[0] and box.right <= canvas[1]
            assert known[box.inside].any()
            known[box.inside] = True
        assert known.all()
