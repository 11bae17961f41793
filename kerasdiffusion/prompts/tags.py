"""What stands in a prompt and is no text: tags of adapters, and remarks.

| written | means |
| --- | --- |
| `<lora:name:0.8>`, `<lyco:name>`, `<hypernet:name>` | an adapter, how much of it |
| `# and the rest of the line` | nothing: a remark |

Both are taken out ahead of all else, so a tag may stand inside of brackets, and no
colon of its own is ever read as a weight.

Reference:
    AUTOMATIC1111/stable-diffusion-webui 1.10: `modules/extra_networks.py` and
    `modules/processing_scripts/comments.py` (since 1.7).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_TAG = re.compile(r"<(\w+):([^>]+)>")
# A line that is a remark takes the line break before it along.
_REMARK_LINE = re.compile(r"(?:\A|\n)#[^\n]*(?:\n|\Z)")
_REMARK = re.compile(r"#[^\n]*(?:\n|\Z)")
_SHOWN = 5
_SHOWN_CHARACTERS = 60


class Tag(NamedTuple):
    """An adapter that a prompt asks for.

    Args:
        kind: What stands first: `"lora"`, `"lyco"` or `"hypernet"`. A1111 takes any
            word, and passes over those that it does not know.
        name: The adapter's.
        arguments: What else stands between colons, as it is written: `("0.8",)`,
            `("1", "0.5")`, `("te=0", "unet=1")`.
    """

    kind: str
    name: str
    arguments: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"<{':'.join((self.kind, self.name, *self.arguments))}>"


def split_tags(prompt: str) -> tuple[str, tuple[Tag, ...]]:
    """A prompt's text, and the tags that stood in it.

    Remarks are taken out first; a tag in one asks for nothing. What stood on both
    sides of a tag joins as it is, spaces included.

    Args:
        prompt: A prompt.

    Returns:
        The text, and the tags in their order. A prompt without any is its own text.

    Example:

    >>> split_tags("a cat <lora:detail:0.8>, ink # of 12")
    ('a cat , ink \\n', (Tag(kind='lora', name='detail', arguments=('0.8',)),))
    """
    text = without_remarks(prompt)
    # Behind the last bracket nothing ends: each piece is looked at once.
    end = text.rfind(">") + 1
    if "<" not in text or not end:
        return text, ()
    tags: list[Tag] = []

    def take(match: re.Match) -> str:
        name, *arguments = match[2].split(":")
        tags.append(Tag(match[1], name, tuple(arguments)))
        return ""

    return _TAG.sub(take, text[:end]) + text[end:], tuple(tags)


def without_remarks(prompt: str) -> str:
    """A prompt without what stands between a `#` and the end of its line."""
    if "#" not in prompt:
        return prompt
    return _REMARK.sub("\n", _REMARK_LINE.sub("\n", prompt))


def take_tags(prompts: Sequence) -> tuple[list, list[tuple[Tag, ...]]]:
    """Prompts without tags and remarks, and the tags of each.

    Args:
        prompts: Texts, tuples of those that several text encoders read, or anything
            else, which stays as it is.

    Returns:
        The prompts, and for each its tags, one of a kind if a tuple repeats it.
    """
    texts, tags = [], []
    for prompt in prompts:
        if isinstance(prompt, str):
            text, found = split_tags(prompt)
        elif isinstance(prompt, tuple):
            each = [split_tags(one) for one in prompt]
            text = tuple(one for one, _ in each)
            found = tuple(dict.fromkeys(tag for _, tags in each for tag in tags))
        else:
            text, found = prompt, ()
        texts.append(text)
        tags.append(found)
    return texts, tags


def take_remarks(negatives: Sequence) -> list:
    """Negative prompts without remarks; a tag in one stays, the text that it is.

    So it is in A1111, which reads tags in prompts alone; a warning says so.
    """
    found, kept = [], []
    for prompt in negatives:
        texts = prompt if isinstance(prompt, tuple) else (prompt,)
        if not isinstance(texts[0], str):
            found.append(prompt)
            continue
        texts = tuple(without_remarks(text) for text in texts)
        kept += [str(tag) for text in texts for tag in split_tags(text)[1]]
        found.append(texts if isinstance(prompt, tuple) else texts[0])
    if kept:
        warnings.warn(
            "A tag in a negative prompt asks for nothing and is read as text, as "
            f"A1111 does: write it into the prompt, or leave it out. Received: "
            f"{_listed(kept)}",
            UserWarning,
            stacklevel=2,
        )
    return found


def warn_of_tags(tags: Iterable[Tag]) -> None:
    """Says which tags were taken out of prompts and are not followed."""
    shown = list(dict.fromkeys(str(tag) for tag in tags))
    if shown:
        warnings.warn(
            f"Taken out of the prompt and not followed: {_listed(shown)}. Between "
            "< and >, a word and a colon name an adapter, as in A1111; with "
            "prompt_weighting='none' they are text",
            UserWarning,
            stacklevel=2,
        )


def warn_of_remarks(prompts: Iterable) -> None:
    """Says which remarks are taken out of prompts."""
    found = []
    for prompt in prompts:
        for text in prompt if isinstance(prompt, tuple) else (prompt,):
            if isinstance(text, str) and "#" in text:
                found += [match[0].strip() for match in _REMARK.finditer(text)]
    if found := list(dict.fromkeys(found)):
        warnings.warn(
            f"Taken out of the prompt: {_listed(found)}. A # begins a remark that "
            "ends with the line, as in A1111; with prompt_weighting='none' it is text",
            UserWarning,
            stacklevel=2,
        )


def _listed(texts: Sequence[str]) -> str:
    """The first few, none of them endless."""
    shown = [
        text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
        for text in texts[:_SHOWN]
    ]
    more = len(texts) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
