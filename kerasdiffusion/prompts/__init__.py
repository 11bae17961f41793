"""Prompts as people write them: tags, weights, breaks, editing, composition.

Nothing here imports a framework; `parse` and `schedule` work on their own.
"""

from kerasdiffusion.prompts.schedule import schedule
from kerasdiffusion.prompts.syntax import BREAK, Span, compose, parse
from kerasdiffusion.prompts.tags import Tag, split_tags

__all__ = ["BREAK", "Span", "Tag", "compose", "parse", "schedule", "split_tags"]
