"""Each network of Stable Diffusion 1, as large as it is, against the peers'."""

import os

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import torch  # noqa: E402

from kerasdiffusion.presets.families import SD1  # noqa: E402
from tests.peers.networks import Comparison, Ours, write_peers  # noqa: E402

pytestmark = [pytest.mark.full_size, pytest.mark.timeout(3600)]

TEXT = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
}
UNET = {
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
    "sample_size": 64,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 512,
}


@pytest.fixture(scope="module", autouse=True)
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sd1")
    return Comparison(write_peers(folder, TEXT, UNET, VAE), Ours(folder))


def test_the_configuration_is_stable_diffusion_1(both):
    assert both.ours.config.replace(tokenizer=SD1.tokenizer) == SD1


def test_parameters(both):
    counts = {part: net.count_params() for part, net in both.ours.parts.items()}
    assert counts["text_encoder"] == 123_060_480
    assert counts["diffusion_model"] == 859_520_964
    assert counts["image_encoder"] + counts["decoder"] == 83_653_863
    peers = {
        name: sum(tensor.numel() for tensor in peer.parameters())
        for name, peer in both.peers.items()
    }
    assert sorted(peers.values()) == [83_653_863, 123_060_480, 859_520_964]


def test_text_encoder(both):
    both.text_encoder()


def test_image_encoder(both):
    both.image_encoder(128, 192, batch=1)


def test_decoder(both):
    both.decoder(16, 24, batch=1)


@pytest.mark.parametrize("height, width", [(16, 24), (64, 64)])
def test_diffusion_model(both, height, width):
    both.diffusion_model(height, width, batch=1)
