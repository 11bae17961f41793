"""What a token's weight does to its vector: A1111's way, compel's, or nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from kerasdiffusion.prompts.chunks import NO_SPAN, Chunk

WEIGHTINGS = ("a1111", "compel", "none")


def scale_and_restore_mean(contexts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Vectors times their weights; the mean of all numbers stays as it was.

    Args:
        contexts: One chunk of each text: float32 `(texts, tokens, width)`. A1111 takes
            the mean over all stages of a prompt at once.
        weights: float32 of shape `(texts, tokens)`.

    Returns:
        float32 of the shape of `contexts`.

    Reference:
        AUTOMATIC1111/stable-diffusion-webui, `modules/sd_emphasis.py`, "Original".
    """
    if (weights == 1.0).all():
        return contexts
    before = contexts.mean(dtype=np.float64)
    contexts = contexts * weights[..., None]
    return contexts * np.float32(before / contexts.mean(dtype=np.float64))


def blend_from_empty(
    chunks: Sequence[Chunk],
    weights_of_spans: Sequence[float],
    encode: Callable[..., np.ndarray],
    empty: np.ndarray,
) -> np.ndarray:
    """Vectors drawn away from those of the empty prompt, as far as weights say.

    For each span of a weight below 1, the result is drawn towards the prompt in which
    nobody sees that span: halfway at 0.5, all the way at 0.

    Args:
        chunks: The chunks of one prompt.
        weights_of_spans: The weight of each of its spans.
        encode: Takes a chunk's tokens and, as a keyword, which of them are `seen`, and
            returns its vectors, `(tokens, width)`.
        empty: Vectors of the empty prompt, `(tokens, width)`.

    Returns:
        float32 of shape `(chunks, tokens, width)`.

    Reference:
        damian0815/compel 2.1, `embeddings_provider.py`, with `DownweightMode.MASK`.
    """

    def blended(hidden: int | None) -> np.ndarray:
        rows = []
        for chunk in chunks:
            # Seen or not, start and end are nobody's span.
            seen = None if hidden is None else chunk.spans != hidden
            context = encode(chunk.tokens, seen=seen)
            factors = chunk.weights[:, None]
            drawn = empty + (context - empty) * factors
            rows.append(np.where(factors == 1.0, context, drawn))
        return np.stack(rows)

    present = set(np.concatenate([chunk.spans for chunk in chunks])) - {NO_SPAN}
    total, sum_of_shares = blended(None), 1.0
    for span in sorted(present):
        weight = weights_of_spans[span]
        if weight < 1.0:
            share = math.tan((1.0 - max(weight, 1e-5)) * math.pi / 2)
            total = total + np.float32(share) * blended(span)
            sum_of_shares += share
    return total / np.float32(sum_of_shares)
