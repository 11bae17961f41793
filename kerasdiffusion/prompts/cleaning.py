"""Prompts as CLIP's tokenizer cleans them: mended, unescaped, single-spaced, lower."""

from __future__ import annotations

import html
import unicodedata

import regex

from kerasdiffusion.storage.bounds import check_bound

#: Ampersands and semicolons of a text, with what becomes one, that ftfy is given as
#: they are: each of its passes over the text takes one of them away at least.
_FEW = 128
_MARKS = regex.compile("[&;\uff06\ufe60\uff1b\ufe54\u037e]")
_AMPERSANDS = regex.compile("[&\uff06\ufe60]")
#: Characters of a text up to which its combining marks are put in order whatever they
#: are: that takes the square of how many there are in a row.
_SHORT = 2000
_COMBINING = regex.compile(r"\p{M}+")


def clean(text: str) -> str:
    """A text as CLIP reads it.

    Args:
        text: A prompt, or a part of one.

    Raises:
        ValueError: If HTML entities are in each other deeper than any text has them, or
            a character has more combining marks.

    Example:

    >>> clean("A  R&eacute;d\\nApple")
    'a réd apple'

    Reference: `clip/simple_tokenizer.py` of openai/CLIP.
    """
    # Most prompts are plain ASCII, on which the costly mending does nothing.
    if "&" in text or not (text.isascii() and text.isprintable()):
        text = html.unescape(html.unescape(_mended(text)))
    # `regex` counts other characters as space than `str.split` does.
    return regex.sub(r"\s+", " ", text.strip()).strip().lower()


def _mended(text: str) -> str:
    """What ftfy makes of a text, in a time that grows with its length.

    ftfy unescapes one entity within another for each time that it goes over the whole.
    """
    from ftfy.fixes import unescape_html

    marks = sum(1 for _ in _MARKS.finditer(text))
    if "<" in text or marks <= _FEW or not _AMPERSANDS.search(text):
        return _fixed(text)
    level, before = 0, None
    while text != before:
        check_bound("prompt_entities", level, text)
        before, text = text, _fixed(unescape_html(text), unescape_html=False)
        level += 1
    return text


def _fixed(text: str, **options) -> str:
    """What `ftfy.fix_text` makes of a text, whose marks are counted if it is long."""
    import ftfy

    if len(text) <= _SHORT:
        return ftfy.fix_text(text, **options)
    before = None
    while text != before:
        before, text = text, ftfy.fix_text(text, normalization=None, **options)
        marks = max(map(len, _COMBINING.findall(text)), default=0)
        check_bound("prompt_marks", marks, text)
        text = unicodedata.normalize("NFC", text)
    return text
