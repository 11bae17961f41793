"""What a picture's caption is this time: from seed and sample number alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Captions:
    """How captions change from one time to the next.

    Args:
        shuffle: Whether the tags come in another order each time.
        keep_tokens: Tags in front that stay where they are and are never left out.
        dropout: Share of samples without a caption, from 0 to 1: what guidance takes
            away from is learnt from these.
        tag_dropout: Share of the tags that are left out, from 0 to 1.
        separator: What stands between tags.
        seed: Seed of the draws.

    Raises:
        ValueError: If a value is out of its range.

    Example:

    >>> Captions(shuffle=True, keep_tokens=1).of("sks dog, grass, sun, red ball", 3)
    'sks dog, red ball, sun, grass'

    Reference:
        kohya-ss/sd-scripts `library/train_util.py`, `process_caption`.
    """

    shuffle: bool = False
    keep_tokens: int = 0
    dropout: float = 0.0
    tag_dropout: float = 0.0
    separator: str = ","
    seed: int = 0

    def __post_init__(self):
        for name in ("dropout", "tag_dropout"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"`{name}` must be from 0 to 1. Received: {value}")
        if self.keep_tokens < 0:
            raise ValueError(
                f"`keep_tokens` must be 0 or more. Received: {self.keep_tokens}"
            )
        if not self.separator.strip():
            raise ValueError(
                f"`separator` must be more than space. Received: {self.separator!r}"
            )

    @property
    def changes(self) -> bool:
        """Whether a caption is more than itself or nothing."""
        return self.shuffle or self.tag_dropout > 0.0

    def of(self, caption: str, number: int) -> str:
        """The caption of a sample.

        Args:
            caption: What is said of its picture.
            number: The sample's, counted over all epochs from 0.

        Returns:
            The caption, some of it in another order, or "".
        """
        # Draws of their own, so that none changes with another's share.
        if np.random.default_rng((self.seed, 1, number)).random() < self.dropout:
            return ""
        if not self.changes:
            return caption
        tags = [tag.strip() for tag in caption.split(self.separator)]
        tags = [tag for tag in tags if tag]
        kept, rest = tags[: self.keep_tokens], tags[self.keep_tokens :]
        draws = np.random.default_rng((self.seed, 2, number)).random((2, len(rest)))
        order = range(len(rest))
        if self.shuffle:
            order = np.argsort(draws[0], kind="stable")
        rest = [rest[i] for i in order if draws[1][i] >= self.tag_dropout]
        return f"{self.separator.strip()} ".join(kept + rest)
