"""From prompts to what the denoiser takes: branches, their shares and their variants.

Each picture has the prompts that `AND` joins, one a branch; each prompt has stages,
and what all branches say at one network call is a variant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from kerasdiffusion.prompts.chunks import power_of_two
from kerasdiffusion.prompts.encode import same_length
from kerasdiffusion.prompts.schedule import Stage, schedule
from kerasdiffusion.prompts.syntax import compose

#: A prompt, or its context: float32 of shape `(tokens, width)`.
Prompt = str | np.ndarray


class Branches(NamedTuple):
    """What all branches see.

    Args:
        contexts: One for each branch, float32 of shape `(variants, pictures, tokens,
            width)`; of two or more, the first is the unconditional.
        pooled: The same of the pooled text, `(variants, pictures, width)`, or `None`.
        shares: float32 of shape `(branches - 1, pictures)`.
        variants: int of shape `(network calls,)`: the variant that each sees.
    """

    contexts: list[np.ndarray]
    pooled: list[np.ndarray] | None
    shares: np.ndarray
    variants: np.ndarray


def make_branches(
    prompts: Sequence[Prompt],
    negatives: Sequence[Prompt],
    guided: bool,
    steps: np.ndarray,
    num_steps: int,
    encode: Callable,
    empty: Callable,
    literal: bool = False,
) -> Branches:
    """Encodes prompts for the network calls of a run.

    Steps are counted as A1111 counts them: they are network calls, of which a sampler
    of second order has two a step; and `[from:to:5]` says `from` in calls 0 to 5.

    Args:
        prompts: One for each picture.
        negatives: One for each picture.
        guided: Whether the guidance scale asks for the unconditional branch. Shares
            other than 1 do too.
        steps: int of shape `(network calls,)`: the step of each, as in a `Table`.
        num_steps: Steps of the whole schedule.
        encode: Takes texts that belong together and returns their context, float32
            `(texts, tokens, width)`, and their pooled text or `None`.
        empty: Returns the context of the empty prompt, `(context_length, width)`; only
            called where contexts must be padded.
        literal: Whether prompts are plain text.

    Returns:
        `Branches`, with variants to a power of two.

    Raises:
        ValueError: If contexts have not the same number of tokens, and cannot be
            padded to it by whole chunks.
    """
    calls = len(steps)
    total = num_steps * round(calls / len(set(steps.tolist())))
    parts = [_compose(prompt, literal) for prompt in prompts]
    width = max(map(len, parts))
    shares = np.zeros((width, len(prompts)), "float32")
    for i, part in enumerate(parts):
        shares[: len(part), i] = [weight for _, weight in part]
        # A branch that a picture has not counts nothing, whatever it says.
        parts[i] = part + [part[0]] * (width - len(part))
    rows = [[part[b][0] for part in parts] for b in range(width)]
    if guided or width > 1 or (shares != 1.0).any():
        rows.insert(0, list(negatives))
    shares = shares[-(len(rows) - 1) :] if len(rows) > 1 else shares[:0]

    told = _Told(calls, total, encode, literal)
    said = np.array([[told.at_calls(prompt) for prompt in row] for row in rows])
    variants, seen = np.unique(said, axis=2, return_inverse=True)
    seen = seen.reshape(-1)
    missing = power_of_two(variants.shape[2]) - variants.shape[2]
    variants = np.pad(variants, [(0, 0), (0, 0), (0, missing)], mode="edge")

    contexts = np.concatenate(same_length(told.contexts, empty))
    found = [contexts[row.T] for row in variants]
    pooled = None
    if told.pooled[0] is not None:
        pooled = [np.stack(told.pooled)[row.T] for row in variants]
    return Branches(found, pooled, shares, seen)


def _compose(prompt: Prompt, literal: bool) -> list:
    if literal or not isinstance(prompt, str):
        return [(prompt, 1.0)]
    return [tuple(span) for span in compose(prompt)]


class _Told:
    """What prompts say at each call, as numbers of contexts; each is encoded once."""

    def __init__(self, calls: int, total: int, encode: Callable, literal: bool):
        self.calls, self.total = calls, total
        self.encode, self.literal = encode, literal
        self.contexts: list[np.ndarray] = []
        self.pooled: list = []
        self._known: dict = {}

    def at_calls(self, prompt: Prompt) -> np.ndarray:
        """int of shape `(calls,)`."""
        is_text = isinstance(prompt, str)
        key = prompt if is_text else id(prompt)
        if key not in self._known:
            if is_text:
                self._known[key] = self._text(prompt)
            else:
                self._known[key] = np.full(self.calls, self._add(prompt, None))
        return self._known[key]

    def _text(self, prompt: str) -> np.ndarray:
        stages = [Stage(self.total, prompt)]
        if not self.literal:
            stages = schedule(prompt, self.total)
        texts = [stage.text for stage in stages]
        contexts, pooled = self.encode(texts)
        pooled = [None] * len(texts) if pooled is None else pooled
        numbers: dict[str, int] = {}
        for text, context, vector in zip(texts, contexts, pooled, strict=True):
            if text not in numbers:
                numbers[text] = self._add(context, vector)
        lasts = [stage.last for stage in stages]
        at = np.searchsorted(lasts, np.arange(self.calls), side="left")
        # As in A1111, calls behind the last stage see the first.
        return np.array([numbers[texts[i if i < len(texts) else 0]] for i in at])

    def _add(self, context, pooled) -> int:
        self.contexts.append(context[None])
        self.pooled.append(pooled)
        return len(self.contexts) - 1


def one_text(prompt: str) -> str:
    """A prompt that says one thing from the first step to the last.

    Raises:
        ValueError: If it says several.
    """
    first, *others = compose(prompt)
    if others or len(schedule(first.text, 8)) > 1:
        raise ValueError(
            "`encode_text` gives one context a prompt; a prompt with AND, "
            "[from:to:when] or [a|b] is for `text_to_image`, or is plain text with "
            f"prompt_weighting='none'. Received: {prompt!r}"
        )
    return first.text
