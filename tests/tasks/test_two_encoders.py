"""Prompts through two text encoders, SDXL's: what one encoder does, for both.

Against diffusers and compel: `tests/peers/`.
"""

import numpy as np
import pytest
from keras import ops
from safetensors.numpy import save_file

from tests.tasks.test_prompting import LONG
from tests.tasks.test_stable_diffusion import CATS, paint
from tests.tiny import TINY_SDXL, tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def two():
    """SDXL's two text encoders, of 32 and 40 channels."""
    return tiny_model(config=TINY_SDXL)


def layers(encoder, tokens, count):
    """What comes out of a text encoder's first layers."""
    text = encoder.text_model
    x = text.embeddings(ops.convert_to_tensor(tokens))
    for layer in text.encoder_layers[:count]:
        x = layer(x)
    return ops.convert_to_numpy(x)


def test_both_text_encoders_read_prompts(two):
    tokens = two.tokenizer(CATS), two.tokenizer_2(CATS)
    encoders = two.text_encoder, two.text_encoder_2
    for skip in (1, 2):
        expected = [
            layers(encoder, each, 3 - skip)
            for encoder, each in zip(encoders, tokens, strict=True)
        ]
        expected = np.concatenate(expected, axis=-1)
        found = two.encode_text(CATS, clip_skip=skip)
        assert found == pytest.approx(expected, abs=1e-5)
    # SDXL's own is the penultimate.
    assert two.encode_text(CATS) == pytest.approx(expected, abs=1e-5)
    plain, heavy = two.encode_text(["two cats", "two (cats:1.5)"])
    at = 1 + tiny_tokenizer().count("two")
    for part in (slice(0, 32), slice(32, 72)):
        factors = heavy[:, part] / plain[:, part]
        assert factors[at] == pytest.approx(1.5 * factors[0, 0], rel=1e-3)
    pooled = two.encode_pooled(["two cats", "two (cats:1.5)"])
    assert (pooled[0] == pooled[1]).all()


def test_a_second_prompt_is_read_like_the_first(two):
    plain = paint(two, "cats", prompt_2="dark", num_steps=4)
    assert (plain != paint(two, "cats", num_steps=4)).mean() > 0.1
    assert (paint(two, "cats", prompt_2="cats") == paint(two, "cats")).all()
    later = paint(two, "cats", prompt_2="[dark:red:3]", num_steps=4)
    assert (later == plain).all()
    soon = paint(two, "[cats:red:3]", prompt_2="[dark:red:0]", num_steps=4)
    assert (soon != plain).mean() > 0.1
    silent = paint(two, "cats AND red:0", prompt_2="dark", num_steps=4).astype(int)
    assert np.abs(silent - plain).max() <= 1
    away = paint(two, "cats", negative_prompt="red", negative_prompt_2="dark")
    assert (away != paint(two, "cats", negative_prompt="red")).mean() > 0.1


def test_ready_contexts_come_with_pooled_text(two):
    context = two.encode_text(CATS)
    with pytest.raises(ValueError, match="`prompt` must be text; `generate_image` tak"):
        paint(two, context)
    with pytest.raises(ValueError, match="`negative_prompt` must be text"):
        paint(two, CATS, negative_prompt=context)
    assert paint(two, LONG).shape == (1, 32, 32, 3)


def test_a_second_prompt_needs_a_second_text_encoder(tiny):
    with pytest.raises(ValueError, match="no second prompt. Received: prompt_2='x'"):
        paint(tiny, prompt_2="x")
    with pytest.raises(ValueError, match="Received: negative_prompt_2='x'"):
        paint(tiny, negative_prompt_2="x")
    with pytest.raises(ValueError, match="Pooled text is what SDXL and"):
        tiny.encode_pooled(CATS)


def test_words_that_both_text_encoders_learned(tmp_path):
    model = tiny_model(config=TINY_SDXL)
    tokens = tiny_tokenizer().tokens("two cats")
    tables = [
        ops.convert_to_numpy(encoder.weights[0])[tokens]
        for encoder in (model.text_encoder, model.text_encoder_2)
    ]
    plain = model.encode_text("a two cats")
    save_file({"clip_l": tables[0], "clip_g": tables[1]}, tmp_path / "it.safetensors")
    assert model.load_embedding(tmp_path / "it.safetensors") == ["it"]
    assert model.encode_text("a it") == pytest.approx(plain, abs=1e-5)
    # A word of the first text encoder alone is any text to the second.
    save_file({"emb_params": tables[0]}, tmp_path / "zzz.safetensors")
    assert model.load_embedding(tmp_path / "zzz.safetensors") == ["zzz"]
    found = model.encode_text("a zzz")
    assert found[:, :12, :32] == pytest.approx(plain[..., :32], abs=1e-5)
    assert np.abs(found[:, :12, 32:] - plain[..., 32:]).max() > 0.01
