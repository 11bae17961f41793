"""Tokens, the merges that make them, and the files of a tokenizer folder."""

from __future__ import annotations

import functools
import gzip
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from kerasdiffusion.presets.config import TokenizerConfig
from kerasdiffusion.prompts.added_tokens import AddedToken, to_json
from kerasdiffusion.storage import reading
from kerasdiffusion.storage.bounds import check_bound, shown

START = "<|startoftext|>"
END = "<|endoftext|>"
WORD_END = "</w>"


@functools.cache
def byte_symbols() -> tuple[str, ...]:
    """The visible character that stands for each of the 256 bytes in a token."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    symbols = {byte: chr(byte) for byte in visible}
    symbols |= {byte: chr(256 + index) for index, byte in enumerate(hidden)}
    return tuple(symbols[byte] for byte in range(256))


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a `Tokenizer` and the merges that make them.

    Args:
        ids: The id of each token. Bytes are written as CLIP's visible characters
            (`byte_symbols`); a token that ends a word ends in `"</w>"`.
        merges: Pairs of tokens in the order in which they are joined.
        added: Tokens that are taken out of a text ahead of that.

    Raises:
        ValueError: If an id is no integer of at least 0 or stands for two tokens, if
            the start or end token is missing, or if a merge makes an unknown token.

    Example:

    ```python
    vocabulary = Vocabulary.from_merges([("c", "a"), ("ca", "t</w>")])
    vocabulary.ids["cat</w>"]  # 513
    ```
    """

    ids: dict[str, int]
    merges: tuple[tuple[str, str], ...]
    added: tuple[AddedToken, ...] = ()

    def __post_init__(self):
        for token, index in self.ids.items():
            if type(index) is not int or index < 0:
                raise ValueError(
                    "The id of every token must be an integer of at least 0. "
                    f"Received: {index!r} for {token!r}"
                )
        check_bound("vocabulary", max(self.ids.values(), default=0), "a vocabulary")
        if len(set(self.ids.values())) != len(self.ids):
            raise ValueError(
                "Every token must have an id of its own. "
                f"Received: {len(self.ids)} tokens, {len(set(self.ids.values()))} ids"
            )
        for special in (START, END):
            if special not in self.ids:
                raise ValueError(
                    f"A vocabulary must contain {special!r}. "
                    f"Received: {len(self.ids)} tokens without it"
                )
        for first, second in self.merges:
            if first + second not in self.ids:
                raise ValueError(
                    "Every merge must make a token of the vocabulary. "
                    f"Received: {shown(first)} + {shown(second)}"
                )

    @classmethod
    def from_merges(cls, merges: Iterable[tuple[str, str]]) -> Vocabulary:
        """Numbers the tokens as CLIP does.

        The order is bytes, bytes that end a word, merges, start, end.

        Args:
            merges: Pairs of tokens in the order in which they are joined.

        Returns:
            A `Vocabulary`.
        """
        merges = tuple(merges)
        # CLIP's ids follow the symbols, not the bytes that they stand for.
        symbols = sorted(byte_symbols())
        tokens = [*symbols, *(symbol + WORD_END for symbol in symbols)]
        tokens += [first + second for first, second in merges]
        tokens += [START, END]
        return cls({token: index for index, token in enumerate(tokens)}, merges)

    @classmethod
    def from_files(
        cls, vocab_json: str | os.PathLike, merges_txt: str | os.PathLike
    ) -> Vocabulary:
        """Reads the two files of transformers' layout.

        Args:
            vocab_json: A JSON object from token to id.
            merges_txt: A text file with one merge a line.

        Returns:
            A `Vocabulary`.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If a file is not of that layout.
        """
        ids = _read_json(Path(vocab_json))
        return cls(ids, _parse_merges(_read_text(Path(merges_txt)).split("\n")))

    @classmethod
    def from_tokenizer_json(cls, path: str | os.PathLike) -> Vocabulary:
        """Reads the one file that newer releases of transformers write.

        Args:
            path: A `tokenizer.json`.

        Returns:
            A `Vocabulary`.

        Raises:
            FileNotFoundError: If the file is missing.
            ValueError: If it holds no byte-pair encoding.
        """
        model = _read_json(Path(path)).get("model")
        ids = model.get("vocab") if isinstance(model, dict) else None
        merges = model.get("merges") if isinstance(model, dict) else None
        if not isinstance(ids, dict) or not isinstance(merges, list):
            raise ValueError(
                f"{Path(path).name} must hold a byte-pair encoding. "
                "Received: a file without `model.vocab` and `model.merges`"
            )
        return cls(ids, _parse_merges(merges))

    @classmethod
    def from_folder(cls, folder: Path) -> Vocabulary:
        """Reads the tokens and merges of a tokenizer folder, without added tokens.

        Raises:
            FileNotFoundError: If it has neither of the two layouts.
            ValueError: If a file is not of its layout.
        """
        if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            return cls.from_files(folder / "vocab.json", folder / "merges.txt")
        if (folder / "tokenizer.json").is_file():
            return cls.from_tokenizer_json(folder / "tokenizer.json")
        raise FileNotFoundError(
            "A tokenizer folder must hold vocab.json and merges.txt, or "
            f"tokenizer.json. Received: {folder}"
        )

    @property
    def size(self) -> int:
        """Rows that an embedding of these tokens needs: the largest id and one."""
        return max(*self.ids.values(), *(token.id for token in self.added)) + 1

    def with_words(self, words: Iterable[str]) -> Vocabulary:
        """A vocabulary of more tokens, each with an id behind the last.

        Args:
            words: What they look like in a text. Those without angle brackets are
                never found within other words.

        Returns:
            A `Vocabulary`.

        Raises:
            ValueError: If a word is a token already.

        Example:

        >>> clip_vocabulary().with_words(["<toy>"]).size
        49409
        """
        added = list(self.added)
        known = {*self.ids, *(token.content for token in added)}
        for word in words:
            if word in known or not word:
                raise ValueError(
                    f"An added word must be no token yet. Received: {word!r}"
                )
            known.add(word)
            single = not (word.startswith("<") and ">" in word)
            following = self.size + len(added) - len(self.added)
            added.append(AddedToken(word, following, single_word=single))
        return replace(self, added=tuple(added))

    def save(self, folder: str | os.PathLike) -> None:
        """Writes `vocab.json` and `merges.txt`, and `added_tokens.json` if need be.

        Args:
            folder: A folder that exists.
        """
        by_id = dict(sorted(self.ids.items(), key=lambda item: item[1]))
        merges = [" ".join(merge) for merge in self.merges]
        files = {
            "vocab.json": json.dumps(by_id, ensure_ascii=False, separators=(",", ":")),
            "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
        }
        if self.added:
            ids = {token.content: token.id for token in self.added}
            files["added_tokens.json"] = json.dumps(ids, ensure_ascii=False) + "\n"
        for name, content in files.items():
            (Path(folder) / name).write_text(content, encoding="utf-8", newline="\n")


def text_of(tokens: Iterable[str | tuple[str]]) -> str:
    """The text of tokens.

    Args:
        tokens: Those of a vocabulary, as it writes them; added ones, each in a tuple,
            as they are.

    Returns:
        The text. Bytes that are no UTF-8 become U+FFFD.
    """
    bytes_of = {symbol: bytes([byte]) for byte, symbol in enumerate(byte_symbols())}
    raw = b""
    for token in tokens:
        if isinstance(token, tuple):
            raw += b" " * (raw[-1:] not in (b"", b" ")) + token[0].encode() + b" "
            continue
        token = token.replace(WORD_END, " ")
        raw += b"".join(bytes_of.get(each) or each.encode() for each in token)
    return raw.decode("utf-8", errors="replace").strip()


@functools.cache
def clip_vocabulary() -> Vocabulary:
    """CLIP's own vocabulary of 49,408 tokens, which comes with the package."""
    asset = resources.files("kerasdiffusion") / "assets" / "clip" / "merges.txt.gz"
    lines = gzip.decompress(asset.read_bytes()).decode("utf-8").split("\n")
    return Vocabulary.from_merges(_parse_merges(lines))


def read_tokenizer_config(folder: str | os.PathLike) -> TokenizerConfig:
    """Reads the context length and the padding of a tokenizer folder.

    Args:
        folder: A folder that may hold `tokenizer_config.json` and
            `special_tokens_map.json`. Where these are silent, CLIP's values are
            taken.

    Returns:
        A `TokenizerConfig`.

    Raises:
        ValueError: If a file is no JSON object, or the context length is none.
    """
    found = tokenizer_settings(folder)
    default = TokenizerConfig()
    pad = found.get("pad_token")
    if isinstance(pad, dict):
        pad = pad.get("content")
    length = found.get("model_max_length")
    is_number = type(length) in (int, float) and length >= 2
    if length is None or (is_number and length > 2**16):
        length = default.context_length  # transformers writes 1e30 for "no limit"
    elif not is_number or length % 1:
        raise ValueError(
            "A tokenizer's `model_max_length` must be a whole number of 2 or more. "
            f"Received: {shown(length)} in {folder}"
        )
    pad = pad if isinstance(pad, str) else default.pad_token
    return TokenizerConfig(int(length), pad)


def tokenizer_settings(folder: str | os.PathLike) -> dict:
    """What `tokenizer_config.json` and `special_tokens_map.json` of a folder say.

    Args:
        folder: A folder that may hold them.

    Raises:
        ValueError: If a file is no JSON object.
    """
    found = {}
    # Where the two disagree about the padding (SD 2), the second is right.
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (Path(folder) / name).is_file():
            found |= _read_json(Path(folder) / name)
    return found


def save_tokenizer_config(
    config: TokenizerConfig,
    folder: str | os.PathLike,
    added: Iterable[AddedToken] = (),
) -> None:
    """Writes what `read_tokenizer_config` and transformers read.

    Args:
        config: The context length and the padding.
        folder: A folder that exists.
        added: The vocabulary's added tokens.
    """
    special = {
        "bos_token": START,
        "eos_token": END,
        "pad_token": config.pad_token,
        "unk_token": END,
    }
    settings = {
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": config.context_length,
        "tokenizer_class": "CLIPTokenizer",
        **special,
    }
    if tokens := to_json(added):
        settings["added_tokens_decoder"] = tokens
    for name, content in (
        ("special_tokens_map.json", special),
        ("tokenizer_config.json", settings),
    ):
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (Path(folder) / name).write_text(text, encoding="utf-8", newline="\n")


def _read_json(path: Path) -> dict:
    """Reads a file that must hold one JSON object."""
    content = reading.read_json(path, "tokenizer")
    if not isinstance(content, dict):
        raise ValueError(
            f"{path.name} must hold a JSON object. Received: {type(content).__name__} "
            f"in {path}"
        )
    return content


def _read_text(path: Path) -> str:
    return reading.read_text(path, "tokenizer")


def _parse_merges(lines: Iterable) -> tuple[tuple[str, str], ...]:
    """Pairs from lines of text, or from the pairs that JSON has."""
    merges = []
    for line in lines:
        if isinstance(line, str):
            if not line.strip() or line.startswith("#version"):
                continue
            line = line.split()
        two = isinstance(line, (list, tuple)) and len(line) == 2
        if not two or not all(isinstance(part, str) for part in line):
            raise ValueError(
                f"Every merge must be of two tokens. Received: {shown(line)}"
            )
        merges.append((line[0], line[1]))
    return tuple(merges)
