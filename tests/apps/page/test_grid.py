"""Axes of grids, their cells, and sheets with labels."""

import numpy as np
import pytest

from kerasdiffusion.apps.page.grid import NONE, REPLACED, WEIGHT, axis, cells, sheet
from kerasdiffusion.apps.page.widgets import label_of
from kerasdiffusion.apps.server.errors import Refused

STEPS, SEED = label_of("num_steps"), label_of("seed")


def test_values_have_commas_between_and_ranges_are_written_out():
    assert axis(STEPS, "1, 2,4").values == ["1", "2", "4"]
    assert axis(SEED, "1-4").values == ["1", "2", "3", "4"]
    assert axis(SEED, "10-20 (3)").values == ["10", "15", "20"]
    assert axis(REPLACED, '"a, b", c').values == ["a, b", "c"]
    assert axis(SEED, "1-\u00b2, 3-x").values == ["1-\u00b2", "3-x"]
    assert axis(NONE, "") == ("", [""])


@pytest.mark.parametrize(
    "shown, text, rule",
    [
        ("Step", "1", "Did you mean Steps"),
        (STEPS, " ", "must have values"),
        (SEED, "1-100000", "fewer values"),
        (SEED, "1" * 2**18, "must have values"),
    ],
)
def test_wrong_axes_are_said(shown, text, rule):
    with pytest.raises(Refused, match=rule):
        axis(shown, text)


def test_cells_go_along_x_first():
    axes = [axis(STEPS, "1,2"), axis(REPLACED, "cat,dog"), axis(NONE, "")]
    found = cells({"prompt": "a cat", "seed": "1", "batch_size": 4}, axes)
    said = [(x.values["num_steps"], x.values["prompt"]) for x in found]
    assert said == [("1", "a cat"), ("2", "a cat"), ("1", "a dog"), ("2", "a dog")]
    assert all(x.values["batch_size"] == 1 for x in found)


def test_what_is_not_there_cannot_vary():
    nothing = axis(NONE, "")
    with pytest.raises(Refused, match="words of the prompt"):
        cells({"prompt": "a cat"}, [axis(REPLACED, "dog,cat"), nothing, nothing])
    with pytest.raises(Refused, match="There must be an adapter"):
        cells({}, [axis(WEIGHT, "0,1"), nothing, nothing])
    with pytest.raises(Refused, match="must be a number"):
        rows = {"adapters": [("ink", 1.0)]}
        cells(rows, [axis(WEIGHT, "much"), nothing, nothing])
    with pytest.raises(Refused, match="at most 64 pictures. Received: 81"):
        cells({}, [axis(SEED, "1-9"), axis(STEPS, "1-9"), nothing])


def test_a_sheet_has_each_picture_in_its_place_and_labels_beside():
    axes = [axis(STEPS, "1,2,3"), axis(SEED, "7,8"), axis(NONE, "")]
    pictures = [np.full((64, 96, 3), 20 * i, "uint8") for i in range(6)]
    (found,) = sheet(pictures, axes)
    top, left = found.shape[0] - 2 * 64, found.shape[1] - 3 * 96
    assert top > 0 and left > 0
    for i in range(6):
        row, column = divmod(i, 3)
        y, x = top + 64 * row, left + 96 * column
        np.testing.assert_array_equal(found[y : y + 64, x : x + 96], pictures[i])
    assert (found[:top] < 255).any() and (found[:, :left] < 255).any()
    assert len(sheet(pictures, [axes[0], axes[2], axis(SEED, "1,2")])) == 2
