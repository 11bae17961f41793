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
