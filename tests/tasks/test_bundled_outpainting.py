"""What the page on outpainting says of the bundled model."""

import numpy as np
import pytest

from kerasdiffusion import StableDiffusion


@pytest.mark.heavy
def test_windows_that_see_enough_go_on_with_the_ground_alone():
    """No cuts, and nothing halved: all that is new is the ground."""
    model = StableDiffusion.from_preset("emoji")
    (apple,) = model.text_to_image("a red apple on a blue background", seed=7)
    ground = np.median(apple[:, :8].reshape(-1, 3), axis=0)
    new = {}
    for overlap in (None, 112):
        wide = model.outpaint(
            *(apple, "a blue background"), left=32, right=32, overlap=overlap, seed=1
        )[0]
        assert (wide[:, 32:160] == apple).all()
        sides = np.concatenate([wide[:, :32], wide[:, 160:]], axis=1).astype(float)
        new[overlap] = (np.abs(sides - ground).max(axis=-1) < 24).mean()
    assert new[112] > 0.97
