"""What a model is made of, or what else a file is, from names and shapes."""

import numpy as np
import pytest
import safetensors.numpy

from kerasdiffusion.presets.families import SD1
from kerasdiffusion.weights import WeightsError, names
from kerasdiffusion.weights.detect import detect
from kerasdiffusion.weights.layout import FIELDS
from kerasdiffusion.weights.load import load_weights, read_config
from tests.weights.geometries import NARROW, WIDE, networks

pytestmark = pytest.mark.every_backend


@pytest.fixture(scope="module")
def ours():
    return networks(NARROW)


class Shapes:
    """The names and shapes of a single file, with no file."""

    path, metadata = "shapes", {}

    def __init__(self, config):
        self.shapes = {
            tensor.original: tensor.original_shape
            for part, attribute in FIELDS.items()
            if part in config.parts
            for tensor in names.tensors(part, getattr(config, attribute))
        }

    def keys(self):
        return list(self.shapes)

    def shape(self, name):
        return self.shapes[name]


def test_detects_sd_1_from_names_and_shapes():
    assert detect(Shapes(SD1)) == SD1


@pytest.mark.parametrize("config", [WIDE, NARROW], ids=["wide", "narrow"])
def test_detects_any_geometry_as_far_as_shapes_show(config):
    """Heads, groups, activation and schedule leave no trace in shapes."""
    file = Shapes(config)
    found = detect(file)
    assert Shapes(found).shapes == file.shapes
    wide = config.diffusion_model.linear_projection  # heads are 64 wide since SD 2
    assert set(found.diffusion_model.heads) == {1 if wide else 8}


@pytest.mark.parametrize(
    ("tensors", "what"),
    [
        ({"joint_blocks.0.x_block.mlp.fc1.bias": np.zeros(1)}, "Diffusion 3"),
        ({"unet.mid_block.to_q.lora_A.weight": np.zeros(1)}, "a LoRA"),
        ({"time_embed.0.lora_up.weight": np.zeros(1)}, "a LoRA"),
        ({"down_blocks.0.motion_modules.0.norm.bias": np.zeros(1)}, "AnimateDiff"),
        ({"shared.weight": np.zeros(1)}, "a T5 text encoder"),
        ({"ip_adapter.1.to_k_ip.weight": np.zeros(1)}, "an IP-Adapter"),
        ({"lora_unet_down_blocks_0.alpha": np.zeros(1)}, "a LoRA"),
        ({"control_model.input_blocks.0.0.weight": np.zeros(1)}, "a ControlNet"),
        ({"double_blocks.0.img_attn.norm.key_norm.scale": np.zeros(1)}, "Flux"),
        ({"emb_params": np.zeros(1)}, "a textual-inversion embedding"),
        ({"single_transformer_blocks.0.norm.bias": np.zeros(1)}, "a Flux"),
        ({"transformer_blocks.0.attn.to_q.bias": np.zeros(1)}, "Diffusion 3, PixArt"),
        ({"adaln_single.linear.weight": np.zeros(1)}, "a diffusion transformer"),
        ({"model.1.sub.0.RDB1.conv1.0.bias": np.zeros(1)}, "ESRGAN"),
    ],
)
def test_says_what_else_a_file_is(tmp_path, ours, tensors, what):
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(WeightsError, match=what):
        read_config(path)
    with pytest.raises(WeightsError, match=what):
        load_weights(ours, path)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("decoder.conv_in.weight", "an autoencoder alone: pass it as `vae`"),
        ("text_model.embeddings.token_embedding.weight", "as `text_encoder`"),
        ("down_blocks.0.resnets.0.conv1.weight", "a U-Net alone"),
    ],
)
def test_a_part_alone_is_no_model(tmp_path, name, what):
    path = tmp_path / "part.safetensors"
    safetensors.numpy.save_file({name: np.zeros(1)}, path)
    with pytest.raises(WeightsError, match=what):
        read_config(path)


def test_a_file_of_nothing_that_is_known(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(1)}, path)
    rule = r"tensors model.diffusion_model.\*. Received: a and others in .*other.safe"
    with pytest.raises(WeightsError, match=rule):
        read_config(path)
