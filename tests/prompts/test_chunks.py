"""Chunks of tokens and weights, beside A1111's `tokenize_line`."""

import json

import numpy as np
import pytest

from kerasdiffusion.presets.config import TokenizerConfig
from kerasdiffusion.prompts import parse
from kerasdiffusion.prompts.chunks import LearnedWords, chunks, empty_chunk
from kerasdiffusion.prompts.tokenizer import Tokenizer
from tests.prompts.test_syntax import DATA
from tests.tiny import tiny_tokenizer

CASES = json.loads((DATA / "a1111_chunks.json").read_text("utf-8"))
SIZE = 49408


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer()


def test_tokens_and_weights_are_a1111s(tokenizer):
    for case in CASES:
        vectors = {name: np.ones((n, 4)) for name, n in case["words"].items()}
        learned = LearnedWords(SIZE, vectors) if vectors else None
        found = chunks(parse(case["prompt"]), tokenizer, learned)
        assert len(found) == len(case["chunks"]), case["prompt"]
        for chunk, wanted in zip(found, case["chunks"], strict=True):
            tokens = np.full(77, tokenizer.end_id)
            tokens[0] = tokenizer.start_id
            tokens[1 : len(wanted["tokens"]) + 1] = wanted["tokens"]
            is_learned = chunk.tokens >= SIZE
            assert (np.where(is_learned, 0, chunk.tokens) == tokens).all()
            weights = np.ones(77)
            weights[1 : len(wanted["weights"]) + 1] = wanted["weights"]
            assert chunk.weights == pytest.approx(weights, abs=1e-6)
            starts = {learned.ids(name)[0] for name in vectors} if vectors else set()
            at = [i - 1 for i, token in enumerate(chunk.tokens) if token in starts]
            assert at == wanted["learned"]
    assert max(len(case["chunks"]) for case in CASES) > 5
    assert sum(bool(case["words"]) for case in CASES) > 5


def test_a_text_that_fits_is_what_the_tokenizer_says(tokenizer):
    for pad in ("<|endoftext|>", "!"):
        ours = Tokenizer(TokenizerConfig(pad_token=pad))
        for text in ("", "a red apple, on a blue background", "x" * 70):
            (chunk,) = chunks(parse(text), ours)
            assert (chunk.tokens == ours(text)[0]).all()
            assert (chunk.weights == 1).all() and chunk.tokens.dtype == np.int32
    assert (empty_chunk(tokenizer).tokens == tokenizer("")[0]).all()


def test_any_context_length():
    tokenizer = tiny_tokenizer()
    text = "a red apple on a blue background" * 3
    found = chunks(parse(text), tokenizer)
    joined = [token for chunk in found for token in chunk.tokens[1:-1]]
    assert len(found) > 1 and {len(chunk.tokens) for chunk in found} == {12}
    assert joined[: tokenizer.count(text)] == tokenizer.tokens(text)


def test_words_in_angle_brackets_are_found_in_the_text(tokenizer):
    learned = LearnedWords(SIZE, {"<cat-toy>": np.ones((2, 4))})
    for text in ("a <cat-toy>, red", "(<CAT-TOY>:1.2)."):
        tokens = chunks(parse(text), tokenizer, learned)[0].tokens
        assert [token - SIZE for token in tokens if token >= SIZE] == [0, 1]
    assert learned.table().shape == (2, 4)


def test_a_learned_word_as_comfyui_writes_it():
    learned = LearnedWords(SIZE, {"<cat-toy>": np.ones((2, 4))})
    tokenizer = tiny_tokenizer()
    plain, prefixed = (
        chunks([(text, 1.0)], tokenizer, learned)
        for text in ("two <cat-toy>", "two embedding:<cat-toy>")
    )
    assert (plain[0].tokens == prefixed[0].tokens).all()
    assert (plain[0].tokens >= SIZE).sum() == 2
