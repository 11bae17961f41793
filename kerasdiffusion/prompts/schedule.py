"""Prompts that change on the way: `[from:to:when]` and `[a|b]`, as A1111 reads them.

| written | means |
| --- | --- |
| `[from:to:0.25]` | `to` after a quarter of the steps |
| `[from:to:5]` | `to` after step 5 |
| `[to:5]`, `[from::5]` | nothing before, nothing after |
| `[a|b|c]` | each in turn, a step long |

Constructs nest. Brackets that are none of these are left for `parse`.

Reference:
    AUTOMATIC1111/stable-diffusion-webui, `modules/prompt_parser.py`, whose grammar
    this recognises in one pass: a construct holds nothing but text and constructs, so
    which brackets belong together is never in doubt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from kerasdiffusion.prompts.limits import check_length, check_nesting

# The text between signs, where a backslash takes the next character along.
_PIECES = re.compile(r"(?:[^\\\[\]():|]|\\.)+|[\[\]():|]")
_NUMBER = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*")
_PAIRS = {"]": "[", ")": "("}


class Stage(NamedTuple):
    """What a prompt says up to a step, and that step, counted from 1."""

    last: int
    text: str


class _Edit(NamedTuple):
    """`[before:after:when]`."""

    before: list
    after: list
    when: str


class _Turns(NamedTuple):
    """`[a|b]`."""

    parts: list


@dataclass
class _Frame:
    """A bracket that is open: its parts so far and the signs between them."""

    sign: str
    parts: list[list] = field(default_factory=lambda: [[]])
    between: list[str] = field(default_factory=list)

    def flat(self) -> list:
        """As the text that it is if it is no construct."""
        items = [self.sign, *self.parts[0]]
        for sign, part in zip(self.between, self.parts[1:], strict=True):
            items += [sign, *part]
        return items


class _NotOfTheGrammar(Exception):
    """A sign where the grammar has none: the whole prompt is text."""


def schedule(prompt: str, num_steps: int) -> list[Stage]:
    """What a prompt says at each step of a run.

    Args:
        prompt: A prompt without `AND`, which `compose` takes out.
        num_steps: Steps of the run, 1 or more. `when` is a share of them if it is
            written with a point, else a step.

    Returns:
        At least one `Stage`, by their steps; the last one's is `num_steps`.

    Raises:
        ValueError: If the prompt is over a limit (`prompts.limits`).

    Example:

    >>> schedule("a [red:green:0.5] apple", 10)
    [Stage(last=5, text='a red apple'), Stage(last=10, text='a green apple')]
    """
    check_length(prompt)
    try:
        items = _read(prompt)
    except _NotOfTheGrammar:
        return [Stage(num_steps, prompt)]
    ends = {num_steps}
    for item in _walk(items):
        if isinstance(item, _Turns):
            ends.update(range(1, num_steps + 1))
        elif isinstance(item, _Edit):
            ends.add(max(_when(item, num_steps), 0))
    return [Stage(end, _at(items, end, num_steps)) for end in sorted(ends) if end >= 1]


def _when(edit: _Edit, num_steps: int) -> int:
    """The last step of what comes before; 0 or less if there is none."""
    value = float(edit.when) * (num_steps if "." in edit.when else 1)
    # Bounds first: a number may be written that is infinite.
    return int(min(max(value, -1.0), num_steps))


def _read(prompt: str) -> list:
    """Text and constructs, in order."""
    top: list = []
    frames: list[_Frame] = []

    def target() -> list:
        return frames[-1].parts[-1] if frames else top

    def undo() -> None:
        """No open bracket can hold what follows: they were text."""
        for frame in frames:
            items = frame.flat()
            if "|" in frame.between:
                raise _NotOfTheGrammar
            top.extend(items)
        frames.clear()

    end = 0
    for match in _PIECES.finditer(prompt):
        if match.start() != end:
            raise _NotOfTheGrammar  # a backslash with nothing to take along
        end, piece = match.end(), match.group()
        if piece in ("[", "("):
            frames.append(_Frame(piece))
            check_nesting(len(frames), prompt)
        elif piece in (":", "|") and frames:
            frames[-1].parts.append([])
            frames[-1].between.append(piece)
        elif piece in _PAIRS:
            matches = frames and frames[-1].sign == _PAIRS[piece]
            items = _close(frames[-1]) if matches else None
            if items is None:
                undo()
                top.append(piece)
            else:
                frames.pop()
                target().extend(items)
        elif piece == "|":
            raise _NotOfTheGrammar
        else:
            target().append(piece)
    if end != len(prompt):
        raise _NotOfTheGrammar
    undo()
    return top


def _close(frame: _Frame) -> list | None:
    """What a closed bracket is: a construct, emphasis, or `None` if neither."""
    signs, parts = set(frame.between), frame.parts
    if frame.sign == "(":
        emphasis = not signs or frame.between == [":"]
        return [*frame.flat(), ")"] if emphasis else None
    if not signs:
        return [*frame.flat(), "]"]
    if signs == {"|"}:
        return [_Turns(parts)]
    if signs == {":"} and len(parts) <= 3 and all(_is_text(x) for x in parts[-1]):
        when = _NUMBER.fullmatch("".join(parts[-1]))
        if when:
            before = parts[0] if len(parts) == 3 else []
            return [_Edit(before, parts[-2], when.group(1))]
    return None


def _is_text(item) -> bool:
    return isinstance(item, str)


def _walk(items: list) -> Iterator:
    """Every construct, however deep."""
    stack = [items]
    while stack:
        for item in stack.pop():
            if isinstance(item, _Edit):
                stack += [item.before, item.after]
            elif isinstance(item, _Turns):
                stack += item.parts
            else:
                continue
            yield item


def _at(items: list, step: int, num_steps: int) -> str:
    """The text at a step."""
    texts, stack = [], list(reversed(items))
    while stack:
        item = stack.pop()
        if isinstance(item, _Edit):
            seen = item.before if step <= _when(item, num_steps) else item.after
            stack += reversed(seen)
        elif isinstance(item, _Turns):
            stack += reversed(item.parts[(step - 1) % len(item.parts)])
        else:
            texts.append(item)
    return "".join(texts)
