"""CLIP's byte-pair encoding: prompts to token ids and back."""

from __future__ import annotations

import dataclasses
import functools
import heapq
import os
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import regex

from kerasdiffusion.presets.config import TokenizerConfig
from kerasdiffusion.prompts.added_tokens import Splitter, read_added_tokens
from kerasdiffusion.prompts.cleaning import clean
from kerasdiffusion.prompts.vocabulary import (
    END,
    START,
    WORD_END,
    Vocabulary,
    byte_symbols,
    clip_vocabulary,
    read_tokenizer_config,
    save_tokenizer_config,
    text_of,
    tokenizer_settings,
)

# Special tokens, English contractions, runs of letters, single digits, all the rest.
_WORDS = regex.compile(
    r"<\|(?:start|end)oftext\|>|'(?:s|t|re|ve|m|ll|d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)
_CACHED_WORDS = 2**16
_SHOWN_CHARACTERS = 1000


class Tokenizer:
    """CLIP's byte-pair tokenizer, token for token.

    A text is mended by ftfy, freed of HTML entities, put in lower case and split into
    words; the bytes of each word are then joined pair by pair, in the order of the
    merge table. Tokens that were added to the vocabulary are taken out first.

    Args:
        config: The context length and the padding.
        vocabulary: A `Vocabulary`. `None` is CLIP's own, read at first use.

    Example:

    ```python
    tokenizer = Tokenizer()
    ids = tokenizer(["a red apple", "two cats"])  # int32, (2, 77)
    tokenizer.decode(ids[0])  # "a red apple"
    ```

    Reference: Radford et al., "Learning Transferable Visual Models From Natural
    Language Supervision" (2021), section 2.4; `clip/simple_tokenizer.py` of
    openai/CLIP.
    """

    def __init__(
        self,
        config: TokenizerConfig = TokenizerConfig(),
        vocabulary: Vocabulary | None = None,
    ):
        if config.context_length < 2:
            raise ValueError(
                "`context_length` must be at least 2, for the start and the end. "
                f"Received: {config.context_length}"
            )
        self.config = config
        self._vocabulary = vocabulary
        self._cache: dict[str, tuple[int, ...]] = {}
        if vocabulary is not None:
            _ = self.pad_id

    @classmethod
    def from_files(
        cls,
        vocab_json: str | os.PathLike,
        merges_txt: str | os.PathLike,
        config: TokenizerConfig = TokenizerConfig(),
    ) -> Tokenizer:
        """Reads a vocabulary in transformers' layout.

        Args:
            vocab_json: A JSON object from token to id.
            merges_txt: A text file with one merge a line.
            config: The context length and the padding.

        Returns:
            A `Tokenizer`.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If a file is not of that layout.
        """
        return cls(config, Vocabulary.from_files(vocab_json, merges_txt))

    @classmethod
    def from_folder(
        cls, folder: str | os.PathLike, config: TokenizerConfig | None = None
    ) -> Tokenizer:
        """Reads a `tokenizer` folder of diffusers or transformers.

        Args:
            folder: A folder with `vocab.json` and `merges.txt`, or `tokenizer.json`.
            config: The context length and the padding. `None` is the folder's own
                (`read_tokenizer_config`).

        Returns:
            A `Tokenizer`.

        Raises:
            FileNotFoundError: If the folder has neither.
            ValueError: If a file is not of that layout.

        Example:

        ```python
        Tokenizer().save("tokenizer")
        Tokenizer.from_folder("tokenizer").vocabulary_size  # 49408
        ```
        """
        folder = Path(folder)
        if config is None:
            config = read_tokenizer_config(folder)
        vocabulary = Vocabulary.from_folder(folder)
        settings = tokenizer_settings(folder)
        added = read_added_tokens(folder, vocabulary.ids, settings)
        return cls(config, dataclasses.replace(vocabulary, added=added))

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens and merges."""
        if self._vocabulary is None:
            self._vocabulary = clip_vocabulary()
        return self._vocabulary

    @property
    def vocabulary_size(self) -> int:
        """Rows that an embedding of the tokens needs."""
        return self.vocabulary.size

    @property
    def start_id(self) -> int:
        """The id that every encoded prompt starts with."""
        return self.vocabulary.ids[START]

    @property
    def end_id(self) -> int:
        """The id that follows the last token of a prompt."""
        return self.vocabulary.ids[END]

    @property
    def pad_id(self) -> int:
        """The id that fills a prompt up to the context length."""
        ids = self.vocabulary.ids
        if self.config.pad_token not in ids:
            for token in self.vocabulary.added:
                if token.content == self.config.pad_token:
                    return token.id
            raise ValueError(
                "`pad_token` must be a token of the vocabulary. "
                f"Received: {self.config.pad_token!r}"
            )
        return ids[self.config.pad_token]

    def __call__(self, texts: str | list[str]) -> np.ndarray:
        """Encodes prompts for the text encoder.

        Args:
            texts: One text or a list of them. A text of more than
                `context_length - 2` tokens is cut, with a warning.

        Returns:
            The ids, int32, `(batch, context_length)`: start, the text's, end, padding.

        Raises:
            TypeError: If a text is no string.
            ValueError: If the list is empty.
        """
        if isinstance(texts, str):
            texts = [texts]
        if not isinstance(texts, (list, tuple)):
            raise TypeError(
                "Prompts must be a string or a list of strings. "
                f"Received: {texts!r} of type {type(texts).__name__}"
            )
        if not texts:
            raise ValueError(f"At least one prompt is needed. Received: {texts!r}")
        rows = [self.tokens(text) for text in texts]
        length = self.config.context_length
        batch = np.full((len(rows), length), self.pad_id, np.int32)
        for line, row in zip(batch, rows, strict=True):
            if len(row) > length - 2:
                self._warn_of_cut(row, length - 2)
                row = row[: length - 2]
            line[: len(row) + 2] = [self.start_id, *row, self.end_id]
        return batch

    def tokens(self, text: str) -> list[int]:
        """The ids of a text alone, however long, without start, end and padding."""
        if not isinstance(text, str):
            raise TypeError(
                "A prompt must be a string. "
                f"Received: {text!r} of type {type(text).__name__}"
            )
        ids: list[int] = []
        for piece in self._pieces(text):
            if isinstance(piece, tuple):
                ids.extend(piece)
                continue
            for word in _WORDS.findall(piece):
                found = self._cache.get(word)
                if found is None:
                    found = self._remember(word)
                ids.extend(found)
        return ids

    def _pieces(self, text: str) -> Iterable[str | tuple[int, ...]]:
        """Cleaned pieces of a text, and ids where added tokens stand."""
        return self._splitter(text) if self.vocabulary.added else (clean(text),)

    @functools.cached_property
    def _splitter(self) -> Splitter:
        return Splitter(self.vocabulary.added, clean)

    def count(self, text: str) -> int:
        """The number of tokens of a text; `context_length - 2` of them have room."""
        return len(self.tokens(text))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, as CLIP writes it: lower case, spaces between words.

        Args:
            ids: Token ids, `(length,)`. The start is left out, and what follows the
                first end token is taken for padding.

        Returns:
            The text. Bytes that are no UTF-8 become U+FFFD.

        Raises:
            ValueError: If an id is not in the vocabulary.
        """
        tokens = []
        for index in ids:
            if index == self.end_id:
                break
            if index == self.start_id:
                continue
            if int(index) not in self._tokens_by_id:
                raise ValueError(
                    "Token ids must be ids of the vocabulary, "
                    f"at most {self.vocabulary_size - 1}. Received: {index}"
                )
            tokens.append(self._tokens_by_id[int(index)])
        return text_of(tokens)

    def subset(self, texts: Iterable[str]) -> Tokenizer:
        """The smallest tokenizer that reads these texts as this one does.

        It has the bytes, the merges that the texts use and the special tokens, newly
        numbered. Any other text still encodes, in smaller pieces.

        Args:
            texts: Texts.

        Returns:
            A `Tokenizer` of the same configuration.

        Example:

        ```python
        Tokenizer().subset(["a red apple"]).vocabulary_size  # 520
        ```
        """
        pieces = [piece for text in texts for piece in self._pieces(text)]
        words = {
            word
            for piece in pieces
            if isinstance(piece, str)
            for word in _WORDS.findall(piece)
        }
        used: set[int] = set()
        for word in words - {START, END}:
            self._merge(word, used)
        merges = self.vocabulary.merges
        kept = Vocabulary.from_merges(merges[rank] for rank in sorted(used))
        added = (
            dataclasses.replace(token, id=kept.size + i)
            for i, token in enumerate(self.vocabulary.added)
        )
        return Tokenizer(self.config, dataclasses.replace(kept, added=tuple(added)))

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the files that transformers' `CLIPTokenizer` reads.

        Args:
            folder: A folder, made where it is missing.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.vocabulary.save(folder)
        save_tokenizer_config(self.config, folder, self.vocabulary.added)

    @functools.cached_property
    def _ranks(self) -> dict[tuple[str, str], int]:
        return {merge: rank for rank, merge in enumerate(self.vocabulary.merges)}

    @functools.cached_property
    def _tokens_by_id(self) -> dict[int, str | tuple[str]]:
        """Tokens by id; of added ones, in a tuple, what they look like in a text."""
        found = {index: token for token, index in self.vocabulary.ids.items()}
        return found | {token.id: (token.content,) for token in self.vocabulary.added}

    def _remember(self, word: str) -> tuple[int, ...]:
        """Encodes a word into the cache, which starts anew when it is full."""
        ids = self.vocabulary.ids
        parts = [word] if word in (START, END) else self._merge(word)
        # Small vocabularies may lack a byte: transformers, too, writes the end token.
        found = tuple(ids.get(part, self.end_id) for part in parts)
        if len(self._cache) >= _CACHED_WORDS:
            self._cache.clear()
        self._cache[word] = found
        return found

    def _merge(self, word: str, used: set[int] | None = None) -> list[str]:
        """Joins the bytes of a word, the earliest merge first; notes those used."""
        parts = [byte_symbols()[byte] for byte in word.encode("utf-8")]
        parts[-1] += WORD_END
        size = len(parts)
        after = list(range(1, size + 1))
        before = list(range(-1, size - 1))
        ranks, merges = self._ranks, self.vocabulary.merges
        heap = []

        def consider(left: int, right: int) -> None:
            if left >= 0 and right < size:
                rank = ranks.get((parts[left], parts[right]))
                if rank is not None:
                    heapq.heappush(heap, (rank, left))

        for left in range(size - 1):
            consider(left, left + 1)
        while heap:
            # A merge is done at every place before the table is looked at again.
            rank = heap[0][0]
            places = []
            while heap and heap[0][0] == rank:
                places.append(heapq.heappop(heap)[1])
            joined = []
            for left in places:
                right = after[left]
                if right >= size or (parts[left], parts[right]) != merges[rank]:
                    continue
                parts[left] += parts[right]
                parts[right] = ""
                after[left] = after[right]
                if after[left] < size:
                    before[after[left]] = left
                joined.append(left)
            for left in joined:
                consider(before[left], left)
                consider(left, after[left])
            if used is not None and joined:
                used.add(rank)
        return [part for part in parts if part]

    def _warn_of_cut(self, row: list[int], room: int) -> None:
        cut = self.decode(row[room:])
        if len(cut) > _SHOWN_CHARACTERS:
            cut = cut[:_SHOWN_CHARACTERS] + "..."
        warnings.warn(
            f"A prompt of {len(row)} tokens is longer than the {room} that the text "
            f"encoder reads; this part was cut: {cut!r}",
            UserWarning,
            stacklevel=3,
        )
