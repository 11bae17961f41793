"""Learned words as diffusers keeps them: added tokens, and rows of the token table.

Reference:
    diffusers `loaders/textual_inversion.py`: the second vector of `<toy>` is the token
    `<toy>_1`, the third `<toy>_2`.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping

import numpy as np

from kerasdiffusion.presets.config import ModelConfig


def with_words(
    config: ModelConfig,
    tokenizers: Mapping[str, object],
    learned: Mapping[str, Mapping[str, np.ndarray]],
) -> tuple[ModelConfig, dict[str, object], dict[str, np.ndarray]]:
    """A model that has learned words among its tokens.

    A word that is a token already (`cat` is a piece of others) gets angle brackets,
    with a warning.

    Args:
        config: The model's.
        tokenizers: The `Tokenizer` of each text encoder, by part.
        learned: The vectors of each word, of each text encoder that has learned some.

    Returns:
        The configuration, the tokenizers, and the rows that follow those of each
        tokenizer's own in the table of a text encoder's tokens.
    """
    tokenizers, rows = dict(tokenizers), {}
    for part, words in learned.items():
        if not words:
            continue
        tokenizer, names = tokenizers[part], []
        known = {*tokenizer.vocabulary.ids}
        known |= {token.content for token in tokenizer.vocabulary.added}
        for word, vectors in words.items():
            name = _free(word, len(vectors), known)
            names += _tokens(name, len(vectors))
            known |= set(names)
        vocabulary = tokenizer.vocabulary.with_words(names)
        tokenizers[part] = type(tokenizer)(tokenizer.config, vocabulary)
        rows[part] = np.concatenate(list(words.values())).astype("float32")
        encoder = getattr(config, part)
        end_id = tokenizer.end_id if encoder.projection_width else None
        encoder = dataclasses.replace(
            encoder, vocabulary_size=vocabulary.size, end_id=end_id
        )
        config = config.replace(**{part: encoder})
    return config, tokenizers, rows


def _free(word: str, count: int, known: set[str]) -> str:
    """A name whose tokens are none yet."""
    name = word
    while known & set(_tokens(name, count)):
        name = f"<{name}>"
    if name != word:
        warnings.warn(
            f"The learned word {word!r} is a token already; in the saved model it is "
            f"called {name!r}",
            UserWarning,
            stacklevel=6,
        )
    return name


def _tokens(name: str, count: int) -> list[str]:
    return [name, *(f"{name}_{i}" for i in range(1, count))]
