"""Words with vectors of their own, as variables that `fit()` teaches."""

from __future__ import annotations

import types
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from kerasdiffusion.compute import backend
from kerasdiffusion.prompts.chunks import LearnedWords


@dataclass(frozen=True)
class NewWords:
    """A word that is to be learned: textual inversion.

    Args:
        word: What prompts call it, best in angle brackets: `"<my-dog>"`.
        vectors: How many tokens' worth it says, 1 or more.
        begin: A text that it begins as (`"dog"`), whose tokens are taken in turn; by
            default it begins as nothing in particular.

    Raises:
        ValueError: If the word is blank, or it has no vectors.

    Example:

    >>> NewWords("<my-dog>", vectors=2, begin="dog").vectors
    2

    Reference:
        Gal et al. 2023, "An Image is Worth One Word: Personalizing Text-to-Image
        Generation using Textual Inversion", section 3.
    """

    word: str
    vectors: int = 1
    begin: str | None = None

    def __post_init__(self):
        if not isinstance(self.word, str) or not self.word.strip():
            raise ValueError(f"A new word must be a text. Received: {self.word!r}")
        if any(each.isspace() or each == "." for each in self.word):
            raise ValueError(
                "A new word must be without spaces and dots, for files name it so. "
                f"Received: {self.word!r}"
            )
        if type(self.vectors) is not int or self.vectors < 1:
            raise ValueError(
                "A new word must have one vector or more. "
                f"Received: vectors={self.vectors!r}"
            )


class Words(keras.layers.Layer):
    """The vectors of new words for one text encoder.

    Those that the model has loaded come ahead of them and stay what they are.

    Args:
        part: Which text encoder.
        network: It, built.
        words: The `NewWords`.
        tokenizer: The text encoder's.
        known: The `LearnedWords` that the model has for it, or `None`.
        seed: Of what words begin as that begin as nothing.
    """

    def __init__(
        self, part: str, network, words: Sequence[NewWords], tokenizer, known, seed
    ):
        super().__init__(name=f"{part}_words", dtype="float32", autocast=False)
        self.part, self.tokenizer = part, tokenizer
        before = {} if known is None else dict(known.vectors)
        table = network.text_model.embeddings.token_embedding.embeddings
        table = backend.to_numpy(table.value).astype("float32")
        random, begin = np.random.default_rng(seed), {}
        for new in words:
            check_new(new, tokenizer, {**before, **begin})
            begin[new.word] = _begin(new, tokenizer, table, random)
        self._fixed = np.concatenate([np.zeros((0, table.shape[1])), *before.values()])
        self._fixed = self._fixed.astype("float32")
        self.names = tuple(begin)
        self._learned = types.MappingProxyType(
            {"words": LearnedWords(len(table), {**before, **begin})}
        )
        self.vectors = [
            self.add_weight(
                values.shape,
                lambda shape, dtype, values=values: ops.convert_to_tensor(
                    values, dtype
                ),
                dtype="float32",
                name=f"word_{i}",
            )
            for i, values in enumerate(begin.values())
        ]
        self.built = True

    def table(self):
        """All vectors, those of new words last: what the text encoder is given."""
        own = [ops.convert_to_tensor(each) for each in self.vectors]
        return ops.concatenate([ops.convert_to_tensor(self._fixed), *own])

    def values(self) -> dict[str, np.ndarray]:
        """The new words with their vectors as they are now."""
        own = map(backend.to_numpy, self.vectors)
        return dict(zip(self.names, own, strict=True))

    @property
    def learned(self) -> LearnedWords:
        """The words that tokens stand for beyond the table."""
        return self._learned["words"]


def check_new(new: NewWords, tokenizer, others: Collection[str]) -> None:
    """A word must mean nothing yet.

    Args:
        new: It.
        tokenizer: A text encoder's.
        others: Words that were learned before.

    Raises:
        ValueError: If it does.
    """
    if new.word in others or len(tokenizer.tokens(new.word)) < 2:
        raise ValueError(
            "A new word must be none that the model knows: put it in angle brackets, "
            f"such as <{new.word.strip('<>')}-1>. Received: {new.word!r}"
        )


def _begin(new: NewWords, tokenizer, table, random) -> np.ndarray:
    """The vectors that a word begins with."""
    if new.begin is None:
        values = random.normal(size=(new.vectors, table.shape[1]))
        values = table.mean(axis=0) + table.std(axis=0) * values
        return values.astype("float32")
    ids = tokenizer.tokens(new.begin)
    if not ids:
        raise ValueError(
            f"`begin` must be a text that has tokens. Received: begin={new.begin!r}"
        )
    return table[[ids[i % len(ids)] for i in range(new.vectors)]].copy()
