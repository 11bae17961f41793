"""Where a model lies: a source's spelling to a local path."""

from __future__ import annotations

from pathlib import Path


def resolve(source: str | Path) -> Path:
    """The local path of a source."""
    return Path(source)
