"""Prompts to token ids and back."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

from kerasdiffusion.presets.config import TokenizerConfig
from kerasdiffusion.prompts.tokenizer import Tokenizer
from kerasdiffusion.prompts.vocabulary import (
    END,
    START,
    Vocabulary,
    clip_vocabulary,
    read_tokenizer_config,
)

# From CLIP's own tokenizer.
PROMPT = "A photo of an astronaut riding a horse"
TOKENS = [320, 1125, 539, 550, 18376, 6765, 320, 4558]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer()


def test_a_prompt_is_start_tokens_end_and_padding(tokenizer):
    rows = tokenizer(PROMPT)
    assert rows.shape == (1, 77)
    assert rows.dtype == np.int32
    assert rows[0].tolist() == [49406, *TOKENS, *[49407] * 68]
    assert tokenizer.tokens(PROMPT) == TOKENS
    assert tokenizer.count(PROMPT) == 8


def test_prompts_come_in_batches(tokenizer):
    rows = tokenizer([PROMPT, ""])
    assert rows.shape == (2, 77)
    np.testing.assert_array_equal(rows[0], tokenizer(PROMPT)[0])
    assert rows[1].tolist() == [49406, *[49407] * 76]


def test_padding_and_context_length_are_the_configs():
    tokenizer = Tokenizer(TokenizerConfig(context_length=12, pad_token="!"))
    assert tokenizer(PROMPT)[0].tolist() == [49406, *TOKENS, 49407, 0, 0]
    assert tokenizer.pad_id == 0
    assert tokenizer.start_id == 49406
    assert tokenizer.end_id == 49407


def test_clips_vocabulary_is_numbered_as_clips():
    vocabulary = clip_vocabulary()
    assert vocabulary.size == len(vocabulary.ids) == 49408
    assert len(vocabulary.merges) == 48894
    assert vocabulary.ids["!"] == 0
    assert vocabulary.ids["!</w>"] == 256
    assert vocabulary.merges[0] == ("i", "n")
    assert vocabulary.ids["in"] == 512
    assert vocabulary.ids[START] == 49406


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("  A  Red\n\tAPPLE ", "a red apple"),
        ("caf&eacute; &amp;amp; bar", "café & bar"),
        ("cafe\u0301", "café"),
        ("it’s", "it's"),
        ("â€œquotedâ€\x9d", '"quoted"'),
        ("nul\x00l", "null"),
    ],
)
def test_texts_are_cleaned_first(tokenizer, text, same_as):
    assert tokenizer.tokens(text) == tokenizer.tokens(same_as)


def test_decoding_gives_the_text_in_lower_case(tokenizer):
    assert tokenizer.decode(tokenizer(PROMPT)[0]) == PROMPT.lower()
    assert tokenizer.decode(tokenizer.tokens("猫 🍎 naïve")) == "猫 🍎 naïve"
    assert tokenizer.decode([]) == ""
    # Half of a character.
    assert "\ufffd" in tokenizer.decode(tokenizer.tokens("🫠")[:1])


def test_decoding_refuses_ids_that_are_no_tokens(tokenizer):
    with pytest.raises(ValueError, match="at most 49407. Received: 49408"):
        tokenizer.decode([49408])


def test_a_long_prompt_is_cut_with_a_warning_that_shows_the_rest(tokenizer):
    prompt = " ".join(["apple"] * 75 + ["and", "two", "Cats"])
    with pytest.warns(UserWarning, match="78 tokens.*75.*'and two cats'") as caught:
        rows = tokenizer([PROMPT, prompt])
    assert caught[0].filename == __file__
    assert rows[1].tolist() == [49406, *tokenizer.tokens("apple") * 75, 49407]
    assert tokenizer.count(prompt) == 78


def test_a_prompt_that_just_fits_warns_of_nothing(tokenizer):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = tokenizer(" ".join(["apple"] * 75))
    assert rows[0, -1] == 49407


def test_the_warning_of_an_endless_prompt_is_short(tokenizer):
    with pytest.warns(UserWarning) as caught:
        tokenizer("apple " * 10_000)
    assert len(str(caught[0].message)) < 1200


def test_a_word_of_100000_letters_takes_no_quadratic_time(tokenizer):
    # The naive loop takes minutes for this one.
    assert tokenizer.count("ab" * 50_000) > 10_000


@pytest.mark.parametrize("prompts", [None, 5, b"a cat", ["a cat", None], [["a cat"]]])
def test_prompts_that_are_no_strings_are_refused(tokenizer, prompts):
    with pytest.raises(TypeError, match="string.*Received: "):
        tokenizer(prompts)


def test_an_empty_batch_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"At least one prompt.*Received: \[\]"):
        tokenizer([])


def test_a_context_without_room_is_refused():
    with pytest.raises(ValueError, match="at least 2.*Received: 1"):
        Tokenizer(TokenizerConfig(context_length=1))


def test_padding_with_an_unknown_token_is_refused():
    with pytest.raises(ValueError, match="`pad_token`.*Received: '<pad>'"):
        Tokenizer(TokenizerConfig(pad_token="<pad>"), Vocabulary.from_merges([]))


class TestSubset:
    TEXTS = ["a red apple on a blue background", "an apple", "🍎 naïve 12"]

    def test_its_texts_are_read_with_the_same_tokens(self, tokenizer):
        small = tokenizer.subset(self.TEXTS)
        whole_tokens = {v: k for k, v in tokenizer.vocabulary.ids.items()}
        small_tokens = {v: k for k, v in small.vocabulary.ids.items()}
        for text in self.TEXTS:
            expected = [whole_tokens[index] for index in tokenizer.tokens(text)]
            assert [small_tokens[index] for index in small.tokens(text)] == expected
            assert small.decode(small(text)[0]) == tokenizer.decode(tokenizer(text)[0])

    def test_it_keeps_no_merge_in_vain(self, tokenizer):
        merges = tokenizer.subset(self.TEXTS).vocabulary.merges
        order = {merge: rank for rank, merge in enumerate(clip_vocabulary().merges)}
        assert [order[merge] for merge in merges] == sorted(map(order.get, merges))
        expected = Tokenizer(vocabulary=Vocabulary.from_merges(merges))
        for dropped in merges:
            rest = tuple(merge for merge in merges if merge != dropped)
            without = Tokenizer(vocabulary=Vocabulary(expected.vocabulary.ids, rest))
            assert any(
                without.tokens(text) != expected.tokens(text) for text in self.TEXTS
            )

    def test_it_is_small_and_reads_any_other_text(self, tokenizer):
        small = tokenizer.subset(self.TEXTS)
        assert small.vocabulary_size == 512 + len(small.vocabulary.merges) + 2
        assert small.vocabulary_size < 600
        other = "a zebra, 猫 and 🫠"
        assert small.decode(small(other)[0]) == tokenizer.decode(tokenizer(other)[0])
        assert small.count(other) > tokenizer.count(other)

    def test_special_tokens_in_a_text_are_special_tokens(self, tokenizer):
        small = tokenizer.subset([f"cat {START} {END}"])
        assert small.tokens(f"cat {START} {END}")[1:] == [small.start_id, small.end_id]

    def test_the_configuration_stays(self):
        config = TokenizerConfig(16, "!")
        assert Tokenizer(config).subset(["cat"]).config == config


class TestFiles:
    def test_a_saved_tokenizer_comes_back(self, tmp_path):
        config = TokenizerConfig(40, "!")
        tokenizer = Tokenizer(config).subset([PROMPT])
        tokenizer.save(tmp_path / "new" / "tokenizer")
        again = Tokenizer.from_folder(tmp_path / "new" / "tokenizer")
        assert again.config == config
        assert again.vocabulary == tokenizer.vocabulary
        np.testing.assert_array_equal(again(PROMPT), tokenizer(PROMPT))

        files = [tmp_path / "new/tokenizer" / f for f in ("vocab.json", "merges.txt")]
        assert Tokenizer.from_files(*files, config).vocabulary == tokenizer.vocabulary

    def test_a_folder_says_how_it_pads(self, tmp_path):
        # As SD 2 has it: the two files disagree, and the second is right.
        settings = {"model_max_length": 77, "pad_token": END}
        special = {"pad_token": {"content": "!", "lstrip": False}}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        (tmp_path / "special_tokens_map.json").write_text(json.dumps(special))
        assert read_tokenizer_config(tmp_path) == TokenizerConfig(77, "!")

    @pytest.mark.parametrize("length", [int(1e30), 1e30, None])
    def test_no_context_length_is_clips(self, tmp_path, length):
        """transformers writes `int(1e30)` where there is no limit."""
        text = json.dumps({"model_max_length": length})
        (tmp_path / "tokenizer_config.json").write_text(text)
        assert read_tokenizer_config(tmp_path) == TokenizerConfig()

    @pytest.mark.parametrize("length", ["long", "77", 0, -1, 76.5, True, [77]])
    def test_a_context_length_without_sense_is_refused(self, tmp_path, length):
        text = json.dumps({"model_max_length": length})
        (tmp_path / "tokenizer_config.json").write_text(text)
        with pytest.raises(ValueError, match="whole number of 2 or more. Received"):
            read_tokenizer_config(tmp_path)

    def test_a_missing_byte_becomes_the_end_token(self, tmp_path):
        # Some test models' vocabularies are this small.
        vocabulary = {"c": 0, "a": 1, "t</w>": 2, START: 3, END: 4}
        (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
        (tmp_path / "merges.txt").write_text("#version: 0.2\n")
        tokenizer = Tokenizer.from_folder(tmp_path)
        assert tokenizer.tokens("cat") == [0, 1, 2]
        assert tokenizer.tokens("bat") == [4, 1, 2]

    @pytest.mark.parametrize(
        ("vocab", "merges", "message"),
        [
            ("{", "", "must be JSON .*Received: .*vocab.json"),
            ("[" * 100_000, "", "at most 100 levels of nesting. Received: "),
            ("[]", "", "JSON object. Received: list"),
            (b"\xff\xfe", "", "must be JSON .*Received: .*vocab.json"),
            ({"a": 0}, "", "must contain '<.startoftext.>'"),
            ({START: 0, END: 0}, "", "id of its own. Received: 2 tokens, 1 ids"),
            ({START: 0, END: -1}, "", "at least 0. Received: -1"),
            ({START: 0, END: 1.5}, "", "integer.*Received: 1.5"),
            ({START: 0, END: True}, "", "integer.*Received: True"),
            ({START: 0, END: 1}, "a b", "Every merge must make.*Received: 'a' . 'b'"),
            ({START: 0, END: 1}, "a b c", "of two tokens. Received: "),
            ({START: 0, END: 1}, b"\xff", "must be UTF-8 .*Received: .*merges.txt"),
        ],
    )
    def test_broken_files_are_refused(self, tmp_path, vocab, merges, message):
        for name, content in (("vocab.json", vocab), ("merges.txt", merges)):
            if isinstance(content, dict):
                content = json.dumps(content)
            if isinstance(content, str):
                content = content.encode()
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            Tokenizer.from_folder(tmp_path)

    @pytest.mark.parametrize(
        "content",
        [{}, {"model": 3}, {"model": {"vocab": {}}}, {"model": {"merges": []}}],
    )
    def test_a_tokenizer_json_without_byte_pairs_is_refused(self, tmp_path, content):
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match="must hold a byte-pair encoding"):
            Tokenizer.from_folder(tmp_path)

    @pytest.mark.parametrize("merges", [["i n"], [["i", "n"]]])
    def test_a_tokenizer_json_is_read_in_both_its_forms(self, tmp_path, merges):
        ids = Vocabulary.from_merges([("i", "n")]).ids
        content = {"model": {"type": "BPE", "vocab": ids, "merges": merges}}
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
        tokenizer = Tokenizer.from_folder(tmp_path)
        assert tokenizer.vocabulary.merges == (("i", "n"),)

    def test_an_oversized_file_is_not_read(self, tmp_path):
        with open(tmp_path / "vocab.json", "wb") as file:
            file.truncate(2**26 + 1)
        (tmp_path / "merges.txt").touch()
        with pytest.raises(ValueError, match="at most 67108864 bytes.*vocab.json"):
            Tokenizer.from_folder(tmp_path)

    def test_a_folder_without_a_tokenizer_is_refused(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="vocab.json.*Received: "):
            Tokenizer.from_folder(tmp_path)


def test_tokenizers_can_be_copied_and_sent_to_other_processes(tokenizer):
    small = tokenizer.subset([PROMPT])
    expected = small(PROMPT)
    for other in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        np.testing.assert_array_equal(other(PROMPT), expected)


def test_importing_reads_no_table_and_no_framework():
    code = (
        "import sys, kerasdiffusion.prompts.tokenizer as t; t.Tokenizer();"
        "print(t.clip_vocabulary.cache_info().currsize, "
        "[m for m in ('keras', 'tensorflow', 'torch', 'jax', 'ftfy')"
        " if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "0 []"
