"""From prompts to what the denoiser takes: branches, their shares and their variants.

Each picture has the prompts that `AND` joins, one a branch; each prompt has stages,
and what all branches say at one network call is a variant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kerasdiffusion.prompts.chunks import power_of_two
from kerasdiffusion.prompts.encode import same_length
from kerasdiffusion.prompts.schedule import Stage, schedule
from kerasdiffusion.prompts.syntax import compose


@dataclass(frozen=True, eq=False)
class Ready:
    """A prompt that is encoded already.

    Args:
        context: float32 of shape `(tokens, width)`.
        pooled: Its pooled text, `(width,)`, where the model takes such.
    """

    context: np.ndarray
    pooled: np.ndarray | None = None


#: A prompt; one for each text encoder; its context; or `None`, vectors of zeros.
Prompt = str | tuple[str, ...] | np.ndarray | Ready | None


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
    calls_before: int = 0,
) -> Branches:
    """Encodes prompts for the network calls of a run.

    Steps are counted as A1111 counts them: they are network calls, of which a sampler
    of second order has two a step; and `[from:to:5]` says `from` in calls 0 to 5.

    Args:
        prompts: One for each picture.
        negatives: One for each picture; not all prompts and negatives are `None`.
        guided: Whether the guidance scale asks for the unconditional branch. Shares
            other than 1 do too.
        steps: int of shape `(network calls,)`: the step of each, as in a `Table`.
        num_steps: Steps of the whole schedule.
        encode: Takes texts that belong together (or tuples of them, one for each text
            encoder) and returns their context, float32 `(texts, tokens, width)`, and
            their pooled text or `None`.
        empty: Returns the context of the empty prompt, `(context_length, width)`; only
            called where contexts must be padded.
        literal: Whether prompts are plain text.
        calls_before: Network calls of the schedule that another model has made.

    Returns:
        `Branches`, with variants to a power of two.

    Raises:
        ValueError: If contexts have not the same number of tokens, and cannot be
            padded to it by whole chunks; or if what two text encoders read for one
            picture has not the same number of parts.
    """
    calls = calls_before + np.arange(len(steps))
    total = num_steps * round(len(steps) / len(set(steps.tolist())))
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

    contexts, pooled = told.arrays(empty)
    found = [contexts[row.T] for row in variants]
    if pooled is not None:
        pooled = [pooled[row.T] for row in variants]
    return Branches(found, pooled, shares, seen)


def _compose(prompt: Prompt, literal: bool) -> list:
    """What `AND` joins, and the share of each; those of the first text encoder."""
    if literal or not isinstance(prompt, (str, tuple)):
        return [(prompt, 1.0)]
    if isinstance(prompt, str):
        return [tuple(span) for span in compose(prompt)]
    each = [compose(text) for text in prompt]
    count = len(each[0])
    if any(len(parts) not in (1, count) for parts in each):
        raise ValueError(
            f"What a second text encoder reads must have one part or {count}, as many "
            f"as AND joins in the prompt. Received: {prompt!r}"
        )
    return [
        (tuple(parts[i % len(parts)].text for parts in each), each[0][i].weight)
        for i in range(count)
    ]


class _Told:
    """What prompts say at each call, as numbers of contexts; each is encoded once."""

    def __init__(self, calls: np.ndarray, total: int, encode: Callable, literal: bool):
        self.calls, self.total = calls, total
        self.encode, self.literal = encode, literal
        self._ready: list[Ready | None] = []
        self._known: dict = {}

    def at_calls(self, prompt: Prompt) -> np.ndarray:
        """int of shape `(calls,)`."""
        is_text = isinstance(prompt, (str, tuple))
        key = prompt if is_text else id(prompt)
        if key not in self._known:
            if is_text:
                self._known[key] = self._text(prompt)
            else:
                is_context = isinstance(prompt, np.ndarray)
                ready = Ready(prompt) if is_context else prompt
                self._known[key] = np.full(len(self.calls), self._add(ready))
        return self._known[key]

    def arrays(self, empty: Callable) -> tuple[np.ndarray, np.ndarray | None]:
        """All contexts, of one length, and all pooled text, or `None`."""
        there = [i for i, ready in enumerate(self._ready) if ready is not None]
        contexts = [self._ready[i].context[None] for i in there]
        contexts = np.concatenate(same_length(contexts, empty))
        pooled = [self._ready[i].pooled for i in there]
        arrays = [contexts, None if pooled[0] is None else np.stack(pooled)]
        for i, values in enumerate(arrays):
            if values is not None and len(there) < len(self._ready):
                arrays[i] = np.zeros((len(self._ready), *values.shape[1:]), "float32")
                arrays[i][there] = values
        return tuple(arrays)

    def _stages(self, prompt: str | tuple[str, ...]) -> list[Stage]:
        if self.literal:
            return [Stage(self.total, prompt)]
        if isinstance(prompt, str):
            return schedule(prompt, self.total)
        # A stage ends where one does of what any text encoder reads.
        each = [schedule(text, self.total) for text in prompt]
        lasts = sorted({stage.last for stages in each for stage in stages})
        return [
            Stage(last, tuple(_stage_at(stages, last).text for stages in each))
            for last in lasts
        ]

    def _text(self, prompt: str | tuple[str, ...]) -> np.ndarray:
        stages = self._stages(prompt)
        texts = [stage.text for stage in stages]
        contexts, pooled = self.encode(texts)
        pooled = [None] * len(texts) if pooled is None else pooled
        numbers: dict = {}
        for text, context, vector in zip(texts, contexts, pooled, strict=True):
            if text not in numbers:
                numbers[text] = self._add(Ready(context, vector))
        lasts = [stage.last for stage in stages]
        at = np.searchsorted(lasts, self.calls, side="left")
        # As in A1111, calls behind the last stage see the first.
        return np.array([numbers[texts[i if i < len(texts) else 0]] for i in at])

    def _add(self, ready: Ready | None) -> int:
        self._ready.append(ready)
        return len(self._ready) - 1


def _stage_at(stages: Sequence[Stage], call: int) -> Stage:
    """The stage that a call is in; behind the last, the first, as in A1111."""
    return next((stage for stage in stages if stage.last >= call), stages[0])


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
