"""A batch depends on its number alone, so a resumed run sees what it would have."""

import numpy as np
import pytest

from kerasdiffusion.datasets import SceneConfig, SceneDataset
from kerasdiffusion.training.examples.data import LatentBatches, PictureBatches

SCENES = SceneConfig(objects=("red apple",), shapes=("circle",))


def test_pictures_are_float32_from_minus_one_to_one():
    data = PictureBatches(SceneDataset(SCENES, 32), batch_size=4, steps=3)
    (images,) = data[0]
    assert images.shape == (4, 32, 32, 3) and images.dtype == "float32"
    assert -1.0 <= images.min() < -0.3 and 0.3 < images.max() <= 1.0


def test_a_resumed_epoch_has_the_batches_of_an_uninterrupted_run():
    dataset = SceneDataset(SCENES, 16)
    through = PictureBatches(dataset, 2, steps=3)
    through.on_epoch_end()
    resumed = PictureBatches(dataset, 2, steps=3, first_epoch=1)
    np.testing.assert_array_equal(through[2][0], resumed[2][0])
    assert not np.array_equal(PictureBatches(dataset, 2, steps=3)[2][0], resumed[2][0])


def test_a_crop_is_a_piece_of_the_picture():
    dataset = SceneDataset(SCENES, 32)
    (crops,) = PictureBatches(dataset, 2, crop=16, steps=2)[0]
    assert crops.shape == (2, 16, 16, 3)
    whole = dataset.batch(0, 1)[0][0].astype("float32") / 127.5 - 1.0
    windows = np.lib.stride_tricks.sliding_window_view(whole, (16, 16, 3))
    assert (windows == crops[0]).all(axis=(-1, -2, -3)).any()


@pytest.fixture
def cache():
    """Ten samples, each of them full of its own number."""
    numbers = np.arange(10)
    latents = np.broadcast_to(numbers[:, None, None, None], (10, 2, 2, 1))
    return latents.astype("float16"), numbers[:, None].astype("int32")


def test_a_pass_over_the_cache_sees_every_sample_once(cache):
    data = LatentBatches(*cache, batch_size=5, steps=2)
    seen = np.concatenate([data[i][0]["tokens"][:, 0] for i in range(2)])
    assert sorted(seen) == list(range(10))


def test_passes_differ_and_repeat_by_seed(cache):
    def order(seed, number):
        data = LatentBatches(*cache, batch_size=5, seed=seed, steps=8)
        return list(data.batch(number)["tokens"][:, 0])

    assert order(0, 3) == order(0, 3)
    assert [order(0, i) for i in range(4)] != [order(1, i) for i in range(4)]
    assert (order(0, 0), order(0, 1)) != (order(0, 2), order(0, 3))


def test_latents_stay_with_their_tokens(cache):
    (batch,) = LatentBatches(*cache, batch_size=4, steps=2)[1]
    np.testing.assert_array_equal(batch["latents"][:, 0, 0, 0], batch["tokens"][:, 0])
    assert batch["latents"].dtype == "float32"
