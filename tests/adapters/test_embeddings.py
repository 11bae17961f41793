"""Files of textual inversion, as A1111 and diffusers write them."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from kerasdiffusion.adapters.embeddings import read_embeddings
from kerasdiffusion.weights.base import WeightsError

VECTORS = np.arange(8, dtype="float32").reshape(2, 4)


@pytest.mark.parametrize(
    "tensors, name",
    [
        ({"emb_params": VECTORS}, "mine"),
        ({"<cat-toy>": VECTORS}, "<cat-toy>"),
        ({"clip_l": VECTORS, "clip_g": np.ones((2, 6), "float32")}, "mine"),
    ],
)
def test_safetensors(tensors, name, tmp_path):
    save_file(tensors, tmp_path / "mine.safetensors")
    found = read_embeddings(tmp_path / "mine.safetensors", 4)
    assert list(found) == [name] and (found[name] == VECTORS).all()
    named = read_embeddings(tmp_path / "mine.safetensors", 4, "other")
    assert list(named) == ["other"]


def test_pickles(tmp_path):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(VECTORS)
    parameters = torch.nn.ParameterDict({"*": torch.nn.Parameter(tensor)})
    for kept in ({"*": tensor.half()}, {"*": torch.nn.Parameter(tensor)}, parameters):
        a1111 = {"string_to_token": {"*": 265}, "string_to_param": kept, "name": "x"}
        torch.save({**a1111, "step": 100}, tmp_path / "style.pt")
        found = read_embeddings(tmp_path / "style.pt", 4)
        assert list(found) == ["style"] and (found["style"] == VECTORS).all()
    torch.save({"<toy>": tensor[0]}, tmp_path / "learned_embeds.bin")
    found = read_embeddings(tmp_path / "learned_embeds.bin", 4)
    assert list(found) == ["<toy>"] and (found["<toy>"] == VECTORS[:1]).all()


def test_what_is_no_textual_inversion_for_this_model(tmp_path):
    save_file({"<cat-toy>": VECTORS}, tmp_path / "sd2.safetensors")
    with pytest.raises(WeightsError, match=r"width, 768\. Received: .*\(2, 4\)"):
        read_embeddings(tmp_path / "sd2.safetensors", 768)
    save_file({"a": VECTORS, "b": VECTORS}, tmp_path / "two.safetensors")
    assert list(read_embeddings(tmp_path / "two.safetensors", 4)) == ["a", "b"]
    with pytest.raises(WeightsError, match="several words names them itself"):
        read_embeddings(tmp_path / "two.safetensors", 4, "c")
    save_file({"a": VECTORS * np.nan}, tmp_path / "nan.safetensors")
    with pytest.raises(WeightsError, match="must be finite"):
        read_embeddings(tmp_path / "nan.safetensors", 4)


def test_a_lora_is_no_textual_inversion(tmp_path):
    """Of 48 of its layers some are as wide as a word: they were learned as words."""
    tensors = {}
    for layer in range(12):
        for name, ins, outs in (
            ("self_attn_q_proj", 768, 768),
            ("mlp_fc1", 768, 3072),
            ("mlp_fc2", 3072, 768),
        ):
            stem = f"lora_te_text_model_encoder_layers_{layer}_{name}"
            tensors[f"{stem}.lora_down.weight"] = np.zeros((8, ins), "float16")
            tensors[f"{stem}.lora_up.weight"] = np.zeros((outs, 8), "float16")
            tensors[f"{stem}.alpha"] = np.zeros((), "float16")
    save_file(tensors, tmp_path / "add_detail.safetensors")
    with pytest.raises(WeightsError, match="`load_adapter`, --adapter, reads it"):
        read_embeddings(tmp_path / "add_detail.safetensors", 768)


@pytest.mark.parametrize(
    "key, shape, match",
    [
        ("text_model.final_layer_norm.weight", (4,), "`from_preset` reads models"),
        ("decoder.conv_in.bias", (4,), "`from_preset` reads models"),
        ("lycoris_x.hada_w1_a", (4, 4), "`load_adapter`"),
        ("unet.x.lora_A.weight", (4, 4), "`load_adapter`"),
        ("lora_unet_x.q_layer.weight", (4, 4), "`load_adapter`"),
        ("lora_unet_x.diff_b", (4,), "`load_adapter`"),
    ],
)
def test_nor_is_a_network_or_any_other_adapter(key, shape, match, tmp_path):
    save_file({key: np.zeros(shape, "float32")}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=match):
        read_embeddings(tmp_path / "x.safetensors", 4)


def test_both_encoders_of_sdxls_trainer(tmp_path):
    both = {"text_encoders_0": VECTORS, "text_encoders_1": np.ones((2, 6), "float32")}
    save_file(both, tmp_path / "mine.safetensors")
    assert (read_embeddings(tmp_path / "mine.safetensors", 4)["mine"] == VECTORS).all()
    assert read_embeddings(tmp_path / "mine.safetensors", 6)["mine"].shape == (2, 6)
