"""The sizes that pictures are taught in."""

import numpy as np
import pytest

from kerasdiffusion.presets.families import SD1, SDXL
from kerasdiffusion.training.examples.buckets import (
    brought,
    bucket_sizes,
    factor,
    fit,
    shrunk,
)
from tests.tiny import TINY


def test_sides_are_multiples_of_what_the_networks_halve():
    assert (factor(SD1), factor(SDXL), factor(TINY)) == (64, 32, 4)


@pytest.mark.parametrize("resolution, step", [(512, 64), (1024, 32), (128, 32)])
def test_buckets_have_at_most_the_area_of_the_resolution(resolution, step):
    found = bucket_sizes(resolution, step)
    assert (resolution, resolution) in found
    for height, width in found:
        assert height * width <= resolution**2 and height % step == width % step == 0
        assert (width, height) in found and max(height, width) <= 2 * resolution


def test_a_picture_goes_where_least_is_cut_off():
    assert fit((600, 600), 512, 64).bucket == (512, 512)
    assert fit((3000, 4000), 512, 64).bucket == (448, 576)
    assert fit((4000, 3000), 512, 64).bucket == (576, 448)
    assert fit((100, 5000), 512, 64).bucket == (256, 1024)  # the most that there is


def test_a_picture_covers_its_bucket_and_is_cut_on_both_sides():
    found = fit((1000, 2000), 512, 64)
    assert found.scaled == (352, 704) and found.bucket == (320, 704)
    assert (found.top, found.left) == (16, 0)
    assert found.size_ids == (1000, 2000, 16, 0, 320, 704)
    assert not found.is_enlarged


def test_a_small_picture_is_enlarged_to_its_bucket_and_no_further():
    assert fit((100, 100), 512, 64).scaled == (512, 512)
    assert fit((100, 100), 512, 64).is_enlarged
    small = fit((100, 300), 512, 64, upscale=False)
    assert small.bucket == (64, 256) and not small.is_enlarged
    assert fit((20, 20), 512, 64, upscale=False).bucket == (64, 64)


def test_of_several_resolutions_the_largest_that_is_filled():
    sides = (256, 512, 768)
    assert fit((2000, 2000), sides, 64).bucket == (768, 768)
    assert fit((600, 600), sides, 64).bucket == (512, 512)
    assert fit((100, 100), sides, 64).bucket == (256, 256)


def test_squares_alone():
    assert fit((600, 900), 512, 64, square=True).bucket == (512, 512)
    small = fit((100, 300), 512, 64, square=True, upscale=False)
    assert small.bucket == (64, 64)


def test_a_resolution_that_the_model_cannot_have():
    with pytest.raises(ValueError, match="multiple of 64.*example 512. Received: 500"):
        bucket_sizes(500, 64)


def test_pixels_and_masks_are_brought_alike():
    pixels = np.zeros((100, 200, 3), "uint8")
    pixels[:, 100:] = 255
    mask = (pixels[..., 0] / 255).astype("float32")
    to = fit((100, 200), 64, 32)
    found, learnt = brought(pixels, to), brought(mask, to)
    assert found.shape[:2] == learnt.shape == to.bucket
    assert abs(found[..., 0] / 255 - learnt).mean() < 0.02
    assert shrunk(learnt, 8).shape == (to.bucket[0] // 8, to.bucket[1] // 8, 1)
    assert shrunk(learnt, 8).mean() == pytest.approx(learnt.mean(), abs=1e-6)
