"""What the U-Net is told beside the text."""

from types import SimpleNamespace

import numpy as np
import pytest

from kerasdiffusion.presets.families import SDXL, SDXL_REFINER
from kerasdiffusion.presets.named import PRESETS
from kerasdiffusion.requests.arguments import (
    check_pooled,
    check_refiner,
    check_second,
    check_text_is_enough,
)
from kerasdiffusion.requests.request import Request
from kerasdiffusion.tasks.conditioning import (
    embed_guidance,
    handover_step,
    join_vector,
    size_ids,
)


def asked(**fields):
    return Request(task="text_to_image", prompt="x", **fields)


def test_a_size_is_cosines_before_sines_behind_the_pooled_text():
    vector = join_vector(np.full((1, 3), 7.0), [[2.0, 0.0]], id_width=4)
    waves = [np.cos(2.0), np.cos(0.02), np.sin(2.0), np.sin(0.02)]
    np.testing.assert_allclose(vector, [[7, 7, 7, *waves, 1, 1, 0, 0]], rtol=1e-6)
    assert vector.dtype == np.float32


def test_no_guidance_is_the_wave_of_zero():
    np.testing.assert_array_equal(embed_guidance([1.0], 6), [[0, 0, 0, 1, 1, 1]])


def test_the_base_is_told_three_sizes_and_the_refiner_a_score():
    request, plain = asked(original_size=(512, 768), crop=(4, 8)), asked()
    size = (1024, 960)
    ids = size_ids(SDXL, request, size, size, negative=False)
    assert ids == [512, 768, 4, 8, 1024, 960]
    assert size_ids(SDXL, plain, size, size, True) == [1024, 960, 0, 0, 1024, 960]
    assert size_ids(SDXL, plain, size, (8, 9), True) == [8, 9, 0, 0, 1024, 960]
    refiner = size_ids(SDXL_REFINER, request, size, size, negative=False)
    assert refiner == [512, 768, 4, 8, 6.0]
    assert size_ids(SDXL_REFINER, request, size, size, negative=True)[-1] == 2.5
    assert [SDXL.size_ids, SDXL_REFINER.size_ids, PRESETS["sd1.5"].config.size_ids] == [
        6,
        5,
        0,
    ]


@pytest.mark.parametrize(
    "fields", [{"crop": 3}, {"original_size": (1, 2, 3)}, {"target_size": (-1, 2)}]
)
def test_a_size_is_two_numbers(fields):
    with pytest.raises((TypeError, ValueError), match=f"`{next(iter(fields))}`"):
        asked(**fields)


def test_the_refiner_takes_over_at_a_share_of_the_noise_levels():
    timesteps = np.arange(951, 0, -50)
    assert handover_step(timesteps, 1000, 0.8) == 16
    assert handover_step(timesteps, 1000, 0.01) == 0
    for share in (0.0, 1.0, "half"):
        with pytest.raises(ValueError, match="`refiner_start` must be over 0 and"):
            handover_step(timesteps, 1000, share)


def test_says_what_is_no_refiner():
    def model(shape, scale):
        config = SimpleNamespace(autoencoder=SimpleNamespace(scale_factor=scale))
        return SimpleNamespace(diffusion_model=1, latent_shape=shape, config=config)

    base = model((8, 8, 4), 0.13)
    assert check_refiner(base, base) is base
    with pytest.raises(TypeError, match="must be a `StableDiffusion`. Received: 'x'"):
        check_refiner("x", base)
    for other in (model((8, 4, 4), 0.13), model((8, 8, 4), 0.18)):
        with pytest.raises(ValueError, match="must have the latents of the base"):
            check_refiner(other, base)


def test_second_prompts_and_pooled_text_are_one_for_all_or_one_each():
    assert check_second("a", ["x", "y"], "prompt_2") == [("x", "a"), ("y", "a")]
    with pytest.raises(ValueError, match="`prompt_2` must be one for all.*2 of them"):
        check_second(["a", "b"], ["x", "y", "z"], "prompt_2")
    with pytest.raises(ValueError, match="`negative_prompt_2` goes with prompts that"):
        check_second("a", [np.zeros((12, 72))], "negative_prompt_2")
    assert check_pooled(np.zeros(4), 2, 4).shape == (2, 4)
    with pytest.raises(ValueError, match=r"must have the shape \(4,\).*\(3, 4\)"):
        check_pooled(np.zeros((3, 4)), 2, 4)


def test_a_model_that_needs_a_picture_says_so():
    kinds = ("painting", "depth", "scaler", "pix2pix")
    needy = [name for name in PRESETS if name.endswith(kinds)]
    assert len(needy) == 6
    for name, preset in PRESETS.items():
        if name in needy:
            with pytest.raises(
                ValueError, match="paints from a picture beside.*[5789]"
            ):
                check_text_is_enough(preset.config)
        elif preset.config is not None:
            check_text_is_enough(preset.config)
