"""KerasCV's tokenizer: start and end with the tokens, and tokens that users add."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from kerasdiffusion.presets.config import TokenizerConfig
from kerasdiffusion.prompts.tokenizer import Tokenizer
from kerasdiffusion.prompts.vocabulary import Vocabulary, byte_symbols


class SimpleTokenizer(Tokenizer):
    """CLIP's tokenizer by KerasCV's names; also a `Tokenizer` of this library.

    Args:
        bpe_path: Must be left out: CLIP's vocabulary comes with the package, and
            `Tokenizer.from_files` reads others.
        config: The context length and the padding.
        vocabulary: A `Vocabulary`; CLIP's by default.

    Example:

    >>> tokenizer = SimpleTokenizer()
    >>> tokenizer.encode("a cat")
    [49406, 320, 2368, 49407]
    >>> tokenizer.add_tokens("<my-cat>")
    1
    >>> tokenizer.encode("a <my-cat>")
    [49406, 320, 49408, 49407]
    """

    def __init__(
        self,
        bpe_path: str | os.PathLike | None = None,
        *,
        config: TokenizerConfig = TokenizerConfig(),
        vocabulary: Vocabulary | None = None,
    ):
        if bpe_path is not None:
            raise ValueError(
                "CLIP's vocabulary comes with the package: leave `bpe_path` out. A "
                "`kerasdiffusion.Tokenizer.from_files(vocab_json, merges_txt)` reads "
                f"others. Received: {bpe_path!r}"
            )
        super().__init__(config, vocabulary)
        self._added: dict[str, int] = {}

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> SimpleTokenizer:
        """The same tokenizer with KerasCV's names."""
        return cls(config=tokenizer.config, vocabulary=tokenizer.vocabulary)

    @property
    def start_of_text(self) -> int:
        """The id that every prompt starts with."""
        return self.start_id

    @property
    def end_of_text(self) -> int:
        """The id that ends a prompt and fills it up."""
        return self.end_id

    @property
    def vocab(self) -> list[str]:
        """The tokens by their ids, those that were added last."""
        return sorted(self.encoder, key=self.encoder.__getitem__)

    @property
    def encoder(self) -> dict[str, int]:
        """The id of each token."""
        return {**self.vocabulary.ids, **self._added}

    @property
    def decoder(self) -> dict[int, str]:
        """The token of each id."""
        return {index: token for token, index in self.encoder.items()}

    @property
    def vocabulary_size(self) -> int:
        """Rows that an embedding of the tokens needs."""
        return self.vocabulary.size + len(self._added)

    def add_tokens(self, tokens: str | Iterable[str]) -> int:
        """Words that are one token each from now on, with the next ids.

        Args:
            tokens: One, or several. They are found in prompts in upper and lower case.

        Returns:
            How many are new.

        Raises:
            ValueError: If one is empty or blank.
        """
        before = len(self._added)
        for token in [tokens] if isinstance(tokens, str) else tokens:
            if not isinstance(token, str) or not token.strip():
                raise ValueError(f"A token must be a word. Received: {token!r}")
            if token not in self.vocabulary.ids:
                self._added.setdefault(token, self.vocabulary_size)
        return len(self._added) - before

    def tokens(self, text: str) -> list[int]:
        if not self._added or not isinstance(text, str):
            return super().tokens(text)
        by_case = {token.lower(): index for token, index in self._added.items()}
        longest = sorted(by_case, key=len, reverse=True)
        pattern = "|".join(map(re.escape, longest))
        found: list[int] = []
        for i, piece in enumerate(re.split(f"({pattern})", text, flags=re.IGNORECASE)):
            found += [by_case[piece.lower()]] if i % 2 else super().tokens(piece)
        return found

    def encode(self, text: str) -> list[int]:
        """The ids of a text between start and end, however long."""
        return [self.start_id, *self.tokens(text), self.end_id]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of ids, start and ends with it, as KerasCV writes it.

        Raises:
            ValueError: If an id is not in the vocabulary.
        """
        by_id = self.decoder
        bytes_of = {symbol: bytes([byte]) for byte, symbol in enumerate(byte_symbols())}
        text = b""
        for index in map(int, tokens):
            if index not in by_id:
                raise ValueError(
                    f"Token ids must be at most {self.vocabulary_size - 1}. "
                    f"Received: {index}"
                )
            token = by_id[index]
            if index in self._added.values():
                text += token.encode("utf-8")
            else:
                text += b"".join(bytes_of[symbol] for symbol in token)
        return text.decode("utf-8", errors="replace").replace("</w>", " ")
