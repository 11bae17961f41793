"""How much a prompt may say, asked before anything is encoded.

The limits are rows of `storage.bounds.BOUNDS`; what is over one is refused, since it
would keep a processor busy for minutes, fill the memory, or paint black pictures.
"""

from __future__ import annotations

import math

from kerasdiffusion.storage.bounds import BOUNDS, check_bound, shown


def check_length(prompt: str, name: str = "a prompt") -> None:
    """A prompt of no more characters than one may have.

    Args:
        prompt: Any text.
        name: The argument, for the message.

    Raises:
        ValueError: If there are more.
    """
    check_bound("prompt_characters", len(prompt), f"`{name}`")


def check_nesting(opened: int, prompt: str) -> None:
    """No more brackets that are open at once than a prompt may have.

    Raises:
        ValueError: If there are more.
    """
    most = BOUNDS["prompt_brackets"].most
    if opened > most:
        raise ValueError(
            f"A prompt has at most {most} brackets open at once; those that are text "
            rf"are written \( and \[. Received: more in {shown(prompt)}"
        )


def check_weight(weight: float, what: str, prompt: str) -> float:
    """A weight or a share that float32 holds, and pictures with it.

    Args:
        weight: The number.
        what: The word or the text that has it.
        prompt: Where it stands.

    Raises:
        ValueError: If it is beyond the limit, on either side of zero, or no number.
    """
    most = BOUNDS["prompt_weight"].most
    if not math.fabs(weight) <= most:
        raise ValueError(
            f"A weight or a share in a prompt must be from -{most} to {most}, with all "
            f"brackets around it. Received: {weight!r} for {shown(what.strip())} in "
            f"{shown(prompt)}"
        )
    return weight
