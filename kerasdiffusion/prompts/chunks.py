"""Prompts of any length as chunks of what the text encoder reads at once.

Reference:
    AUTOMATIC1111/stable-diffusion-webui, `modules/sd_hijack_clip.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from kerasdiffusion.prompts.syntax import BREAK, Span

#: Tokens that a chunk gives up at most, so that the next begins behind a comma.
BACKTRACK = 20
NO_SPAN = -1


@dataclass(frozen=True)
class Chunk:
    """Start, tokens, end and padding: one call of the text encoder.

    Args:
        tokens: int32 of shape `(context_length,)`.
        weights: float32 of the same shape; 1 where nothing was said.
        spans: int32 of the same shape: the span that a token belongs to, or
            `NO_SPAN`.
    """

    tokens: np.ndarray
    weights: np.ndarray
    spans: np.ndarray


@dataclass
class LearnedWords:
    """Vectors by name that stand in for tokens (textual inversion).

    A name is found by its tokens, as A1111 does it; a name in angle brackets, which
    diffusers makes a token of its own, is found in the text.

    Args:
        size: Rows of the token table; ids from there on are these vectors.
    """

    size: int
    vectors: dict[str, np.ndarray] = field(default_factory=dict)

    def ids(self, name: str) -> list[int]:
        """The ids of a name's vectors."""
        start = self.size
        for each, vectors in self.vectors.items():
            if each == name:
                return list(range(start, start + len(vectors)))
            start += len(vectors)
        raise KeyError(name)

    def table(self) -> np.ndarray:
        """All vectors, with zeros after them up to a power of two."""
        rows = np.concatenate(list(self.vectors.values()))
        return np.pad(rows, [(0, power_of_two(len(rows)) - len(rows)), (0, 0)])


def power_of_two(count: int) -> int:
    """The smallest that is no less: few sizes mean few compiled programs."""
    return 1 << max(count - 1, 0).bit_length()


def chunks(
    spans: Sequence[Span],
    tokenizer,
    learned: LearnedWords | None = None,
    backtrack: int = BACKTRACK,
) -> list[Chunk]:
    """A parsed prompt in chunks.

    A chunk that is full ends behind its last comma, if there is one among the last
    `backtrack` tokens.

    Args:
        spans: What `parse` gave.
        tokenizer: A `Tokenizer`.
        learned: Words that have vectors of their own.
        backtrack: Tokens that move to the next chunk at most; 0 is never.

    Returns:
        At least one `Chunk`.
    """
    filling = _Filling(tokenizer)
    comma = tokenizer.vocabulary.ids.get(",</w>")
    for number, (text, weight) in enumerate(spans):
        if (text, weight) == BREAK:
            filling.close()
            continue
        for ids, is_comma in _words(text, tokenizer, learned, comma):
            if is_comma:
                filling.comma = len(filling.tokens)
            elif filling.is_full and filling.can_backtrack(backtrack):
                filling.split(filling.comma + 1)
            if filling.is_full or len(filling.tokens) + len(ids) > filling.room:
                filling.close()
            # Vectors that no chunk has room for lose their end.
            filling.add(ids[: filling.room], weight, number)
    if filling.tokens or not filling.done:
        filling.close()
    return filling.done


def empty_chunk(tokenizer) -> Chunk:
    """The chunk of the empty prompt, which longer prompts are padded with."""
    return chunks([Span("", 1.0)], tokenizer)[0]


def in_chunks(
    text: str, tokenizer, learned: LearnedWords | None = None, count: int = 1
) -> tuple[np.ndarray, bool]:
    """A text as it stands, brackets and all, in so many chunks.

    Args:
        text: What is read.
        tokenizer: A `Tokenizer`.
        learned: Words that have vectors of their own.
        count: Chunks; those of the empty prompt fill them up.

    Returns:
        int32 tokens of shape `(count * context_length,)`, and whether the text's end
        is cut off.
    """
    # What is cut is cut as late as can be.
    found = chunks([Span(text, 1.0)], tokenizer, learned, BACKTRACK * (count > 1))
    missing = [empty_chunk(tokenizer)] * (count - len(found))
    tokens = [each.tokens for each in [*found, *missing][:count]]
    return np.concatenate(tokens), len(found) > count


class _Filling:
    """The chunk that is being filled, and those before it."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.room = tokenizer.config.context_length - 2
        self.done: list[Chunk] = []
        self.tokens: list[tuple[int, float, int]] = []
        self.comma = -1

    @property
    def is_full(self) -> bool:
        return len(self.tokens) == self.room

    def can_backtrack(self, backtrack: int) -> bool:
        return self.comma >= 0 and len(self.tokens) - self.comma <= backtrack

    def add(self, ids, weight, span) -> None:
        self.tokens += [(token, weight, span) for token in ids]

    def split(self, at: int) -> None:
        """Ends the chunk before a token; those from there on begin the next."""
        rest = self.tokens[at:]
        del self.tokens[at:]
        self.close()
        self.tokens = rest

    def close(self) -> None:
        length, count = self.room + 2, len(self.tokens)
        tokens = np.full(length, self.tokenizer.pad_id, np.int32)
        weights = np.ones(length, np.float32)
        spans = np.full(length, NO_SPAN, np.int32)
        tokens[0], tokens[count + 1] = self.tokenizer.start_id, self.tokenizer.end_id
        for i, (token, weight, span) in enumerate(self.tokens, 1):
            tokens[i], weights[i], spans[i] = token, weight, span
        self.done.append(Chunk(tokens, weights, spans))
        self.tokens, self.comma = [], -1


def _words(text, tokenizer, learned, comma) -> Iterator[tuple[list[int], bool]]:
    """Each token alone, and the vectors of a learned word together."""
    names = list(learned.vectors) if learned else []
    for name in sorted(names, key=len, reverse=True):  # ComfyUI writes them so
        text = text.replace(f"embedding:{name}", name)
    bracketed = [name for name in names if re.fullmatch("<.*>", name)]
    if bracketed:
        longest_first = sorted(bracketed, key=len, reverse=True)
        pattern = f"({'|'.join(map(re.escape, longest_first))})"
        pieces = re.split(pattern, text, flags=re.IGNORECASE)
    else:
        pieces = [text]
    by_case = {name.lower(): name for name in bracketed}
    known = [(tokenizer.tokens(name), name) for name in names]
    known.sort(key=lambda pair: len(pair[0]), reverse=True)
    for i, piece in enumerate(pieces):
        if i % 2:
            yield learned.ids(by_case[piece.lower()]), False
            continue
        tokens, position = tokenizer.tokens(piece), 0
        while position < len(tokens):
            for ids, name in known:
                if ids and tokens[position : position + len(ids)] == ids:
                    yield learned.ids(name), tokens[position] == comma
                    position += len(ids)
                    break
            else:
                yield [tokens[position]], tokens[position] == comma
                position += 1
