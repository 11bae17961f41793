"""From what a user calls a model to where its weights are."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from kerasdiffusion.config import PRESETS, ModelConfig


def find_preset(source) -> tuple[object, ModelConfig | None]:
    """A preset's weights and configuration; anything else is a source itself.

    Raises:
        ValueError: If the source looks like a preset's name and is none.
    """
    if not isinstance(source, str):
        return source, None
    if source in PRESETS:
        return PRESETS[source].source, PRESETS[source].config
    if os.sep in source or ":" in source or Path(source).exists():
        return source, None
    near = difflib.get_close_matches(source, PRESETS, n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(
        f"A model is a preset ({', '.join(PRESETS)}), hf://owner/name, a folder or a "
        f"file.{hint} Received: {source!r}"
    )
