"""A folder of pictures with captions, as people keep them for fine-tuning."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from kerasdiffusion.datasets.captioned import EXTENSIONS, read_captions
from kerasdiffusion.storage.places import expand_user

# What Pillow raises on files that are none, cut short, malformed or huge.
_UNREADABLE = (
    UnidentifiedImageError,
    OSError,
    SyntaxError,
    EOFError,
    Image.DecompressionBombError,
)


class FolderDataset:
    """Pictures of a folder, cropped to squares, with their captions, without end.

    Captions are in one of the forms of `datasets.captioned`; where a table
    (`metadata.jsonl` for example) names pictures, there are no others. Subfolders are
    looked through.

    Args:
        path: The folder.
        image_size: Pixels on a side. Pictures are turned as their EXIF data says, cut
            to the middle square, scaled, and laid on white where transparent.
        caption: The caption of pictures that have none, for example
            `"a photo of sks dog"`. `None` makes them an error.
        seed: Each pass through the folder has an order of its own, which depends on
            the seed; `None` keeps the files' order.

    Raises:
        FileNotFoundError: If the folder, or a picture that the metadata names, is
            missing.
        ValueError: If there are no pictures, captions are missing, or the metadata
            cannot be read.

    Example:

    ```python
    data = FolderDataset("pictures/", image_size=512)
    images, captions, paths = data.batch(0, 4)  # uint8 (4, 512, 512, 3)
    ```
    """

    def __init__(
        self,
        path: str | Path,
        image_size: int = 512,
        caption: str | None = None,
        seed: int | None = 0,
    ):
        self.path = expand_user(path)
        if image_size < 1:
            raise ValueError(
                f"`image_size` must be 1 pixel or more. Received: {image_size}"
            )
        if not self.path.is_dir():
            raise FileNotFoundError(
                f"`path` must be a folder of pictures. Received: {self.path}"
            )
        self.image_size = image_size
        self.seed = seed
        captions = _captions(self.path)
        if caption is not None:
            captions = {file: text or caption for file, text in captions.items()}
        if not captions:
            raise ValueError(
                f"The folder must hold pictures ({', '.join(EXTENSIONS)}). "
                f"Received: {self.path}"
            )
        bare = [str(file) for file, text in captions.items() if not text]
        if bare:
            raise ValueError(
                "Every picture needs a caption: a text file of the same name, a line "
                "in metadata.jsonl or metadata.csv, or `caption` for all that have "
                f"none. Received: {len(bare)} without, such as {bare[0]}"
            )
        #: The pictures' files, and their captions, in the files' order.
        self.files: list[Path] = list(captions)
        self.captions: list[str] = list(captions.values())

    def _position(self, index: int) -> int:
        """Which file sample `index` is."""
        if index < 0:
            raise IndexError(f"Samples are numbered from 0. Received: {index}")
        turn, position = divmod(index, len(self.files))
        if self.seed is None:
            return position
        return _order(len(self.files), self.seed, turn)[position]

    def sample(self, index: int) -> tuple[np.ndarray, str]:
        """Sample `index`: its picture, uint8 `(S, S, 3)`, and its caption."""
        position = self._position(index)
        picture = read_square(self.files[position], self.image_size)
        return picture, self.captions[position]

    def batch(self, start: int, count: int) -> tuple[np.ndarray, list[str], list[Path]]:
        """The samples from `start` on; after the last picture the next pass begins.

        Args:
            start: Number of the first sample.
            count: How many.

        Returns:
            images: uint8 `(count, S, S, 3)`.
            captions: One for each.
            files: The files they are from.
        """
        where = [self._position(index) for index in range(start, start + count)]
        size = self.image_size
        images = np.empty((count, size, size, 3), np.uint8)
        for row, position in enumerate(where):
            images[row] = read_square(self.files[position], size)
        return images, [self.captions[i] for i in where], [self.files[i] for i in where]

    def __iter__(self) -> Iterator[tuple[np.ndarray, str]]:
        """All samples in order, without end."""
        index = 0
        while True:
            yield self.sample(index)
            index += 1


@functools.lru_cache(maxsize=4)
def _order(count: int, seed: int, turn: int) -> list[int]:
    """A permutation; by `random()` alone, which no version changes."""
    rng = random.Random((seed << 64) + turn)
    keys = [rng.random() for _ in range(count)]
    return sorted(range(count), key=keys.__getitem__)


def read_square(file: str | Path, image_size: int) -> np.ndarray:
    """A picture's middle square.

    Args:
        file: Any picture that Pillow reads.
        image_size: Pixels on a side of the result.

    Returns:
        uint8 `(image_size, image_size, 3)`.

    Raises:
        ValueError: If the file is no picture, broken, or suspiciously large.
    """
    try:
        with Image.open(file) as opened:
            # JPEG decodes at an eighth, a quarter or half its size for little.
            opened.draft("RGB", (2 * image_size, 2 * image_size))
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # sixteen bits
                levels = np.asarray(image, np.int32) >> 8
                image = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                ground = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(ground, image)
            size = (image_size, image_size)
            square = ImageOps.fit(image.convert("RGB"), size, Image.Resampling.LANCZOS)
    except _UNREADABLE as error:
        raise ValueError(
            f"The file must be a picture that can be read ({error}). Received: {file}"
        ) from error
    return np.asarray(square)


def _captions(folder: Path) -> dict[Path, str]:
    """Each picture, or those that a table names, with what is said of it or ""."""
    found = read_captions(folder)
    for name, table in found.missing:
        raise FileNotFoundError(
            "Each picture that the metadata names must be there. "
            f"Received: {name!r} in {table}"
        )
    return {
        each.file: each.caption or each.name
        for each in found.pictures
        if not found.tabled or each.file in found.tabled
    }
