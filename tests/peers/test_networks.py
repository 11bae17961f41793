"""Each network against transformers' or diffusers', at two odd geometries."""

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from tests.peers.networks import Comparison, Ours, write_peers  # noqa: E402

# Three levels of three blocks, attention at the ends, two layers deep at the finest,
# dense projections, heads that differ.
DEEP = {
    "text": {
        "vocab_size": 99,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "max_position_embeddings": 11,
        "hidden_act": "gelu",
    },
    "unet": {
        "block_out_channels": (16, 24, 32),
        "layers_per_block": 3,
        "down_block_types": (
            "CrossAttnDownBlock2D",
            "DownBlock2D",
            "CrossAttnDownBlock2D",
        ),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"),
        "transformer_layers_per_block": [2, 1, 1],
        "attention_head_dim": [1, 3, 4],
        "cross_attention_dim": 48,
        "use_linear_projection": True,
        "norm_num_groups": 8,
    },
    "vae": {
        "block_out_channels": (8, 16, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "layers_per_block": 3,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "scaling_factor": 0.3,
    },
}
# Two levels of one block, attention at the lower alone, convolutions to project.
FLAT = {
    "text": {
        "vocab_size": 77,
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 7,
        "hidden_act": "quick_gelu",
    },
    "unet": {
        "in_channels": 5,
        "out_channels": 3,
        "block_out_channels": (12, 36),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 3,
        "cross_attention_dim": 24,
        "norm_num_groups": 6,
    },
    "vae": {
        "block_out_channels": (16, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "layers_per_block": 1,
        "latent_channels": 3,
        "norm_num_groups": 16,
    },
}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("flat", marks=pytest.mark.every_backend),
        pytest.param("deep", marks=pytest.mark.every_backend_at_length),
    ],
)
def both(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    peers = write_peers(folder, **{"deep": DEEP, "flat": FLAT}[request.param])
    return Comparison(peers, Ours(folder))


def test_text_encoder(both):
    both.text_encoder()


def test_diffusion_model(both):
    both.diffusion_model(13, 18)


@pytest.mark.parametrize(
    "height, width", [pytest.param(20, 36, marks=pytest.mark.heavy), (26, 14)]
)
def test_image_encoder(both, height, width):
    both.image_encoder(height, width)


def test_decoder(both):
    both.decoder(7, 5)
