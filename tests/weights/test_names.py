"""Names and shapes, against those that the original code's own model has."""

import gzip
from pathlib import Path

import pytest

from kerasdiffusion.models.autoencoder import Decoder, ImageEncoder
from kerasdiffusion.models.diffusion_model import DiffusionModel
from kerasdiffusion.models.text_encoder import TextEncoder
from kerasdiffusion.presets.config import (
    AutoencoderConfig,
    DiffusionModelConfig,
    TextEncoderConfig,
)
from kerasdiffusion.presets.families import SD1
from kerasdiffusion.weights import names
from kerasdiffusion.weights.arrays import stored_shape

CONFIGS = {
    "text_encoder": SD1.text_encoder,
    "diffusion_model": SD1.diffusion_model,
    "image_encoder": SD1.autoencoder,
    "decoder": SD1.autoencoder,
}


def compvis():
    """Names and shapes of the state dict of CompVis' LatentDiffusion.

    Listed from the code itself (`ldm`, `configs/stable-diffusion/v1-inference.yaml`
    with `use_ema: True`, transformers 4.19.2 as its environment.yaml asks).
    """
    path = Path(__file__).parent / "data" / "compvis_v1.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    rows = (line.split(" ") for line in lines)
    return {
        name: tuple(int(n) for n in shape.split("x")) if shape else ()
        for name, shape in rows
    }


def original():
    return {
        tensor.original: tensor.original_shape
        for part, config in CONFIGS.items()
        for tensor in names.tensors(part, config)
    }


def test_the_original_file_has_these_tensors_and_no_others():
    there = {
        name: shape
        for name, shape in compvis().items()
        if not names.IGNORED.fullmatch(name)
    }
    assert original() == there


def test_the_moving_averages_have_these_names():
    averages = {name for name in compvis() if name.startswith("model_ema.")}
    table = names.tensors("diffusion_model", SD1.diffusion_model)
    expected = {names.ema_name(tensor.original) for tensor in table}
    assert averages == expected | {"model_ema.decay", "model_ema.num_updates"}


def test_only_constants_and_training_state_are_ignored():
    ignored = {
        name
        for name in compvis()
        if names.IGNORED.fullmatch(name) and not name.startswith("model_ema.")
    }
    assert len(ignored) == 13
    assert "cond_stage_model.transformer.text_model.embeddings.position_ids" in ignored
    assert not any("weight" in name or "bias" in name for name in ignored)


# Depths, widths and levels that no two of which agree.
GEOMETRIES = [
    (
        TextEncoder,
        TextEncoderConfig(vocabulary_size=99, width=24, depth=3, heads=2, mlp_width=40),
    ),
    (
        DiffusionModel,
        DiffusionModelConfig(
            in_channels=9,
            block_widths=(16, 32, 24),
            blocks_per_level=1,
            transformer_depths=(0, 2, 1),
            mid_transformer_depth=1,
            heads=(1, 2, 3),
            context_width=20,
            norm_groups=8,
        ),
    ),
    (
        DiffusionModel,
        DiffusionModelConfig(
            out_channels=3,
            block_widths=(32,),
            blocks_per_level=3,
            transformer_depths=(1,),
            heads=(4,),
            context_width=12,
            linear_projection=True,
        ),
    ),
    (ImageEncoder, AutoencoderConfig(block_widths=(8, 16, 16), norm_groups=4)),
    (
        Decoder,
        AutoencoderConfig(
            latent_channels=3, block_widths=(16, 8), blocks_per_level=1, norm_groups=4
        ),
    ),
]


@pytest.mark.every_backend_at_length
@pytest.mark.parametrize(("network", "config"), GEOMETRIES)
def test_the_networks_have_the_canonical_tensors(network, config):
    model = network(config)
    table = names.tensors(model.name, config)
    expected = {tensor.name: tensor.shape for tensor in table}
    found = {
        names.canonical_name(variable.path, model.name): stored_shape(variable)
        for variable in model.weights
    }
    assert found == expected


@pytest.mark.parametrize(
    ("name", "aliases"),
    [
        ("text_model.final_layer_norm.bias", ["final_layer_norm.bias"]),
        (
            "encoder.mid_block.attentions.0.to_q.weight",
            ["encoder.mid_block.attentions.0.query.weight"],
        ),
        (
            "decoder.mid_block.attentions.0.to_out.0.bias",
            ["decoder.mid_block.attentions.0.proj_attn.bias"],
        ),
        ("mid_block.attentions.0.proj_in.weight", []),
        ("decoder.mid_block.attentions.0.group_norm.weight", []),
    ],
)
def test_older_names_are_known(name, aliases):
    assert names.aliases(name) == aliases
