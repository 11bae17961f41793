import numpy as np
import pytest

from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling.samplers import make_table
from kerasdiffusion.sampling.table import COLUMNS, NUM_COLUMNS

SD1 = ScheduleConfig()


def test_columns_share_no_place():
    places = np.arange(NUM_COLUMNS)
    taken = np.concatenate([np.atleast_1d(places[column]) for column in COLUMNS])
    assert sorted(taken) == places.tolist()


def test_rows_are_the_values_in_float32():
    table = make_table(SD1, "lms", 6)
    assert table.rows.dtype == np.float32
    assert table.rows.shape == (len(table), NUM_COLUMNS) == (6, NUM_COLUMNS)
    assert table.rows == pytest.approx(table.values, rel=1e-6)


def test_padding_adds_zeros_up_to_the_capacity():
    table = make_table(SD1, "heun", 3)
    padded = table.padded(8)
    assert padded.dtype == np.float32
    assert (padded[:5] == table.rows).all()
    assert padded.shape == (8, NUM_COLUMNS)
    assert not padded[5:].any()
    assert (table.padded(5) == table.rows).all()


def test_noise_lies_at_the_rows_that_add_it():
    table = make_table(SD1, "euler_ancestral", 4)
    noise = np.random.default_rng(0).normal(size=(3, 2, 4, 4, 4)).astype(np.float32)
    placed = table.place_noise(noise, 6)
    assert placed.shape == (6, 2, 4, 4, 4)
    assert placed.dtype == np.float32
    assert table.noise_rows.tolist() == [0, 1, 2]
    assert (placed[:3] == noise).all()
    assert not placed[3:].any()


def test_what_does_not_fit_is_refused():
    table = make_table(SD1, "heun", 3)
    with pytest.raises(ValueError, match="at least the table's 5 rows. Received: 4"):
        table.padded(4)
    with pytest.raises(ValueError, match="takes 0 noises. Received: 2"):
        table.place_noise(np.zeros((2, 1, 4, 4, 4)), 8)
