r"""The language of prompts: emphasis, `BREAK` and `AND`, as A1111 reads them.

| written | means |
| --- | --- |
| `(word)` | weight times 1.1 |
| `[word]` | weight divided by 1.1 |
| `(word:1.3)` | weight times 1.3 |
| `\(`, `\)`, `\[`, `\]`, `\\` | the character itself |
| `a BREAK b` | `b` begins a new chunk of tokens |
| `a AND b:0.5` | two prompts, the second half as strong |

Reference:
    AUTOMATIC1111/stable-diffusion-webui, `modules/prompt_parser.py`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kerasdiffusion.prompts.limits import check_length, check_nesting, check_weight
from kerasdiffusion.prompts.tags import split_tags
from kerasdiffusion.storage.bounds import check_bound, shown

STRONGER = 1.1
WEAKER = 1 / 1.1

# An escape, a lone backslash, a weight with its bracket, one sign, or text.
_PIECES = re.compile(r"\\[()\[\]\\]|\\|:\s*([+-]?[.\d]+)\s*\)|[()\[\]:]|[^\\()\[\]:]+")
_BREAK = re.compile(r"\bBREAK\b")
_AND = re.compile(r"\bAND\b")
_SHARE = re.compile(r"[-+]?(?:\d+\.?|\d*\.\d+)")


class Span(NamedTuple):
    """A piece of a prompt whose tokens all have the same weight."""

    text: str
    weight: float


#: What stands in `parse`'s list where a new chunk begins.
BREAK = Span("BREAK", -1.0)


def parse(prompt: str) -> list[Span]:
    r"""The pieces of a prompt with their weights.

    Brackets multiply when they are nested; one that is never closed reaches to the
    end of the prompt, and one that was never opened is text. Tags and remarks are
    taken out first (`split_tags`).

    Args:
        prompt: A prompt without editing, alternation and `AND`, which `schedule` and
            `compose` take out.

    Returns:
        At least one `Span`. Between two chunks stands `BREAK`; inside a bracket with
        a weight, `BREAK` is multiplied too and so is a word (as in A1111).

    Raises:
        ValueError: If a weight is no number, as in `(word:1.2.3)`, or the prompt is
            over a limit (`prompts.limits`).

    Example:

    >>> parse(r"a (red:1.5) \(apple\)")
    [Span(text='a ', weight=1.0), Span(text='red', weight=1.5), Span(text=' (apple)', weight=1.0)]
    """  # noqa: E501
    return parse_text(split_tags(prompt)[0])


def parse_text(prompt: str) -> list[Span]:
    """As `parse`, of a prompt whose tags and remarks are taken out, or are text."""
    check_length(prompt)
    texts: list[str] = []
    weights: list[float] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def multiply(start: int, factor: float) -> None:
        for i in range(start, len(weights)):
            weights[i] *= factor

    def add(text: str, weight: float = 1.0) -> None:
        texts.append(text)
        weights.append(weight)

    for match in _PIECES.finditer(prompt):
        piece, weight = match.group(), match.group(1)
        if piece[0] == "\\":
            add(piece[1:])
        elif piece in opened:
            opened[piece].append(len(texts))
            check_nesting(len(opened["("]) + len(opened["["]), prompt)
        elif weight is not None and opened["("]:
            multiply(opened["("].pop(), _number(weight, prompt))
        elif piece == ")" and opened["("]:
            multiply(opened["("].pop(), STRONGER)
        elif piece == "]" and opened["["]:
            multiply(opened["["].pop(), WEAKER)
        else:
            # The space beside BREAK is part of it.
            first, *others = _BREAK.split(piece)
            add(first.rstrip() if others else first)
            for i, part in enumerate(others, 1):
                add(*BREAK)
                add(part.lstrip() if i == len(others) else part.strip())
    for start in opened["("]:
        multiply(start, STRONGER)
    for start in opened["["]:
        multiply(start, WEAKER)
    for text, weight in zip(texts, weights, strict=True):
        check_weight(weight, text, prompt)
    return _merged(texts, weights)


def _number(weight: str, prompt: str) -> float:
    try:
        return float(weight)
    except ValueError:
        raise ValueError(
            f"A weight in a prompt must be a number, as in (word:1.2). "
            f"Received: {shown(weight)} in {shown(prompt)}"
        ) from None


def _merged(texts: list[str], weights: list[float]) -> list[Span]:
    """Neighbours of the same weight as one."""
    spans: list[tuple[list[str], float]] = []
    for text, weight in zip(texts, weights, strict=True):
        if spans and spans[-1][1] == weight:
            spans[-1][0].append(text)
        else:
            spans.append(([text], weight))
    joined = [Span("".join(parts), weight) for parts, weight in spans]
    return joined or [Span("", 1.0)]


def compose(prompt: str) -> list[Span]:
    """The prompts that `AND` joins, each with its share of the guidance.

    The share follows a colon at the end; it is 1 if there is none. A prompt without
    `AND` has none: there A1111 takes `"at 12:30"` for `"at 12"` thirty times over.

    Args:
        prompt: A prompt.

    Returns:
        At least one `Span`.

    Raises:
        ValueError: If the prompt is over a limit (`prompts.limits`).

    Example:

    >>> compose("a cat AND a dog :0.5")
    [Span(text='a cat', weight=1.0), Span(text=' a dog', weight=0.5)]

    Reference:
        Liu et al. 2022, "Compositional Visual Generation with Composable Diffusion
        Models"; A1111's `get_multicond_prompt_list`.
    """
    check_length(prompt)
    parts = _AND.split(prompt)
    if len(parts) == 1:
        return [Span(prompt, 1.0)]
    check_bound("prompt_branches", len(parts), prompt)
    return [_shared(part, prompt) for part in parts]


def _shared(part: str, prompt: str) -> Span:
    """One of what `AND` joins, and its share; the space behind each is nothing."""
    text, colon, number = part.rpartition(":")
    if colon and _SHARE.fullmatch(number := number.strip()):
        text = text.rstrip()
        return Span(text, check_weight(float(number), text, prompt))
    return Span(part.rstrip(), 1.0)
