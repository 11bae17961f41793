"""How many tokens a prompt has, and how many its chunks take."""

from __future__ import annotations

from kerasdiffusion.prompts.chunks import NO_SPAN, chunks
from kerasdiffusion.prompts.schedule import schedule
from kerasdiffusion.prompts.syntax import compose, parse_text
from kerasdiffusion.prompts.tags import split_tags
from kerasdiffusion.storage.bounds import BOUNDS

#: Steps of which a prompt's stages are read.
_STEPS = 20


def tokens(text: str, tokenizer) -> tuple[int, int]:
    """Tokens of a prompt's longest part, and how many fit in its chunks.

    Args:
        text: A prompt in the language of `kerasdiffusion.prompts`.
        tokenizer: The model's.

    Returns:
        What is counted and what there is room for: 75 of a chunk of 77.
    """
    most, room = 0, tokenizer.config.context_length - 2
    if len(text) > BOUNDS["prompt_characters"].most:
        raise ValueError("A prompt has fewer characters.")
    for part in compose(split_tags(text)[0]):
        for stage in schedule(part.text, _STEPS):
            found = chunks(parse_text(stage.text), tokenizer)
            count = sum(int((each.spans != NO_SPAN).sum()) for each in found)
            if count >= most:
                most, room = count, (tokenizer.config.context_length - 2) * len(found)
    return most, room


def told(text: str, tokenizer) -> str:
    """The count as the page shows it."""
    try:
        count, room = tokens(text or "", tokenizer)
    except ValueError:  # half written: brackets that are open
        return ""
    return f"{count} / {room} tokens"
