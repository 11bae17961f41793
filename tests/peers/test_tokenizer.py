"""The tokenizer against CLIP's own, and against transformers' on plain text."""

from __future__ import annotations

import hashlib
import html
import random
from pathlib import Path

import ftfy
import numpy as np
import pytest

from kerasdiffusion.presets.config import TokenizerConfig
from kerasdiffusion.prompts.tokenizer import Tokenizer
from kerasdiffusion.prompts.vocabulary import clip_vocabulary

CLIP_TOKENS = Path(__file__).parent / "data" / "clip_tokens.npz"

ACCENTS = "àâäåæçéèêëíîïñóôöøœßúûüýÿžščřđłğışőűŭĉßẞÅÑÉ"
CYRILLIC_GREEK = "абвгдежзийклмнопрстуфхцчшщъыьэюяёїєαβγδεζηθλμξπσςφψωΩЖЯ"
CJK = "日本語漢字猫犬山川東京中文字符龍鳳愛ひらがなカタカナﾊﾝｶｸ。、「」한국어고양이사과"
RTL_INDIC = "שלום עברית مرحبا العربية فارسی हिन्दी नमस्ते தமிழ் ไทยแมว ქართული ʻokina é ñ"
EMOJI = [
    "🍎",
    "👍🏽",
    "👩‍🚀",
    "👨‍👩‍👧‍👦",
    "🏳️‍🌈",
    "🇫🇷",
    "❤️",
    "☺",
    "™️",
    "🐈‍⬛",
    "1️⃣",
    "🫠",
]
ENTITIES = [
    "&amp;", "&amp;amp;", "&lt;b&gt;", "&quot;", "&#39;", "&#x1F34E;", "&nbsp;",
    "&eacute;", "&notit;", "&amp", "&bogus;", "&#0;", "&#xD800;", "&copy;&reg;",
    "&amp;lt;", "<br/>", "&hellip;", "&Auml;", "&amp;eacute;",
]  # fmt: skip
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\u200b", "\x0b",
          "\x0c", "\u2028", "\x85", "\ufeff", "\x1c"]  # fmt: skip
CONTROLS = ["\x00", "\x07", "\x08", "\x1b[31m", "\x7f", "\x9f", "\u202e", "\ufffd",
            "\ud800", "\udfff", "\ufffe", "\u2060", "\x1f", "\U000e0001"]  # fmt: skip
MOJIBAKE = [
    "Ã©",
    "â€™",
    "â€œ",
    "ä½\xa0å¥½",
    "ðŸ˜Š",
    "Â£",
    "ï¬\x81",
    "ﬁ",
    "ﬂ",
    "Ｆｕｌｌ",
    "½",
]
CONTRACTIONS = [
    "it's", "IT'S", "don't", "we'll", "they've", "I'm", "you're", "he'd", "'tis",
    "rock'n'roll", "o'clock", "’s", "it’s", "‘quoted’", "'ſ", "y'all'd've", "'''s",
]  # fmt: skip
NUMBERS = [
    "3", "1234567890", "3.14", "1,000", "50%", "4k", "8K", "f/1.8", "35mm", "(cat:1.2)",
    "[a|b]", "((best))", "--ar", "16:9", "<lora:x:0.8>", "#tag", "@user", "http://a.b/c?d=e",
    "²³", "Ⅷ", "٣", "१२", "<|endoftext|>", "<|STARTOFTEXT|>", "<|other|>", "_", "\\",
    "!!!",
]  # fmt: skip


def varied_texts() -> list[str]:
    """1,000 texts, the same on every run and machine."""
    random_source = random.Random(1234)
    pick = random_source.choice
    times = random_source.randrange
    # Whole words and odd pieces of words, in the order of their ids.
    tokens = [token.removesuffix("</w>") for token in clip_vocabulary().ids]
    words = [token for token in tokens if token.isascii() and token.isalpha()]

    def word() -> str:
        drawn = pick(words) + (pick(words) if times(6) == 0 else "")
        return pick([drawn, drawn, drawn.title(), drawn.upper()])

    def sentence(length: int) -> str:
        marks = ["", "", "", ",", ".", "!", "?", ";", " -", "..."]
        return " ".join(word() + pick(marks) for _ in range(length))

    def letters(alphabet: str) -> str:
        return "".join(pick(alphabet) for _ in range(1 + times(9)))

    def mixed(pieces, joiners=(" ", " ", "")) -> str:
        count = 1 + times(12)
        return "".join(
            (word() if times(3) == 0 else pieces()) + pick(joiners)
            for _ in range(count)
        )

    def anything() -> str:
        # Blocks that have been full for many versions of Unicode.
        blocks = [(0, 0x250), (0x400, 0x500), (0x900, 0x950), (0x2010, 0x2060),
                  (0x2190, 0x2400), (0x4E00, 0x9FA0), (0xAC00, 0xD7A0),
                  (0x1F300, 0x1F5A0)]  # fmt: skip
        return "".join(chr(times(*pick(blocks))) for _ in range(1 + times(40)))

    kinds = {
        "plain": (150, lambda: sentence(1 + times(25))),
        "accents": (100, lambda: mixed(lambda: letters(ACCENTS + "abcdeinorst"))),
        "alphabets": (70, lambda: mixed(lambda: letters(CYRILLIC_GREEK))),
        "cjk": (100, lambda: mixed(lambda: letters(CJK))),
        "rtl": (80, lambda: mixed(lambda: letters(RTL_INDIC))),
        "emoji": (100, lambda: mixed(lambda: pick(EMOJI))),
        "entities": (100, lambda: mixed(lambda: pick(ENTITIES))),
        "spaces": (60, lambda: mixed(word, SPACES)),
        "controls": (60, lambda: mixed(lambda: pick(CONTROLS + MOJIBAKE))),
        "contractions": (60, lambda: mixed(lambda: pick(CONTRACTIONS))),
        "numbers": (60, lambda: mixed(lambda: pick(NUMBERS))),
        "anything": (36, anything),
        "long": (20, lambda: sentence(500)),
    }
    texts = [make() for count, make in kinds.values() for _ in range(count)]
    return [*texts, "", " ", "\n\t", "'"]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return varied_texts()


def test_1000_texts_give_the_tokens_of_clip_itself(texts):
    reference = np.load(CLIP_TOKENS)
    drawn = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass"))
    assert drawn.hexdigest() == str(reference["texts_sha256"]), "not the same texts"
    assert len(texts) == len(reference["lengths"]) == 1000

    expected = np.split(reference["tokens"], np.cumsum(reference["lengths"])[:-1])
    tokenizer = Tokenizer()
    wrong = [
        text
        for text, tokens in zip(texts, expected, strict=True)
        if tokenizer.tokens(text) != tokens.tolist()
    ]
    assert not wrong, f"{len(wrong)} differ, such as {wrong[:3]!r}"


def plain(texts: list[str]) -> list[str]:
    """Those that transformers should read alike: it neither mends a text nor reads
    HTML, takes special tokens (so SD 2's padding "!") out first, and does not take
    "ſ" for an "s"."""
    return [
        text
        for text in texts
        if text.isprintable()
        and ftfy.fix_text(text) == text
        and html.unescape(text) == text
        and "<|" not in text
        and not set("!ſ") & set(text)
    ]


@pytest.mark.parametrize("pad_token", ["<|endoftext|>", "!"])
def test_transformers_reads_a_saved_tokenizer_alike(texts, pad_token, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = Tokenizer(TokenizerConfig(1200, pad_token))
    tokenizer.save(tmp_path)
    peer = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    texts = plain(texts)
    assert len(texts) > 300

    rows = peer(texts, padding="max_length", return_tensors="np").input_ids
    np.testing.assert_array_equal(tokenizer(texts), rows)
    assert peer.model_max_length == 1200
    assert len(peer) == tokenizer.vocabulary_size


def test_transformers_reads_a_saved_subset_alike(texts, tmp_path):
    transformers = pytest.importorskip("transformers")
    texts = plain(texts)
    tokenizer = Tokenizer(TokenizerConfig(4000)).subset(texts[:100])
    tokenizer.save(tmp_path)
    peer = transformers.CLIPTokenizer.from_pretrained(tmp_path)

    for text in texts:
        assert peer(text, add_special_tokens=False).input_ids == tokenizer.tokens(text)


def test_a_folder_that_transformers_wrote_is_read(texts, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = Tokenizer(TokenizerConfig(40, "!"))
    tokenizer.save(tmp_path / "ours")
    peer = transformers.CLIPTokenizer.from_pretrained(tmp_path / "ours")
    peer.save_pretrained(tmp_path / "theirs")

    again = Tokenizer.from_folder(tmp_path / "theirs")
    assert again.config == tokenizer.config
    assert all(again.tokens(text) == tokenizer.tokens(text) for text in texts)
