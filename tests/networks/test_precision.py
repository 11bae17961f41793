"""Values beyond float16, which `auto` takes on GPUs before Ampere."""

from dataclasses import replace

import numpy as np
import pytest

from kerasdiffusion.networks.parts import precision_of
from tests.tiny import TINY, TINY_SDXL, TINY_UPSCALER, tiny_model

HALF = ("float16", "mixed_float16")
LATENTS = np.random.default_rng(0).normal(size=(1, 16, 16, 4)).astype("float32")
#: float16 ends at 65504.
LOUD = 1e6


def loud_model(config=TINY_SDXL, precision="float32", **options):
    """A model whose autoencoder has inner values beyond float16, but one that is told.

    The first convolutions are louder, and the group norms behind take it back.
    """
    autoencoder = replace(config.autoencoder, force_upcast=True)
    config = config.replace(autoencoder=autoencoder)
    model = tiny_model(config=config, precision=precision, **options)
    for first in (model.decoder.decoder.conv_in, model.image_encoder.encoder.conv_in):
        for variable in first.weights:
            variable.assign(LOUD * variable.value)
    return model


@pytest.mark.every_backend
@pytest.mark.parametrize("precision", ["bfloat16", *HALF])
def test_an_autoencoder_that_says_so_computes_in_float32(precision):
    expected = loud_model().decode_latents(LATENTS).astype(int)
    assert expected.std() > 20
    model = loud_model(precision=precision)
    found = model.decode_latents(LATENTS).astype(int)
    most = 0 if precision in HALF else 12
    assert np.abs(found - expected).mean() <= most
    assert model.diffusion_model.compute_dtype == precision.removeprefix("mixed_")


def test_where_it_is_heeded():
    def found(config, said=True, part="decoder", precision="float16"):
        autoencoder = replace(config.autoencoder, force_upcast=said)
        return precision_of(part, config.replace(autoencoder=autoencoder), precision)

    assert found(TINY_SDXL) == found(TINY_UPSCALER) == "float32"
    # Pipelines of Stable Diffusion 1 and 2 pass by it: most of their files say it.
    assert found(TINY) == found(TINY_SDXL, said=False) == "float16"
    assert found(TINY_SDXL, part="diffusion_model") == "float16"
    assert found(TINY_SDXL, precision="bfloat16") == "bfloat16"
    assert found(TINY_SDXL, precision="mixed_float16") == "float32"
