"""What is written says the same when it is read: dialects, joins, cuts."""

import json

import numpy as np
import pytest

from kerasdiffusion.adapters.combine import adapter_of, joined, low_rank, resized
from kerasdiffusion.adapters.read import read_adapter
from kerasdiffusion.adapters.telling import describe_file
from kerasdiffusion.adapters.write import write_adapter
from kerasdiffusion.weights.base import WeightsError
from tests.adapters import files
from tests.tiny import TINY, TINY_SDXL


def differences(adapter):
    return {
        (entry.part, entry.tensor): entry.change.difference({})
        for entry in adapter.entries
    }


def whole(entry):
    return 1.0


def assert_equal(found, wanted, atol=1e-5):
    assert found.keys() == wanted.keys()
    for key in wanted:
        np.testing.assert_allclose(found[key], wanted[key], atol=atol)


@pytest.mark.parametrize("config", [TINY, TINY_SDXL], ids=["one encoder", "two"])
@pytest.mark.parametrize("format", ["kohya", "diffusers"])
def test_dialects_and_back(format, config, tmp_path):
    adapter = read_adapter(files.save(tmp_path, "x", files.kohya(config)), config)
    two = config is TINY_SDXL
    path = write_adapter(
        tmp_path / "y.safetensors", joined([(adapter, whole)]), format, two_encoders=two
    )
    again = read_adapter(path, config)
    assert_equal(differences(again), differences(adapter))
    assert not again.unused
    with pytest.raises(FileExistsError):
        write_adapter(path, joined([(adapter, whole)]), format)


def test_a_folder_of_peft(tmp_path):
    adapter = read_adapter(files.save(tmp_path, "x", files.kohya()), TINY)
    write_adapter(tmp_path / "peft", joined([(adapter, whole)]), "peft")
    found = {}
    for folder, part in (("unet", "diffusion_model"), ("text_encoder", "text_encoder")):
        path = tmp_path / "peft" / folder / "adapter_model.safetensors"
        found |= differences(read_adapter(path, TINY))
        settings = json.loads((path.parent / "adapter_config.json").read_text("utf-8"))
        assert settings["peft_type"] == "LORA" and settings["r"] == 4, part
    assert_equal(found, differences(adapter))


def test_adapters_joined_are_their_sum(tmp_path):
    one, two = (
        read_adapter(files.save(tmp_path, name, files.kohya(seed=i, rank=r)), TINY)
        for i, (name, r) in enumerate((("a", 4), ("b", 3)))
    )
    changes = joined([(one, lambda entry: 0.7), (two, lambda entry: -0.3)])
    path = write_adapter(tmp_path / "c.safetensors", changes)
    sum_ = read_adapter(path, TINY)
    assert sum_.ranks == (7,)
    first, second = differences(one), differences(two)
    wanted = {key: 0.7 * first[key] - 0.3 * second[key] for key in first}
    assert_equal(differences(sum_), wanted)


def test_a_cut_keeps_the_largest_directions(tmp_path):
    random = np.random.default_rng(0)
    values = random.normal(size=(20, 12, 3, 3)).astype("float32")
    left, sizes, right = np.linalg.svd(values.reshape(20, -1), full_matrices=False)
    wanted = (left[:, :5] * sizes[:5]) @ right[:5]
    found = low_rank(values, 5)
    assert found.rank == 5
    np.testing.assert_allclose(
        found.difference({}), wanted.reshape(values.shape), atol=1e-4
    )
    adapter = read_adapter(files.save(tmp_path, "x", files.kohya(rank=8)), TINY)
    cut = resized(joined([(adapter, whole)]), 3)
    for key, change in cut.items():
        part = differences(adapter)[key[0], f"{key[1]}.{key[2]}"]
        assert change.rank == 3
        exact = low_rank(part, 3).difference({})
        np.testing.assert_allclose(change.difference({}), exact, atol=1e-4)
    same = resized(joined([(adapter, whole)]), 100)
    assert_equal(
        differences(adapter_of(same, tmp_path, "")), differences(adapter), atol=1e-4
    )


def test_kinds_that_a_dialect_lacks_are_refused_with_a_way_out(tmp_path):
    stem = "lora_unet_down_blocks_0_attentions_0_proj_in"
    random = np.random.default_rng(0)
    factors = {"w1_a": (32, 2), "w1_b": (2, 32), "w2_a": (32, 2), "w2_b": (2, 32)}
    tensors = {
        f"{stem}.hada_{name}": random.normal(size=shape).astype("float32")
        for name, shape in factors.items()
    }
    adapter = read_adapter(files.save(tmp_path, "x", tensors), TINY)
    changes = joined([(adapter, whole)])
    path = write_adapter(tmp_path / "y.safetensors", changes)
    assert_equal(differences(read_adapter(path, TINY)), differences(adapter))
    with pytest.raises(WeightsError, match="adapter resize"):
        write_adapter(tmp_path / "z.safetensors", changes, "diffusers")
    low = resized(changes, 16)
    path = write_adapter(tmp_path / "z.safetensors", low, "diffusers")
    assert_equal(differences(read_adapter(path, TINY)), differences(adapter), 1e-4)


def test_what_is_in_a_file_without_reading_it(tmp_path):
    metadata = {
        "ss_tag_frequency": json.dumps(
            {"10_x": {"cat": 7, " dog": 2}, "b": {"dog": 9}}
        ),
        "ss_network_dim": "8",
        "modelspec.title": "Detail",
        "modelspec.trigger_phrase": "zzz",
    }
    shapes = {
        "lora_unet_input_blocks_0_0.lora_up.weight": (320, 8, 1, 1),
        "lora_unet_input_blocks_0_0.lora_down.weight": (8, 4, 3, 3),
        "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": (3072, 8),
        "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (8, 768),
    }
    tensors = {key: np.zeros(shape, "float16") for key, shape in shapes.items()}
    told = describe_file(files.save(tmp_path, "x", tensors, metadata))
    assert told["kind"] == "LoRA" and told["for"] == "Stable Diffusion 1"
    assert told["rank"] == "8" and told["tags"] == "dog (11), cat (7)"
    assert told["title"] == "Detail" and told["trigger phrase"] == "zzz"
    assert told["modules"] == "1 of diffusion_model, 1 of text_encoder"
    words = {"clip_l": np.zeros((3, 768)), "clip_g": np.zeros((3, 1280))}
    told = describe_file(files.save(tmp_path, "words", words))
    assert (told["kind"], told["for"], told["vectors"]) == (
        *("textual inversion", "SDXL"),
        "3",
    )
