"""Files for other models, of other kinds, and broken ones: one clear error for each."""

import numpy as np
import pytest

from kerasdiffusion.adapters.read import read_adapter
from kerasdiffusion.adapters.settings import METADATA_KEY
from kerasdiffusion.adapters.telling import describe_file
from kerasdiffusion.presets import families
from kerasdiffusion.weights.base import WeightsError
from tests.adapters import files
from tests.adapters.test_read import TEXT_Q, Q, flat, pair, shapes_of
from tests.tiny import TINY


@pytest.mark.parametrize(
    "theirs, name",
    [
        (families.SDXL, "SDXL"),
        (families.SD2, "Stable Diffusion 2"),
        (families.SDXL_REFINER, "SDXL's refiner"),
    ],
)
def test_files_for_another_family_say_for_which(theirs, name, tmp_path):
    shapes = shapes_of(theirs, sgm=name == "SDXL")
    some = {
        key: np.zeros(shape, "float16") for key, shape in list(shapes.items())[:300]
    }
    path = files.save(tmp_path, "other", some)
    match = f"The adapter is for {name}, and the model is Stable Diffusion 1"
    with pytest.raises(WeightsError, match=match):
        read_adapter(path, families.SD1)


@pytest.mark.parametrize(
    "key, match",
    [
        ("lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight", "is for Flux"),
        ("transformer.transformer_blocks.0.attn.to_q.lora_A.weight", "Diffusion 3"),
        ("model.layers.0.self_attn.q_proj.lora_A.weight", "a language model"),
        ("lora_unet_conv_in.q_layer.weight", "T-LoRA"),
        ("lora_unet_conv_in.set_weight", "another shape or value"),
        ("base_model.model.conv_in.hra_u", "of a kind of PEFT's"),
        ("base_model.model.conv_in.lora_E.default", "of a kind of PEFT's"),
        ("base_model.model.conv_in.vera_lambda_b.default", "of a kind of PEFT's"),
        ("base_model.model.conv_norm_out.ln_tuning_layers.weight", "kind of PEFT's"),
        ("lora_controlnet", "is for Control-LoRA"),
        ("lllite_unet_input_blocks_1_1.down.0.weight", "ControlNet-LLLite"),
        ("controlnet_down_blocks.0.lora_A.weight", "control_network"),
        ("nothing.that.means.anything", "none of its 1 names means one"),
    ],
)
def test_strangers_are_named(key, match, tmp_path):
    path = files.save(tmp_path, "x", {key: np.zeros((4, 4), "float32")})
    with pytest.raises(WeightsError, match=match):
        read_adapter(path, TINY)


def test_a_textual_inversion_is_no_adapter(tmp_path):
    path = files.save(tmp_path, "x", {"<cat>": np.zeros((2, 32), "float32")})
    with pytest.raises(WeightsError, match="--embedding, reads it. Received: <cat> in"):
        read_adapter(path, TINY)


FLUX = "lora_unet_double_blocks_0_img_attn_proj"


@pytest.mark.parametrize("config", [families.SD1, families.SDXL])
def test_a_text_encoder_that_others_have_too_is_not_taken_for_a_half(config, tmp_path):
    """Flux and Stable Diffusion 3 have CLIP's, whose layers fit by name and size."""
    stem = f"lora_te1_{flat(TEXT_Q)}"
    tensors = {
        f"{FLUX}.lora_up.weight": np.zeros((3072, 4), "float32"),
        f"{FLUX}.lora_down.weight": np.zeros((4, 3072), "float32"),
        f"{stem}.lora_up.weight": np.zeros((768, 4), "float32"),
        f"{stem}.lora_down.weight": np.zeros((4, 768), "float32"),
    }
    path = files.save(tmp_path, "x", tensors)
    with pytest.raises(WeightsError, match="is for Flux, and the model is"):
        read_adapter(path, config)
    assert describe_file(path)["for"] == "Flux"


def broken(**changed):
    stem = f"lora_unet_{flat(Q)}"
    tensors = {
        f"{stem}.lora_up.weight": pair()["up"],
        f"{stem}.lora_down.weight": pair()["down"],
        f"{stem}.alpha": np.ones((), "float32"),
    }
    for name, value in changed.items():
        key = f"{stem}.{name.replace('__', '.')}"
        tensors.pop(key, None)
        if value is not None:
            tensors[key] = value
    return tensors


@pytest.mark.parametrize(
    "changed, match",
    [
        ({"lora_up__weight": np.zeros((32, 0), "float32"),
          "lora_down__weight": np.zeros((0, 32), "float32")}, "rank must be 1 or more"),
        ({"lora_up__weight": np.full((32, 4), np.nan, "float32")}, "must be finite"),
        ({"alpha": np.array(np.inf, "float32")}, "must be finite"),
        ({"alpha": np.array(1e30, "float32")}, "alpha over rank must be a number"),
        ({"alpha": np.zeros(2, "float32")}, "Alpha must be one number"),
        ({"lora_up__weight": np.zeros((31, 4), "float32")}, "does not fit"),
        ({"lora_up__weight": np.zeros((32, 5), "float32")}, "ranks of up"),
        ({"lora_up__weight": None}, "has down without up"),
        ({"lora_down__weight": None}, "has up without down"),
        ({"lora_up__weight": np.zeros(32, "float32")}, "must be matrices"),
        ({"lora_up__weight": np.zeros((32, 4), "bool")}, "must be floats"),
        ({"dora_scale": np.zeros((7, 1), "float32")}, "neither the outputs nor the"),
        ({"lora_mid__weight": np.zeros((3, 3, 1, 1), "float32")}, "the core"),
    ],
    ids=str,
)  # fmt: skip
def test_broken_files_have_one_clear_error(changed, match, tmp_path):
    path = files.save(tmp_path, "x", broken(**changed))
    with pytest.raises(WeightsError, match=match):
        read_adapter(path, TINY)


def test_one_tensor_twice_and_broken_settings(tmp_path):
    twice = broken()
    twice[f"unet.{Q}.lora.up.weight"] = pair()["up"]
    with pytest.raises(WeightsError, match="one tensor twice"):
        read_adapter(files.save(tmp_path, "x", twice), TINY)
    for text, match in (
        ("[" * 10**4, "JSON text"),
        ('{"r": "x"}', "a number as rank"),
        ('{"r": 4, "use_qalora": true}', "QALoRA.*merge_and_unload"),
        ('{"r": 4, "modules_to_save": ["conv_in"]}', "whole layers"),
        ('{"r": 4, "bias": "all"}', "biases that were trained"),
    ):
        path = files.save(tmp_path, "y", broken(alpha=None), {METADATA_KEY: text})
        with pytest.raises(WeightsError, match=match):
            read_adapter(path, TINY)


@pytest.mark.parametrize("cut", [4, 20, -8])
def test_a_file_that_was_cut_is_refused(cut, tmp_path):
    path = files.save(tmp_path, "x", broken())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(WeightsError, match="truncated"):
        read_adapter(path, TINY)


def test_pickles_of_tensors_are_read_and_those_of_more_refused(tmp_path):
    import torch

    tensors = {key: torch.from_numpy(value) for key, value in broken().items()}
    torch.save(tensors, tmp_path / "x.pt")
    assert len(read_adapter(tmp_path / "x.pt", TINY).entries) == 1
    torch.save({**tensors, "x": print}, tmp_path / "y.pt")
    with pytest.raises(WeightsError, match="tensors and nothing else.*print.*not run"):
        read_adapter(tmp_path / "y.pt", TINY)
