"""Prompts as people write them: weights, breaks, editing, alternation, composition.

Nothing here imports a framework; `parse` and `schedule` work on their own.
"""

from kerasdiffusion.prompts.schedule import schedule
from kerasdiffusion.prompts.syntax import BREAK, Span, compose, parse

__all__ = ["BREAK", "Span", "compose", "parse", "schedule"]
