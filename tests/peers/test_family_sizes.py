"""Parameters of every family at its published size, against the peers', and known ones.

Nothing is allocated: ours are counted in the tables of names, which
`tests/weights/test_names.py` holds to the networks; the peers' on the meta device.
"""

import math

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import diffusers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

from kerasdiffusion.presets import families, named  # noqa: E402
from kerasdiffusion.weights import names  # noqa: E402
from kerasdiffusion.weights.configs import (  # noqa: E402
    text_encoder_to_json,
    vae_to_json,
)
from kerasdiffusion.weights.unet_json import unet_to_json  # noqa: E402

# In millions: what the original code prints as it starts, or papers state, as far as
# they do; for the rest what the peers count.
UNETS = {
    "sd1.5": 859.52,
    "sd1.5-inpainting": 859.54,
    "instruct-pix2pix": 859.53,
    "sd2.1": 865.91,
    "sd2-inpainting": 865.93,
    "sd2-depth": 865.91,
    "sd2-upscaler": 473.40,
    "sdxl": 2567.46,
    "sdxl-refiner": 2259.53,
    "sdxl-inpainting": 2567.48,
    "sd-turbo": 865.91,
    "sdxl-turbo": 2567.46,
    "lcm-dreamshaper": 859.60,
    "bk-sdm-base": 579.38,
    "bk-sdm-small": 482.35,
    "bk-sdm-tiny": 323.38,
    "ssd-1b": 1331.33,
    "vega": 745.23,
    "sdxl-lightning-4": 2567.46,
    "hyper-sdxl-1": 2567.46,
    "lcm-sdxl": 2567.55,
    "playground-2.5": 2567.46,
    "cosxl": 2567.46,
}


def count(part, config) -> int:
    return sum(math.prod(tensor.shape) for tensor in names.tensors(part, config))


def parameters(network) -> int:
    return sum(tensor.numel() for tensor in network.parameters())


@pytest.mark.parametrize("name", UNETS)
def test_diffusion_models(name):
    config = named.PRESETS[name].config.diffusion_model
    with torch.device("meta"):
        values = unet_to_json(config)
        peer = diffusers.UNet2DConditionModel.from_config(values)
    found = count("diffusion_model", config)
    assert found == parameters(peer)
    assert round(found / 1e6, 2) == UNETS[name]
    shapes = {name: tuple(value.shape) for name, value in peer.state_dict().items()}
    table = names.tensors("diffusion_model", config)
    assert {tensor.name: tensor.shape for tensor in table} == shapes


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (families.SD1.text_encoder, 123.06),
        (families.SD2.text_encoder, 340.39),
        (families.SDXL.text_encoder, 123.06),
        (families.SDXL.text_encoder_2, 694.66),
        (families.SDXL_REFINER.text_encoder, 694.66),
    ],
)
def test_text_encoders(config, millions):
    values = transformers.CLIPTextConfig(**text_encoder_to_json(config))
    kind = transformers.CLIPTextModel
    if config.projection_width:
        kind = transformers.CLIPTextModelWithProjection
    with torch.device("meta"):
        peer = kind(values)
    found = count("text_encoder", config)
    assert found == parameters(peer)
    assert round(found / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (families.SD1.autoencoder, 83.65),
        (families.SDXL.autoencoder, 83.65),
        (families.UPSCALER.autoencoder, 55.33),
        (families.TAESD, 2.45),
    ],
)
def test_autoencoders(config, millions):
    values = vae_to_json(config)
    kind = getattr(diffusers, values["_class_name"])
    with torch.device("meta"):
        peer = kind.from_config(values)
    found = count("image_encoder", config) + count("decoder", config)
    assert found == parameters(peer)
    assert round(found / 1e6, 2) == millions
