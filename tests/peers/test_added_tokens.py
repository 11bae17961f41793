"""Added and learned words, as transformers reads them, and reads them back."""

import dataclasses
import json

import numpy as np
import pytest

from kerasdiffusion.presets.config import TokenizerConfig
from kerasdiffusion.prompts.tokenizer import Tokenizer
from tests.tiny import TINY_SDXL, tiny_model, tiny_tokenizer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

WORDS = ("<toy>", "my toy", "easynegative", "Fancy", "zorblx")
TEXTS = (
    "a <toy> dog",
    "a<TOY>dog",
    "<toy><toy>",
    "<toyz> my toys, mytoy",
    "my  toy. my toy_",
    "easynegative, (easynegative), easynegatives",
    "fancy FANCY Fancy fancyful",
    "zorblx zorblxs szorblx zorblx-zorblx zorblx's",
    "",
)


@pytest.mark.parametrize("flags", range(16))
def test_flags_mean_what_they_mean_to_transformers(flags, tmp_path):
    lstrip, rstrip, single, normalized = (bool(flags >> i & 1) for i in range(4))
    Tokenizer().save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    rows = {
        str(49408 + i): {
            "content": word,
            "lstrip": lstrip,
            "rstrip": rstrip,
            "single_word": single,
            "normalized": normalized,
            "special": False,
        }
        for i, word in enumerate(WORDS)
    }
    found = json.loads(path.read_text()) | {"added_tokens_decoder": rows}
    path.write_text(json.dumps(found))
    assert_alike(tmp_path)


@pytest.mark.parametrize("special", [[], ["<toy>", "my toy"]])
def test_the_files_of_transformers_4(special, tmp_path):
    Tokenizer().save(tmp_path)
    added = {word: 49408 + i for i, word in enumerate(WORDS)}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    path = tmp_path / "tokenizer_config.json"
    found = json.loads(path.read_text()) | {"additional_special_tokens": special}
    path.write_text(json.dumps(found))
    assert_alike(tmp_path)


def test_the_files_of_transformers_5(tmp_path):
    Tokenizer().save(tmp_path / "ours")
    peer = transformers.CLIPTokenizer.from_pretrained(tmp_path / "ours")
    peer.add_tokens(list(WORDS[:3]))
    peer.add_tokens([transformers.AddedToken("zorblx", single_word=True, lstrip=True)])
    peer.save_pretrained(tmp_path / "theirs")
    assert_alike(tmp_path / "theirs")


def test_what_we_save(tmp_path):
    vocabulary = Tokenizer().vocabulary.with_words(["<toy>", "easynegative", "my toy"])
    Tokenizer(TokenizerConfig(), vocabulary).save(tmp_path)
    assert_alike(tmp_path)


def assert_alike(folder):
    peer = transformers.CLIPTokenizer.from_pretrained(folder)
    ours = Tokenizer.from_folder(folder)
    assert ours.vocabulary_size == len(peer)
    for text in TEXTS:
        expected = peer(text, add_special_tokens=False).input_ids
        assert ours.tokens(text) == expected, text


@pytest.mark.parametrize("eos", [2, 545, 300])
def test_the_pooled_text_is_taken_where_transformers_takes_it(eos):
    """Of a vocabulary with words behind its end token."""
    from kerasdiffusion.models.text_encoder import TextEncoder
    from kerasdiffusion.weights import names
    from kerasdiffusion.weights.arrays import to_stored
    from kerasdiffusion.weights.configs import (
        text_encoder_from_json,
        text_encoder_to_json,
    )
    from tests.tiny import enliven

    config = dataclasses.replace(TINY_SDXL.text_encoder_2, vocabulary_size=550)
    values = text_encoder_to_json(config) | {"eos_token_id": eos}
    config = dataclasses.replace(
        text_encoder_from_json(values), skipped_layers=1, final_norm=False
    )
    ours = TextEncoder(config)
    enliven([ours])
    settings = transformers.CLIPTextConfig(**values)
    peer = transformers.CLIPTextModelWithProjection(settings)
    tensors = {
        names.canonical_name(variable.path, ours.name): torch.from_numpy(
            to_stored(variable, np.dtype("float32"))
        )
        for variable in ours.weights
    }
    peer.load_state_dict(tensors, strict=False)
    tokens = np.array(
        [[544, 7, 548, 300, 9, 545, 0, 0], [544, 7, 300, 8, 545, 549, 545, 0]], "int32"
    )
    expected = peer(torch.from_numpy(tokens)).text_embeds.detach().numpy()
    found = np.asarray(ours(tokens)[1])
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_learned_words_that_are_saved(tmp_path):
    """Diffusers reads a folder's words and vectors as the model has learned them."""
    diffusers = pytest.importorskip("diffusers")
    from safetensors.numpy import save_file

    random = np.random.default_rng(0)
    model = tiny_model(config=TINY_SDXL)
    learned = {
        "clip_l": random.normal(size=(2, 32)).astype("float32"),
        "clip_g": random.normal(size=(2, 40)).astype("float32"),
    }
    for name in ("<toy>", "b"):
        learned = {key: value + 1.0 for key, value in learned.items()}
        save_file(learned, tmp_path / "toy.safetensors")
        model.load_embedding(tmp_path / "toy.safetensors", name=name)
    with pytest.warns(UserWarning, match=".b. is a token already.*.<b>."):
        model.save_preset(tmp_path / "model")
    prompts = ["a <toy> apple", "b, blue"]
    context, pooled = model.encode_text(prompts), model.encode_pooled(prompts)

    from kerasdiffusion import StableDiffusion

    prompts[1] = "<b>, blue"
    again = StableDiffusion.from_preset(tmp_path / "model")
    assert again.tokenizer.tokens("<toy>") == [546, 547]
    assert again.config.text_encoder_2.end_id == 545
    assert np.allclose(again.encode_text(prompts), context, atol=1e-5)
    assert np.allclose(again.encode_pooled(prompts), pooled, atol=1e-5)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "model")
    expected, _, expected_pooled, _ = pipeline.encode_prompt(
        prompts, do_classifier_free_guidance=False
    )
    assert np.allclose(expected.detach().numpy(), context, atol=1e-4)
    assert np.allclose(expected_pooled.detach().numpy(), pooled, atol=1e-4)
    assert tiny_tokenizer().vocabulary_size == 546
