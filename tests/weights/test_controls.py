"""ControlNets and T2I-Adapters in files, by the names that the original code gives."""

import dataclasses
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from kerasdiffusion.compute import backend
from kerasdiffusion.models.t2i_adapter import T2IAdapter
from kerasdiffusion.presets import named
from kerasdiffusion.presets.config import ControlNetConfig, T2IAdapterConfig
from kerasdiffusion.weights import WeightsError, names
from kerasdiffusion.weights.base import TensorFile
from kerasdiffusion.weights.controls import (
    detect_control,
    load_control,
    read_control_config,
)
from kerasdiffusion.weights.load import read_config

DATA = Path(__file__).parent / "data"
SD1 = ControlNetConfig()
ADAPTERS = {
    "full_adapter": T2IAdapterConfig(),
    "full_adapter_xl": T2IAdapterConfig("full_adapter_xl", downsampling=16),
    "light_adapter": T2IAdapterConfig("light_adapter", blocks_per_level=4),
}
SMALL = T2IAdapterConfig(block_widths=(8, 8, 16), downsampling=2)


def shapes_in(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of state dicts, listed from the original code itself.

    `cldm_control_v1`: lllyasviel/ControlNet, `models/cldm_v15.yaml`; `t2i_adapters`:
    TencentARC/T2I-Adapter, as its `train_depth.py` and its XL's configuration say.
    """
    lines = gzip.decompress((DATA / f"{name}.txt.gz").read_bytes()).decode()
    rows = (line.rsplit(" ", 1) for line in lines.splitlines())
    return {key: tuple(map(int, shape.split("x"))) for key, shape in rows}


def adapter_shapes(kind: str) -> dict[str, tuple[int, ...]]:
    rows = shapes_in("t2i_adapters").items()
    rows = ((*key.split(" "), shape) for key, shape in rows)
    return {key: shape for own, key, shape in rows if own == kind}


class Listed(TensorFile):
    """A file of which only names and shapes are asked."""

    def __init__(self, shapes, name="file.safetensors"):
        super().__init__(Path(name))
        self.shapes = shapes

    def keys(self):
        return list(self.shapes)

    def shape(self, name):
        return self.shapes[name]


def canonical(part, config):
    return {tensor.name: tensor.shape for tensor in names.tensors(part, config)}


def test_the_original_controlnet_has_these_tensors_and_no_others():
    found = {t.original: t.original_shape for t in names.tensors("controlnet", SD1)}
    assert found == shapes_in("cldm_control_v1")


@pytest.mark.parametrize("kind", ADAPTERS)
def test_the_original_adapters_have_these_tensors_and_no_others(kind):
    table = names.tensors("t2i_adapter", ADAPTERS[kind])
    assert {t.original: t.original_shape for t in table} == adapter_shapes(kind)


def test_original_files_are_known_by_their_keys_and_shapes():
    shapes = shapes_in("cldm_control_v1")
    assert detect_control(Listed(shapes)) == SD1
    bare = {key.removeprefix("control_model."): shape for key, shape in shapes.items()}
    assert detect_control(Listed(bare)) == SD1
    # Those of version 1.0 hold all of Stable Diffusion.
    whole = {
        t.original: t.shape for t in names.tensors("decoder", named.SD1.autoencoder)
    }
    assert detect_control(Listed(shapes | whole)) == SD1
    shuffle = Listed(shapes, "control_v11e_sd15_shuffle.pth")
    assert detect_control(shuffle) == dataclasses.replace(SD1, pooled=True)
    for kind, config in ADAPTERS.items():
        assert detect_control(Listed(adapter_shapes(kind))) == config


@pytest.mark.parametrize("name", ["sd1.5", "sd2.1", "sdxl"])
def test_diffusers_files_are_known_by_their_keys_and_shapes(name):
    network = named.PRESETS[name].config.diffusion_model
    config = ControlNetConfig(**dataclasses.asdict(network))
    assert detect_control(Listed(canonical("controlnet", config))) == config
    small = dataclasses.replace(
        config,
        transformer_depths=(0,) * len(config.block_widths),
        mid_transformer_depth=0,
    )
    if name == "sdxl":  # as diffusers/controlnet-canny-sdxl-1.0-small
        assert detect_control(Listed(canonical("controlnet", small))) == small


@pytest.mark.parametrize("kind", ADAPTERS)
def test_diffusers_adapters_are_known_by_their_keys_and_shapes(kind):
    config = dataclasses.replace(ADAPTERS[kind], picture_channels=1)
    assert detect_control(Listed(canonical("t2i_adapter", config))) == config


@pytest.mark.parametrize(
    "key, what",
    [
        ("lora_controlnet", "a Control-LoRA"),
        ("lllite_unet_input_blocks.down.0.weight", "a ControlNet-LLLite"),
        ("transformer_blocks.0.norm.weight", "of another family"),
        ("encoder.conv_in.weight", "must hold a ControlNet .* encoder.conv_in.weight"),
    ],
)
def test_strange_files_are_refused(key, what):
    with pytest.raises(WeightsError, match=f"{what}.*file.safetensors"):
        detect_control(Listed({key: (8,)}))


def adapter(seed=None):
    with backend.empty_weights():
        network = T2IAdapter(SMALL)
    if seed is not None:
        random = np.random.default_rng(seed)
        for variable in network.weights:
            variable.assign(random.normal(size=variable.shape))
    return network


def tensors_of(network, original=False):
    """Its weights under the names of a file, in PyTorch's order."""
    from kerasdiffusion.weights.arrays import to_stored

    table = {t.name: t for t in names.tensors("t2i_adapter", network.config)}
    found = {}
    for variable in network.weights:
        name = names.canonical_name(variable.path, network.name)
        found[table[name].original if original else name] = to_stored(variable)
    return found


@pytest.mark.parametrize("original", [True, False])
def test_either_layout_is_read(original, tmp_path):
    network, path = adapter(0), tmp_path / "adapter.safetensors"
    save_file(tensors_of(network, original), path)
    assert read_control_config(path) == SMALL
    again = adapter()
    load_control(again, path)
    for a, b in zip(network.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("original", [True, False])
def test_as_a_model_they_are_refused(original, tmp_path):
    path = tmp_path / "adapter.safetensors"
    save_file(tensors_of(adapter(0), original), path)
    with pytest.raises(
        WeightsError, match=r"T2I-Adapter, to be passed as `control=Con"
    ):
        read_config(path)


def test_weights_are_read_all_or_nothing(tmp_path):
    network, path = adapter(0), tmp_path / "adapter.safetensors"
    tensors = tensors_of(network)
    del tensors["adapter.body.0.resnets.1.block2.bias"]
    save_file(tensors, path)
    before = [np.array(variable) for variable in network.weights]
    with pytest.raises(WeightsError, match="1 missing .*body.0.resnets.1.block2.bias"):
        load_control(network, path)
    for a, b in zip(before, network.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"_class_name": "UNet2DConditionModel"}, "ControlNetModel or a T2IAdapter"),
        ({"_class_name": "ControlNetModel", "act_fn": "gelu"}, "'act_fn'"),
        (
            {
                "_class_name": "ControlNetModel",
                "controlnet_conditioning_channel_order": "grb",
            },
            "'controlnet_conditioning_channel_order'.*'grb'",
        ),
        ({"_class_name": "T2IAdapter", "adapter_type": "style"}, "'adapter_type'"),
        ({"_class_name": "T2IAdapter", "new": 1}, "'new' has a value that is not"),
    ],
)
def test_strange_folders_are_refused(values, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(WeightsError, match=message):
        read_control_config(tmp_path)


def test_a_folder_without_weights_says_so(tmp_path):
    with pytest.raises(WeightsError, match="must hold diffusion_pytorch_model"):
        load_control(adapter(), tmp_path)
