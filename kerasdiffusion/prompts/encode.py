"""From texts to context: chunks through one text encoder or several, weighted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from kerasdiffusion.prompts.chunks import Chunk, LearnedWords, chunks, empty_chunk
from kerasdiffusion.prompts.syntax import Span, parse_text
from kerasdiffusion.prompts.weighting import blend_from_empty, scale_and_restore_mean
from kerasdiffusion.storage.bounds import check_bound


@dataclass
class Encoder:
    """One text encoder as prompts see it; remembers the chunks of a call.

    Args:
        tokenizer: Its `Tokenizer`.
        run: Takes tokens `(1, tokens)` and which of them are seen, of the same shape,
            or `None`, and returns the context `(1, tokens, width)`, float32; or that
            and the pooled text `(1, width)`.
        weighting: One of `weighting.WEIGHTINGS`.
        learned: Words with vectors of their own, if there are any.
    """

    tokenizer: object
    run: Callable
    weighting: str = "a1111"
    learned: LearnedWords | None = None
    _seen: dict = field(default_factory=dict)

    def texts(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
        """Context of texts that belong together: the stages of one prompt.

        Args:
            texts: Prompts without editing, alternation and `AND`.

        Returns:
            float32 of shape `(texts, chunks * context_length, width)`, all padded to
            the longest by empty chunks; and the pooled text of their first chunks,
            `(texts, width)`, or `None`.

        Raises:
            ValueError: If the texts are over a limit.
        """
        literal = self.weighting == "none"
        spans, rows, count = [], [], 0
        for text in texts:
            spans.append([Span(text, 1.0)] if literal else parse_text(text))
            rows.append(chunks(spans[-1], self.tokenizer, self.learned))
            count = max(count, len(rows[-1]))
            check_bound("prompt_chunks", count, texts[0])
            check_bound("prompt_stages", count * len(texts), texts[0])
        empty = empty_chunk(self.tokenizer)
        rows = [row + [empty] * (count - len(row)) for row in rows]
        if self.weighting == "compel":
            contexts = np.stack(
                [
                    self._compel(row, [span.weight for span in each])
                    for row, each in zip(rows, spans, strict=True)
                ]
            )
        else:
            contexts = np.stack(
                [self._a1111(column) for column in zip(*rows, strict=True)], axis=1
            )
        pooled = [self._outputs(row[0].tokens)[1] for row in rows]
        return (
            contexts.reshape(len(texts), -1, contexts.shape[-1]),
            None if pooled[0] is None else np.stack(pooled),
        )

    def empty(self) -> np.ndarray:
        """Context of the empty prompt, `(context_length, width)`."""
        return self._context(empty_chunk(self.tokenizer).tokens)

    def _a1111(self, column: Sequence[Chunk]) -> np.ndarray:
        contexts = np.stack([self._context(chunk.tokens) for chunk in column])
        weights = np.stack([chunk.weights for chunk in column])
        return scale_and_restore_mean(contexts, weights)

    def _compel(self, row: Sequence[Chunk], weights: Sequence[float]) -> np.ndarray:
        return blend_from_empty(row, weights, self._context, self.empty())

    def _context(self, tokens: np.ndarray, seen: np.ndarray | None = None):
        return self._outputs(tokens, seen)[0]

    def _outputs(self, tokens, seen=None):
        """Context and pooled text of a chunk. One at a time: any number of prompts is
        the same program, and the same chunk is computed once."""
        key = tokens.tobytes(), None if seen is None else seen.tobytes()
        if key not in self._seen:
            outputs = self.run(tokens[None], None if seen is None else seen[None])
            outputs = outputs if isinstance(outputs, tuple) else (outputs, None)
            self._seen[key] = [None if x is None else x[0] for x in outputs]
        return self._seen[key]


def encode(
    encoders: Sequence[Encoder], texts: Sequence[Sequence[str]]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Context of texts that belong together, from all encoders side by side.

    Args:
        encoders: One `Encoder` or more, all of the same context length.
        texts: The texts that each encoder reads; as many for each.

    Returns:
        float32 of shape `(texts, tokens, sum of widths)`, and the pooled text of the
        last encoder, or `None`.
    """
    found = [encoder.texts(each) for encoder, each in zip(encoders, texts, strict=True)]
    length = max(context.shape[1] for context, _ in found)
    contexts = [
        pad(context, length, encoder.empty)
        for (context, _), encoder in zip(found, encoders, strict=True)
    ]
    return np.concatenate(contexts, axis=-1), found[-1][1]


def empty(encoders: Sequence[Encoder]) -> np.ndarray:
    """Context of the empty prompt, `(context_length, sum of widths)`."""
    return np.concatenate([encoder.empty() for encoder in encoders], axis=-1)


def same_length(contexts: list[np.ndarray], empty: Callable) -> list[np.ndarray]:
    """All padded to the longest, by chunks of the empty prompt.

    Raises:
        ValueError: If lengths differ by no whole chunks.
    """
    lengths = sorted({context.shape[1] for context in contexts})
    if len(lengths) > 1 and any(length % len(empty()) for length in lengths):
        raise ValueError(
            f"`encoded_text` must have {len(empty())} tokens, as negative prompts "
            f"have, or a multiple. Received: contexts of {lengths} tokens"
        )
    return [pad(context, lengths[-1], empty) for context in contexts]


def pad(context: np.ndarray, length: int, empty: Callable) -> np.ndarray:
    """Context of as many tokens as told, by empty chunks at the end.

    Args:
        context: float32 of shape `(texts, tokens, width)`.
        length: Tokens, more by a multiple of the chunk's.
        empty: Returns one chunk of the empty prompt, `(context_length, width)`; only
            called where it is needed.
    """
    missing = length - context.shape[1]
    if not missing:
        return context
    chunk = empty()
    more = np.tile(chunk, (len(context), missing // len(chunk), 1))
    return np.concatenate([context, more], axis=1)
