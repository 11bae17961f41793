import numpy as np
import pytest

from kerasdiffusion.sampling.noise import (
    RNGS,
    initial_noise,
    resolve_seeds,
    step_noise,
)

SHAPE = (8, 6, 4)


def test_an_image_has_the_same_noise_in_any_batch():
    alone = initial_noise([11], SHAPE)
    batch = initial_noise([3, 11, 5], SHAPE)
    assert alone.shape == (1, *SHAPE)
    assert batch.dtype == np.float32
    assert (batch[1] == alone[0]).all()
    assert (
        step_noise([3, 11], 4, SHAPE)[:, 1] == step_noise([11], 4, SHAPE)[:, 0]
    ).all()


def test_more_steps_begin_with_the_same_noise():
    few, many = step_noise([7, 8], 3, SHAPE), step_noise([7, 8], 9, SHAPE)
    assert few.shape == (3, 2, *SHAPE)
    assert few.dtype == np.float32
    assert (many[:3] == few).all()
    assert step_noise([7, 8], 0, SHAPE).shape == (0, 2, *SHAPE)


def test_noise_is_normal_and_without_correlation():
    shape = (64, 64, 4)
    draws = np.concatenate(
        [initial_noise([0, 1, 2**64 - 1], shape), step_noise([0], 2, shape)[:, 0]]
    )
    draws = draws.reshape(5, -1).astype(np.float64)
    assert np.cov(draws) == pytest.approx(np.eye(5), abs=0.04)
    assert draws.mean(axis=1) == pytest.approx(0, abs=0.03)
    # The share of a normal distribution within one deviation.
    assert (abs(draws) < 1).mean() == pytest.approx(0.6827, abs=0.005)


def test_seeds_of_a_batch():
    assert resolve_seeds(5, 3) == [5, 6, 7]
    assert resolve_seeds(np.int64(5), 1) == [5]
    assert resolve_seeds([9, 1, 9], 3) == [9, 1, 9]
    assert resolve_seeds(np.array([4, 2]), 2) == [4, 2]
    assert resolve_seeds(2**64 - 1, 1) == [2**64 - 1]


def test_without_a_seed_each_call_draws_its_own():
    first, second = resolve_seeds(None, 4), resolve_seeds(None, 4)
    assert first != second
    assert first == list(range(first[0], first[0] + 4))


@pytest.mark.parametrize(
    "seed, error, message",
    [
        (-1, ValueError, "from 0 to 2\\*\\*64 - 1. Received: -1"),
        (2**64, ValueError, "Received: 18446744073709551616"),
        (2**64 - 1, ValueError, "Received: 18446744073709551616"),
        ([1, -2], ValueError, "Received: -2"),
        ([1, 2, 3], ValueError, "for each of the 2 images. Received: 3 values"),
        ([], ValueError, "for each of the 2 images. Received: 0 values"),
        (1.5, TypeError, "must be a whole number .* Received: 1.5"),
        (True, TypeError, "Received: True"),
        ("7", TypeError, "Received: '7'"),
        ([1, None], TypeError, "Received: None"),
    ],
)
def test_seeds_that_are_refused(seed, error, message):
    with pytest.raises(error, match=message):
        resolve_seeds(seed, 2)


@pytest.mark.parametrize("rng", RNGS)
def test_every_generator_gives_an_image_its_own_noise(rng):
    alone = initial_noise([11], SHAPE, rng)
    batch = initial_noise([3, 11], SHAPE, rng)
    assert batch.dtype == np.float32 and batch.shape == (2, *SHAPE)
    assert (batch[1] == alone[0]).all()
    steps = step_noise([3, 11], 3, SHAPE, rng)
    assert steps.shape == (3, 2, *SHAPE) and steps.dtype == np.float32
    assert (steps[:2] == step_noise([3, 11], 2, SHAPE, rng)).all()
    assert not (steps[0] == batch).any()


@pytest.mark.parametrize(
    "drawn, within, of",
    [
        ((4, 6), np.s_[2:6, 1:7], np.s_[:, :]),
        ((5, 8), np.s_[1:6, :], np.s_[:, :]),
        ((12, 4), np.s_[:, 2:6], np.s_[2:10, :]),
        ((11, 9), np.s_[0:7, 0:7], np.s_[2:9, 1:8]),  # odd ones lose a row
    ],
)
def test_noise_of_another_size_lies_in_the_middle(drawn, within, of):
    """As `ImageRNG.first` of AUTOMATIC1111's web UI lays it there."""
    whole, seeds = (8, 8, 4), [3, 11]
    expected = initial_noise(seeds, whole, "torch-cuda")
    other = initial_noise(seeds, (*drawn, 4), "torch-cuda", [5, 6], 0.25)
    expected[(slice(None), *within)] = other[(slice(None), *of)]
    found = initial_noise(seeds, whole, "torch-cuda", [5, 6], 0.25, drawn=drawn)
    np.testing.assert_array_equal(found, expected)


def test_a_variation_lies_between_two_seeds():
    one, other = initial_noise([1], SHAPE), initial_noise([2], SHAPE)
    assert (initial_noise([1], SHAPE, "numpy", [2], 0.0) == one).all()
    near = initial_noise([1], SHAPE, "numpy", [2], 0.1)
    assert np.corrcoef(near.ravel(), one.ravel())[0, 1] > 0.95
    assert initial_noise([1], SHAPE, "numpy", [2], 1.0) == pytest.approx(
        other, abs=1e-5
    )


def test_unknown_generators_are_refused():
    with pytest.raises(ValueError, match="`rng` .* Did you mean torch.*'torhc'"):
        initial_noise([1], SHAPE, "torhc")


def test_where_no_seed_is_given_kerass_own_counts():
    import keras

    found = []
    for _ in range(2):
        keras.utils.set_random_seed(7)
        found.append(resolve_seeds(None, 2))
    assert found[0] == found[1] and found[0][1] == found[0][0] + 1
    assert resolve_seeds(None, 2) != found[0]
