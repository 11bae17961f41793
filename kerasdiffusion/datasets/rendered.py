"""The endless data set of rendered scenes and their captions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kerasdiffusion.datasets.captions import caption
from kerasdiffusion.datasets.emoji import find_font
from kerasdiffusion.datasets.scenes import Scene, SceneConfig, draw_scene, render


class SceneDataset:
    """Captioned pictures without end, each a function of the seed and its number.

    Sample `i` is the same whoever draws it and whenever, so a run resumes exactly
    where it was, and workers share the numbers among themselves.

    Args:
        config: Which scenes are drawn.
        image_size: Pixels on a side.
        seed: Another seed gives other samples.
        split: `"train"`, `"test"` (the specifications held out, one in twenty), or
            `"all"`.
        font: Path of Noto Color Emoji; `None` looks for it.

    Raises:
        FileNotFoundError: If the font is missing.

    Example:

    >>> data = SceneDataset(SceneConfig(), image_size=64, seed=0)
    >>> images, captions, scenes = data.batch(0, 8)
    >>> images.shape, images.dtype
    ((8, 64, 64, 3), dtype('uint8'))

    With `tf.data`:

    ```python
    picture = tf.TensorSpec((64, 64, 3), tf.uint8)
    text = tf.TensorSpec((), tf.string)
    tf.data.Dataset.from_generator(lambda: data, output_signature=(picture, text))
    ```
    """

    def __init__(
        self,
        config: SceneConfig | None = None,
        image_size: int = 64,
        seed: int = 0,
        split: str = "train",
        font: str | Path | None = None,
    ):
        if split not in ("train", "test", "all"):
            raise ValueError(
                f"`split` must be 'train', 'test' or 'all'. Received: {split!r}"
            )
        self.config = config or SceneConfig()
        self.image_size = image_size
        self.seed = seed
        self.split = split
        self.font = find_font(font) if self.config.objects else None

    def _draw(self, index: int) -> tuple[Scene, random.Random]:
        """The scene of a sample, and the source from which its wording comes."""
        if index < 0:
            raise IndexError(f"Samples are numbered from 0. Received: {index}")
        rng = random.Random((self.seed << 64) + index)
        # One scene in twenty is held out, so a thousand draws never all fail unless
        # the configuration has too few scenes for two splits.
        for _ in range(1000):
            scene = draw_scene(self.config, rng)
            if self.split in ("all", scene.split):
                return scene, rng
        raise ValueError(
            f"The configuration has no scene of the split. Received: "
            f"split={self.split!r}, config={self.config}"
        )

    def scene(self, index: int) -> Scene:
        """The specification of sample `index`, 0 or more."""
        return self._draw(index)[0]

    def caption(self, index: int) -> str:
        """The caption of sample `index`, which is not rendered."""
        scene, rng = self._draw(index)
        return caption(scene, rng, self.config)

    def sample(self, index: int) -> tuple[np.ndarray, str]:
        """Sample `index`: its picture, uint8 `(S, S, 3)`, and its caption."""
        scene, rng = self._draw(index)
        picture = render(scene, self.image_size, self.font)
        return picture, caption(scene, rng, self.config)

    def batch(
        self, start: int, count: int
    ) -> tuple[np.ndarray, list[str], list[Scene]]:
        """The samples from `start` on.

        Args:
            start: Number of the first sample.
            count: How many.

        Returns:
            images: uint8 `(count, S, S, 3)`.
            captions: One for each.
            scenes: Their specifications.
        """
        size = self.image_size
        images = np.empty((count, size, size, 3), np.uint8)
        captions, scenes = [], []
        for row in range(count):
            scene, rng = self._draw(start + row)
            images[row] = render(scene, size, self.font)
            captions.append(caption(scene, rng, self.config))
            scenes.append(scene)
        return images, captions, scenes

    def __iter__(self) -> Iterator[tuple[np.ndarray, str]]:
        """All samples in order, without end."""
        index = 0
        while True:
            yield self.sample(index)
            index += 1
