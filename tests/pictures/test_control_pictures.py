"""Edges and depth, as networks were trained to see them."""

import sys
import types

import numpy as np
import pytest

from kerasdiffusion.pictures.control_pictures import (
    OF_LINES,
    canny_edges,
    check_lines,
    depth_picture,
)
from kerasdiffusion.presets.controls import CONTROLS, kind_of

SQUARE = np.zeros((64, 48, 3), np.uint8)
SQUARE[16:48, 12:36] = 255


def test_edges_are_opencvs():
    cv2 = pytest.importorskip("cv2")
    random = np.random.default_rng(0)
    picture = cv2.GaussianBlur(
        random.integers(0, 256, (64, 48, 3), np.uint8), (9, 9), 3
    )
    for low, high in ((100, 200), (10, 20)):
        found = canny_edges(picture, low, high)
        assert found.dtype == np.uint8 and found.shape == (64, 48, 3)
        assert (found == cv2.Canny(picture, low, high)[..., None]).all()
    assert set(np.unique(found)) == {0, 255}


def test_edges_lie_where_colours_change():
    pytest.importorskip("cv2")
    rows, columns, _ = np.nonzero(canny_edges(SQUARE))
    assert {rows.min(), rows.max()} <= {15, 16, 47, 48}
    assert {columns.min(), columns.max()} <= {11, 12, 35, 36}


def test_without_opencv_it_is_scikit_image_and_without_both_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match="opencv-python-headless.*scikit-image"):
        canny_edges(SQUARE)

    def canny(grey, low_threshold, high_threshold):
        assert (low_threshold, high_threshold) == (0.2, 0.4)
        return grey > 0.5

    skimage = types.ModuleType("skimage")
    skimage.feature = types.SimpleNamespace(canny=canny)
    skimage.color = types.SimpleNamespace(rgb2gray=lambda x: x.mean(-1) / 255.0)
    monkeypatch.setitem(sys.modules, "skimage", skimage)
    assert (canny_edges(SQUARE, 51, 102) == SQUARE).all()


def test_what_is_near_is_white():
    def estimator(picture):
        assert picture.dtype == np.uint8
        return np.linspace(3.0, 7.0, 64)[:, None] + np.zeros(48)

    found = depth_picture(SQUARE, estimator)
    assert found.shape == (64, 48, 3) and found.dtype == np.uint8
    assert (found[0] == 0).all() and (found[-1] == 255).all()
    assert (np.diff(found[:, 0, 0].astype(int)) > 0).all()


def test_an_estimator_may_be_keras_hubs_and_of_another_size():
    class Estimator:
        def predict(self, pictures, verbose):
            assert pictures.shape == (1, 64, 48, 3)
            return {"depths": pictures[:, ::2, ::2, :1] / 255.0}

    found = depth_picture(SQUARE, Estimator())
    assert found.shape == (64, 48, 3)
    assert (found[20:44, 16:32] == 255).all() and (found[:8] == 0).all()


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: canny_edges(SQUARE, 200, 100), ValueError, "low=200, high=100"),
        (lambda: canny_edges(SQUARE, "1"), TypeError, "must be numbers. Received: '1'"),
        (lambda: canny_edges([SQUARE] * 2), ValueError, "one picture. Received: 2"),
        (lambda: depth_picture(SQUARE, 5), TypeError, "a function of a picture.*: 5"),
        (
            lambda: depth_picture(SQUARE, lambda picture: np.zeros(3)),
            ValueError,
            r"shape \(height, width\). Received: an array of shape \(3,\)",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


class TestLines:
    """Lines on white paper are nearly all line to a network of white lines on black."""

    PAPER = np.full((64, 64, 3), 255, np.uint8)
    PAPER[30:34] = 0

    @pytest.mark.parametrize("kind", ["scribble", "canny", "t2i-sketch", "lineart"])
    def test_paper_is_refused_with_a_way_that_works(self, kind):
        with pytest.raises(ValueError, match="give `255 - picture`.*94% white"):
            check_lines([self.PAPER], kind)
        check_lines([255 - self.PAPER], kind)

    @pytest.mark.parametrize("kind", ["depth", "tile", "seg", None])
    def test_others_may_be_as_white_as_they_like(self, kind):
        check_lines([self.PAPER], kind)

    def test_a_network_is_known_by_any_of_its_names(self):
        for name in ("hed", "lllyasviel/sd-controlnet-hed", "sd-controlnet-hed"):
            assert kind_of(name) == "hed"
        assert kind_of("hf://lllyasviel/sd-controlnet-hed") == "hed"
        assert kind_of("hf://someone/else") is None and kind_of(object()) is None

    def test_every_kind_of_lines_is_in_the_table_of_networks(self):
        assert OF_LINES <= set(CONTROLS)
