"""Depth maps."""

import numpy as np
import pytest
from PIL import Image

from kerasdiffusion.pictures.depth_maps import estimate_depths, fit_depth, read_depths

RAMP = np.arange(64 * 48, dtype="float32").reshape(64, 48)


def test_a_map_is_a_file_a_picture_or_numbers(tmp_path):
    deep = Image.fromarray((RAMP * 20).astype("uint16"))  # more than 8 bits can tell
    deep.save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), deep, RAMP * 20):
        (found,) = read_depths(source)
        np.testing.assert_array_equal(found, RAMP * 20)
    grey = np.arange(256, dtype="uint8").reshape(16, 16)
    (found,) = read_depths(Image.fromarray(grey).convert("RGB"))
    np.testing.assert_allclose(found, grey, atol=1e-3)
    assert [each.shape for each in read_depths([RAMP, RAMP[None, ..., None]])] == [
        (64, 48)
    ] * 2


@pytest.mark.parametrize("size", [(64, 48), (37, 21), (3, 100), (8, 6), (200, 200)])
def test_a_map_is_brought_to_latents_as_in_pytorch(size):
    torch = pytest.importorskip("torch")
    depth = np.random.default_rng(0).normal(size=size).astype("float32")
    found = fit_depth(depth, (64, 48), (8, 6), 8)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(depth)[None, None],
        size=(8, 6),
        mode="bicubic",
        align_corners=False,
    )[0, 0].numpy()
    expected = 2.0 * (expected - expected.min()) / np.ptp(expected) - 1.0
    assert found.shape == (8, 6, 1) and found.dtype == np.float32
    np.testing.assert_allclose(found[..., 0], expected, atol=1e-5)


def test_a_map_stays_where_the_picture_is():
    """Latents that reach beyond the picture see its edge, not another scale."""
    depth = np.repeat(np.arange(60.0)[:, None], 60, axis=1)
    found = fit_depth(depth, (60, 60), (8, 8), 8)
    whole = fit_depth(np.pad(depth, ((0, 4), (0, 4)), "edge"), (64, 64), (8, 8), 8)
    np.testing.assert_allclose(found, whole, atol=1e-6)


def test_a_flat_map_is_in_the_middle():
    assert (fit_depth(np.full((9, 9), 3.0), (64, 64), (8, 8), 8) == 0.0).all()


class Estimator:
    """As KerasHub's: a batch in, a dict of maps out."""

    def predict(self, images, verbose):
        assert images.shape == (1, 16, 16, 3) and verbose == 0
        return {"depths": images[..., :1].astype("float32")}


def test_kerashubs_estimators_will_do():
    from kerasdiffusion.pictures.depth_maps import check_estimator

    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), "uint8")
    (found,) = estimate_depths(check_estimator(Estimator()), [picture])
    np.testing.assert_array_equal(found, picture[..., 0])
    with pytest.raises(ValueError, match="one map of one picture. Received: 2 maps"):
        estimate_depths(lambda picture: np.ones((2, 8, 8)), [picture])
