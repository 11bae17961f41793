"""Folders whose tokens were added to, by DreamBooth or textual inversion."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kerasdiffusion import StableDiffusion
from tests.peers.quick import quick
from tests.tiny import TINY_SDXL, tiny_model

PROMPTS = ["a red apple", "two cats"]
TABLE = "text_model.embeddings.token_embedding.weight"


@pytest.fixture
def folder(tmp_path):
    tiny_model(config=TINY_SDXL).save_preset(tmp_path / "xl")
    return tmp_path / "xl"


def add_a_row(part):
    """What `resize_token_embeddings` does."""
    tensors = load_file(part / "model.safetensors")
    tensors[TABLE] = np.concatenate([tensors[TABLE], tensors[TABLE][:1] + 0.5])
    save_file(tensors, part / "model.safetensors")
    config = json.loads((part / "config.json").read_text())
    config["vocab_size"] += 1
    (part / "config.json").write_text(json.dumps(config))


@pytest.mark.every_backend_at_length
def test_the_pooled_text_is_still_taken_at_the_end_token(folder):
    before = StableDiffusion.from_preset(folder).encode_pooled(PROMPTS)
    add_a_row(folder / "text_encoder_2")
    after = StableDiffusion.from_preset(folder).encode_pooled(PROMPTS)
    assert np.abs(before[0] - before[1]).max() > 0.1
    assert np.allclose(after, before, atol=1e-5)


def test_words_of_both_tokenizers_are_read(folder):
    for number in ("", "_2"):
        add_a_row(folder / f"text_encoder{number}")
    words = json.dumps({"<toy>": 546})
    (folder / "tokenizer" / "added_tokens.json").write_text(words)
    model = StableDiffusion.from_preset(folder)
    assert 546 in model.tokenizer.tokens("a <toy>")
    # The second tokenizer has no such word: each is read from its own folder.
    assert 546 not in model.tokenizer_2.tokens("a <toy>")
    (folder / "tokenizer_2" / "added_tokens.json").write_text(words)
    model = StableDiffusion.from_preset(folder)
    assert 546 in model.tokenizer_2.tokens("a <toy>")
    model.save_preset(folder.with_name("again"))
    again = StableDiffusion.from_preset(folder.with_name("again"))
    assert again.tokenizer.tokens("a <toy>") == model.tokenizer.tokens("a <toy>")
    assert (again.encode_text("a <toy>") == model.encode_text("a <toy>")).all()


@pytest.mark.parametrize("number", quick(["", "_2"], "_2"))
def test_more_tokens_than_vectors_are_refused(folder, number):
    words = json.dumps({"<toy>": 546})
    (folder / f"tokenizer{number}" / "added_tokens.json").write_text(words)
    model = StableDiffusion.from_preset(folder)
    with pytest.raises(ValueError, match="no more tokens than the text encoder's 546"):
        model.encode_text("a <toy>")
