"""Networks that follow pictures, with the peers' weights, against diffusers'."""

import dataclasses
import math

import keras
import numpy as np
import pytest

diffusers = pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")

from safetensors.numpy import load_file, save_file  # noqa: E402

from kerasdiffusion.compute.backend import Program, empty_weights  # noqa: E402
from kerasdiffusion.models.controlnet import ControlNet  # noqa: E402
from kerasdiffusion.models.diffusion_model import DiffusionModel  # noqa: E402
from kerasdiffusion.models.t2i_adapter import T2IAdapter  # noqa: E402
from kerasdiffusion.networks.control import control_network  # noqa: E402
from kerasdiffusion.presets import named  # noqa: E402
from kerasdiffusion.presets.config import ControlNetConfig, T2IAdapterConfig  # noqa: E402
from kerasdiffusion.tasks.conditioning import join_vector  # noqa: E402
from kerasdiffusion.weights import names  # noqa: E402
from kerasdiffusion.weights.controls import load_control  # noqa: E402
from kerasdiffusion.weights.load import load_weights  # noqa: E402
from kerasdiffusion.weights.unet_json import unet_from_json, unet_to_json  # noqa: E402
from tests.peers.families import ATTEND, SD2, THREE, XL, unet  # noqa: E402
from tests.peers.networks import (  # noqa: E402
    assert_same,
    channels_first,
    channels_last,
    values,
)

UNETS = {
    "sd1": unet(THREE, ATTEND, 32, layers_per_block=2),
    "sd2": unet(THREE, ATTEND, 40, **SD2),
    "sdxl": unet(THREE, (0, 1, 1), 72, **XL),
}
BLUE_FIRST = {"controlnet_conditioning_channel_order": "bgr"}
POOLED = {"global_pool_conditions": True}
ADAPTERS = {
    "full_adapter": {"channels": [16, 24, 32], "downscale_factor": 4},
    "full_adapter_xl": {"channels": [16, 24, 32, 32], "downscale_factor": 8},
    "light_adapter": {"channels": [16, 24], "downscale_factor": 4},
}


def random_peer(kind, folder, **arguments):
    """A network of diffusers' with random weights, saved by itself."""
    with torch.device("meta"):
        peer = kind(**arguments)
    peer.to_empty(device="cpu").eval()
    random = np.random.default_rng(0)
    with torch.no_grad():
        for path, tensor in peer.named_parameters():
            tensor.copy_(torch.from_numpy(values(random, path, tensor.shape)))
    peer.save_pretrained(folder)
    return peer


def controlnet(folder, family, **more):
    arguments = {k: v for k, v in UNETS[family].items() if k != "up_block_types"}
    widths = {"conditioning_embedding_out_channels": (8, 12, 20)}
    return random_peer(
        diffusers.ControlNetModel, folder, **{**arguments, **widths, **more}
    )


def inputs_of(config, height, width, factor):
    """Inputs for ours, and those that diffusers' take beside them."""
    random = np.random.default_rng(1)
    inputs = {
        "latents": random.normal(size=(2, height, width, 4)),
        "timestep": np.array([981.0, 7.25]),
        "crossattn": random.normal(size=(2, 9, config.context_width)),
        "picture": random.random((2, height * factor, width * factor, 3)),
    }
    inputs = {key: value.astype("float32") for key, value in inputs.items()}
    more = {}
    if config.vector_width:
        pooled = random.normal(size=(2, 24)).astype("float32")
        ids = np.array([[32, 48, 0, 0, 32, 48]] * 2, "float32")
        inputs["vector"] = join_vector(pooled, ids, 8)
        more["added_cond_kwargs"] = {
            "text_embeds": torch.from_numpy(pooled),
            "time_ids": torch.from_numpy(ids),
        }
    return inputs, more


def computed(network, inputs):
    outputs = Program(network, [network])(inputs)
    return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)


@pytest.mark.parametrize(
    "family, more",
    [
        pytest.param("sd1", {}, marks=pytest.mark.every_backend_at_length),
        ("sd2", BLUE_FIRST | POOLED),
    ],
)
def test_controlnets(family, more, tmp_path):
    """Latents of odd sizes, too."""
    peer = controlnet(tmp_path, family, **more)
    ours = control_network(tmp_path)
    inputs, told = inputs_of(ours.config, 6, 7, 4)
    with torch.no_grad():
        expected = peer(
            channels_first(inputs["latents"]),
            torch.from_numpy(inputs["timestep"]),
            torch.from_numpy(inputs["crossattn"]),
            channels_first(inputs["picture"]),
            **told,
        )
    expected = [*expected.down_block_res_samples, expected.mid_block_res_sample]
    found = computed(ours, inputs)["skips"]
    assert len(found) == len(expected) == len(ours.config.skip_widths) + 1
    for each, other in zip(found, expected, strict=True):
        assert_same(each, channels_last(other))


@pytest.mark.every_backend_at_length
@pytest.mark.parametrize("kind", ADAPTERS)
def test_t2i_adapters(kind, tmp_path):
    arguments = {"adapter_type": kind, "num_res_blocks": 2, **ADAPTERS[kind]}
    peer = random_peer(diffusers.T2IAdapter, tmp_path, **arguments)
    ours = control_network(tmp_path)
    # Features of odd sizes, too.
    picture = np.random.default_rng(1).random((2, 40, 56, 3)).astype("float32")
    with torch.no_grad():
        expected = peer(channels_first(picture))
    found = computed(ours, {"picture": picture})["features"]
    assert len(found) == len(expected) == len(ours.config.block_widths)
    for each, other in zip(found, expected, strict=True):
        assert_same(each, channels_last(other))


def test_the_unet_takes_what_they_give(tmp_path):
    """Residuals for each skip, and features for each level and, in SDXL, the middle."""
    peer = random_peer(diffusers.UNet2DConditionModel, tmp_path, **UNETS["sdxl"])
    config = unet_from_json(dict(peer.config))
    with empty_weights():
        ours = DiffusionModel(config)
    load_weights({"diffusion_model": ours}, tmp_path)
    inputs, told = inputs_of(config, 8, 12, 1)
    arguments = (
        channels_first(inputs["latents"]),
        torch.from_numpy(inputs["timestep"]),
        torch.from_numpy(inputs["crossattn"]),
    )
    random = np.random.default_rng(2)
    shapes = (2, 4, 6, 16), (2, 4, 6, 24), (2, 2, 3, 32), (2, 2, 3, 32)
    features = [random.normal(size=shape).astype("float32") for shape in shapes]
    factors = [1]
    for level in range(3):
        factors += [2**level] * config.blocks(level) + [2 ** (level + 1)] * (level < 2)
    residuals = [
        random.normal(size=(2, 8 // factor, 12 // factor, width)).astype("float32")
        for factor, width in zip([*factors, 4], [*config.skip_widths, 32], strict=True)
    ]
    with torch.no_grad():
        expected = peer(
            *arguments,
            down_block_additional_residuals=[
                channels_first(each) for each in residuals[:-1]
            ],
            mid_block_additional_residual=channels_first(residuals[-1]),
            down_intrablock_additional_residuals=[
                channels_first(each) for each in features
            ],
            **told,
        ).sample
        plain = peer(*arguments, **told).sample
    inputs["control"] = {"skips": residuals, "features": features}
    found = computed(ours, inputs)
    assert_same(found, channels_last(expected))
    assert (plain - expected).abs().max() > 0.1


def test_diffusers_reads_our_table_of_original_names(tmp_path):
    """The file has the names of lllyasviel's code."""
    # Whose converter counts on eight pixels to a latent.
    widths = {"conditioning_embedding_out_channels": (8, 12, 12, 20)}
    peer = controlnet(tmp_path / "folder", "sd1", **widths)
    ours = control_network(tmp_path / "folder")
    folder = load_file(tmp_path / "folder" / "diffusion_pytorch_model.safetensors")
    table = names.tensors("controlnet", ours.config)
    assert {tensor.name for tensor in table} == set(folder)
    path = tmp_path / "control_sd15_canny.safetensors"
    save_file({tensor.original: folder[tensor.name] for tensor in table}, path)
    again = diffusers.ControlNetModel.from_single_file(
        path, config=str(tmp_path / "folder")
    )
    for name, tensor in peer.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    with empty_weights():
        read = ControlNet(ours.config)
    load_control(read, path)
    for a, b in zip(ours.weights, read.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def count(part, config) -> int:
    return sum(math.prod(tensor.shape) for tensor in names.tensors(part, config))


def parameters(network) -> int:
    return sum(tensor.numel() for tensor in network.parameters())


# In millions: what the peers count.
@pytest.mark.parametrize(
    "name, millions", [("sd1.5", 361.28), ("sd2.1", 364.23), ("sdxl", 1251.01)]
)
def test_published_controlnets(name, millions):
    unet_config = named.PRESETS[name].config.diffusion_model
    config = ControlNetConfig(**dataclasses.asdict(unet_config))
    arguments = unet_to_json(unet_config)
    for key in ("up_block_types", "out_channels", "sample_size"):
        del arguments[key]
    with torch.device("meta"):
        peer = diffusers.ControlNetModel.from_config(arguments)
    table = {t.name: t.shape for t in names.tensors("controlnet", config)}
    shapes = {key: tuple(value.shape) for key, value in peer.state_dict().items()}
    assert table == shapes
    found = count("controlnet", config)
    assert found == parameters(peer)
    assert round(found / 1e6, 2) == millions


@pytest.mark.parametrize(
    "config, millions",
    [
        (T2IAdapterConfig(), 77.37),
        (T2IAdapterConfig("full_adapter_xl", downsampling=16), 79.03),
        (T2IAdapterConfig("light_adapter", blocks_per_level=4), 18.69),
    ],
)
def test_published_t2i_adapters(config, millions):
    light = config.kind == "light_adapter"
    with torch.device("meta"):
        peer = diffusers.T2IAdapter(
            in_channels=config.picture_channels,
            channels=list(config.block_widths[: 3 if light else 4]),
            num_res_blocks=config.blocks_per_level,
            downscale_factor=config.downsampling,
            adapter_type=config.kind,
        )
    table = {t.name: t.shape for t in names.tensors("t2i_adapter", config)}
    shapes = {key: tuple(value.shape) for key, value in peer.state_dict().items()}
    assert table == shapes
    found = count("t2i_adapter", config)
    assert found == parameters(peer)
    assert round(found / 1e6, 2) == millions


def test_our_networks_have_the_tensors_of_the_table():
    with empty_weights():
        adapter = T2IAdapter(T2IAdapterConfig(block_widths=(8, 8, 16), downsampling=2))
    found = {names.canonical_name(w.path, adapter.name) for w in adapter.weights}
    assert found == {t.name for t in names.tensors("t2i_adapter", adapter.config)}
