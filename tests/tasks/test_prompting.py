"""Prompts through a model: weights, chunks, editing, AND, clip_skip, learned words."""

import keras
import numpy as np
import pytest
from keras import ops
from safetensors.numpy import save_file

from kerasdiffusion.weights.base import WeightsError
from tests.tasks.test_stable_diffusion import CATS, assert_differ, compiled, paint
from tests.tiny import tiny_model, tiny_tokenizer

every_backend = pytest.mark.every_backend
at_length = pytest.mark.every_backend_at_length
LONG = "a red apple on a blue background, two cats, blurry, dark"


@every_backend
def test_without_signs_a_prompt_is_just_text(tiny):
    expected = tiny.program("encode")(tiny_tokenizer()(CATS), {})
    expected = ops.convert_to_numpy(expected)
    for weighting in ("a1111", "compel", "none"):
        found = tiny.encode_text(CATS, prompt_weighting=weighting)
        assert (found == expected).all(), weighting
    literal = tiny.encode_text("(cats:2)", prompt_weighting="none")
    tokens = tiny_tokenizer()("(cats:2)")
    assert literal == pytest.approx(
        ops.convert_to_numpy(tiny.text_encoder(tokens)), abs=1e-5
    )


@every_backend
def test_a_weight_scales_its_tokens_and_the_mean_stays(tiny):
    plain, heavy = tiny.encode_text(["two cats", "two (cats:1.5)"])
    start = 1 + tiny_tokenizer().count("two")
    stop = start + tiny_tokenizer().count("cats")
    factors = (heavy / plain)[:, 0]
    assert factors[start:stop] == pytest.approx(1.5 * factors[0], rel=1e-3)
    assert factors[stop:] == pytest.approx(factors[0], rel=1e-3)
    assert heavy.mean() == pytest.approx(plain.mean(), rel=1e-4)
    assert factors[0] != pytest.approx(1.0, abs=1e-3)


@every_backend
def test_compel_draws_away_from_the_empty_prompt(tiny):
    options = {"prompt_weighting": "compel"}
    empty, plain = tiny.encode_text(["", "two cats"])
    heavy, none = tiny.encode_text(["two (cats:1.5)", "two (cats:0)"], **options)
    at = tiny_tokenizer().count("two cats")
    assert heavy[at] == pytest.approx(empty[at] + 1.5 * (plain - empty)[at], abs=1e-4)
    assert heavy[:2] == pytest.approx(plain[:2], abs=1e-6)
    # Weight 0: nobody sees the word, so what follows is as if it were not there.
    tokens = tiny_tokenizer()("two cats")
    first = 1 + tiny_tokenizer().count("two")
    seen = np.ones_like(tokens, "bool")
    seen[0, first : at + 1] = False
    hidden = ops.convert_to_numpy(tiny.text_encoder(tokens, seen=seen))[0]
    assert none[at + 1 :] == pytest.approx(hidden[at + 1 :], abs=1e-3)
    assert np.abs(hidden[at + 1 :] - plain[at + 1 :]).max() > 0.01


@every_backend
def test_a_long_prompt_is_several_chunks(tiny):
    tokens = tiny_tokenizer().tokens(LONG)
    context = tiny.encode_text(LONG, prompt_weighting="none")
    assert context.shape[1] % 12 == 0 and context.shape[1] > len(tokens)
    both = tiny.encode_text([CATS, LONG])
    assert both.shape[1] == context.shape[1]
    assert (both[0, :12] == tiny.encode_text(CATS)[0]).all()
    assert (both[0, -12:] == tiny.encode_text("")[0]).all()
    pictures = paint(tiny, [LONG, CATS])
    assert_differ(pictures[:1], paint(tiny, LONG.split(",")[0]))


@every_backend
def test_clip_skip_leaves_layers_out(tiny):
    tokens = tiny_tokenizer()(CATS)
    text = tiny.text_encoder.text_model
    one = text.encoder_layers[0](text.embeddings(ops.convert_to_tensor(tokens)))
    expected = ops.convert_to_numpy(text.final_layer_norm(one))
    found = tiny.encode_text(CATS, clip_skip=2)
    assert found == pytest.approx(expected, abs=1e-5)
    assert tiny.encode_text(CATS, clip_skip=1) == pytest.approx(
        tiny.encode_text(CATS), abs=1e-5
    )
    assert_differ(paint(tiny, clip_skip=2), paint(tiny))
    with pytest.raises(ValueError, match="at most 2, the layers.*Received: 3"):
        paint(tiny, clip_skip=3)


@every_backend
def test_editing_alternation_and_composition(tiny):
    plain = paint(tiny, "cats", num_steps=4)
    # Calls 0 to 3 are all there are: what comes after is never seen.
    assert (paint(tiny, "[cats:dark:3]", num_steps=4) == plain).all()
    assert (paint(tiny, "[cats:dark:1]", num_steps=4) != plain).mean() > 0.02
    assert (paint(tiny, "[cats|dark]", num_steps=4) != plain).mean() > 0.02
    both = paint(tiny, "cats AND dark:0.5", num_steps=4)
    assert (both != plain).mean() > 0.1
    silent = paint(tiny, "cats AND dark:0", num_steps=4).astype(int)
    assert np.abs(silent - plain).max() <= 1


@at_length
def test_a_context_stands_in_for_its_prompt(tiny):
    context = tiny.encode_text([CATS, "dark"])
    assert (paint(tiny, context, seed=3) == paint(tiny, [CATS, "dark"], seed=3)).all()
    mixed = paint(tiny, CATS, negative_prompt=context[1])
    assert (mixed == paint(tiny, CATS, negative_prompt="dark")).all()
    with pytest.raises(ValueError, match=r"shape \(tokens, 32\)\. Received: \(12, 8\)"):
        paint(tiny, np.ones((12, 8)))


@compiled
@at_length
def test_another_text_of_the_same_structure_compiles_nothing():
    model = tiny_model()
    paint(model, "[cats|dark] (red:1.2) AND two :0.5", clip_skip=1)
    before = model.traces
    for prompt in ("[red|blue] (two:0.2) AND dark", "[cats:dark:1] AND [x:y:1] :-1"):
        paint(model, prompt, clip_skip=2)
    assert model.traces == before


@every_backend
def test_words_that_were_learned(tmp_path):
    model = tiny_model()
    table = ops.convert_to_numpy(model.text_encoder.weights[0])
    tokens = tiny_tokenizer().tokens("two cats")
    plain = model.encode_text("a two cats")
    save_file({"<it>": table[tokens]}, tmp_path / "a.safetensors")
    assert model.load_embedding(tmp_path / "a.safetensors") == ["<it>"]
    assert model.encode_text("a <it>") == pytest.approx(plain, abs=1e-5)
    assert model.load_embedding(tmp_path / "a.safetensors", "zzz") == ["zzz"]
    assert model.encode_text("a zzz") == pytest.approx(plain, abs=1e-5)
    assert model.encode_text("a two cats") == pytest.approx(plain, abs=1e-5)
    save_file({"<it>": table[tokens, :4]}, tmp_path / "b.safetensors")
    with pytest.raises(WeightsError, match="text encoder's width, 32"):
        model.load_embedding(tmp_path / "b.safetensors")


@at_length
def test_weightings_by_name(tiny):
    with pytest.raises(ValueError, match="one of a1111, compel, none. Did you mean co"):
        paint(tiny, prompt_weighting="compell")
    with pytest.raises(ValueError, match="gives one context a prompt"):
        tiny.encode_text("[cats|dark]")


@every_backend
def test_attention_hides_what_is_not_seen():
    from kerasdiffusion.compute.operations import attention

    random = np.random.default_rng(0)
    query, key, value = random.normal(size=(3, 2, 5, 2, 4)).astype("float32")
    seen = np.array([[1, 0, 1, 1, 0], [1, 1, 0, 1, 1]], "bool")
    found = keras.ops.convert_to_numpy(attention(query, key, value, True, seen))
    scores = np.einsum("bqhd,bkhd->bhqk", query, key) / 2.0
    allowed = np.tril(np.ones((5, 5), "bool")) & seen[:, None, None, :]
    exp = np.where(allowed, np.exp(scores), 0.0)
    expected = np.einsum("bhqk,bkhd->bqhd", exp / exp.sum(-1, keepdims=True), value)
    assert found == pytest.approx(expected, abs=1e-5)


@at_length
def test_tags_and_remarks_do_not_reach_the_text_encoder(tiny):
    with pytest.warns(UserWarning, match="not followed: <lora:x:0.8>"):
        tagged = tiny.encode_text("two cats<lora:x:0.8>")
    assert (tagged == tiny.encode_text("two cats")).all()
    with pytest.warns(UserWarning, match="Taken out of the prompt: # a dog"):
        painted = paint(tiny, "two cats # a dog", negative_prompt="red # blue")
    assert (painted == paint(tiny, "two cats", negative_prompt="red")).all()
    literal = tiny.encode_text("two cats<lora:x:1>", prompt_weighting="none")
    assert literal.shape[1] > tagged.shape[1]


@at_length
def test_a_tag_in_a_negative_prompt_is_text_as_in_a1111(tiny):
    with pytest.warns(UserWarning, match="A tag in a negative prompt"):
        painted = paint(tiny, "two cats", negative_prompt="red <lora:blue:1>")
    assert_differ(painted, paint(tiny, "two cats", negative_prompt="red "))
