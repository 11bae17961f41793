"""Pictures that go on beyond their edges: the given pixels, windows, the ground."""

import numpy as np
import pytest

from kerasdiffusion import StableDiffusion
from kerasdiffusion.datasets.scenes import BACKGROUNDS
from kerasdiffusion.datasets.sprites import COLORS
from tests.tasks.test_image_to_image import APPLE, PICTURE
from tests.tasks.test_inpainting import LARGE, grow, paint


@pytest.fixture(scope="module")
def bundled():
    return StableDiffusion.from_preset("emoji")


class TestOutpaint:
    @pytest.mark.every_backend_at_length
    def test_the_given_pixels_stay(self, tiny):
        sides = {"left": 5, "right": 16, "top": 1, "bottom": 30}
        found = grow(tiny, [PICTURE, PICTURE[::-1]], [APPLE, "two cats"], **sides)
        assert found.shape == (2, 63, 53, 3) and found.dtype == np.uint8
        inside = found[:, 1:33, 5:37]
        assert (inside == [PICTURE, PICTURE[::-1]]).all()
        assert (found[0] != found[1]).any(axis=-1).mean() > 0.9

    def test_one_window_is_inpainted(self, tiny):
        """The half of the model's size is new; elsewhere is the nearest known pixel."""
        (found,) = grow(tiny, right=16)
        filled = np.pad(PICTURE[:, 16:], [(0, 0), (0, 16), (0, 0)], mode="edge")
        mask = np.zeros((32, 32), bool)
        mask[:, 16:] = True
        (expected,) = paint(tiny, filled, mask)
        assert (found[:, 16:] == expected).all()

    @pytest.mark.parametrize("size", [(32, 32), (16, 40), (50, 70)])
    def test_farther_than_the_picture_is_large(self, tiny, size):
        picture = LARGE[: size[0], : size[1]]
        (found,) = grow(tiny, picture, left=100, bottom=40, num_steps=2)
        assert found.shape == (size[0] + 40, size[1] + 100, 3)
        assert (found[: size[0], 100:] == picture).all()
        # Other noise in each window, and none is left out.
        columns = found[:, :96].reshape(len(found), 6, 16, 3)
        assert columns.std(axis=(0, 2)).min() > 1.0
        assert (columns[:, 0] != columns[:, 2]).mean() > 0.5

    def test_less_overlap_takes_fewer_windows(self, tiny):
        counts = []
        for overlap in (None, 8, 24):
            seen = []
            grow(tiny, right=48, overlap=overlap, callback=seen.append)
            counts.append(len(seen) // 4)
        assert counts == [3, 2, 6]

    def test_false_stops_all_windows(self, tiny):
        seen = []
        grow(tiny, right=48, callback=lambda step: seen.append(step) or len(seen) < 6)
        assert len(seen) == 6


@pytest.mark.heavy
@pytest.mark.parametrize("ground", ["yellow", "blue"])
def test_outpainting_goes_on_with_the_ground(bundled, ground):
    """Of which the prompt says nothing: it is the nearest of twelve, seldom another."""
    picture = np.full((128, 128, 3), COLORS[ground], np.uint8)
    picture[40:88, 40:88] = COLORS["red"]
    found = grow(bundled, [picture] * 4, ["a dog"] * 4, left=64, num_steps=10)
    assert (found[:, :, 64:] == picture).all()
    new = np.median(found[:, :, :64].reshape(4, -1, 3), axis=1)
    grounds = np.array([COLORS[name] for name in BACKGROUNDS])
    nearest = np.abs(new[:, None] - grounds).sum(axis=-1).argmin(axis=1)
    assert [BACKGROUNDS[place] for place in nearest].count(ground) >= 3
