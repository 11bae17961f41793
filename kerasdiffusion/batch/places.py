"""Where a batch's pictures go: files, each whole or not there, by the row's hash.

    pictures/3f/a-red-apple-3f0c9d....png

A row's file has always the same name, so that a picture that was painted again after a
crash takes the place of the first. Other kinds of places are packed from these, see
`packing`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kerasdiffusion.batch.index import digest
from kerasdiffusion.batch.stores import store_of
from kerasdiffusion.pictures.write import KINDS, encoded, slug_of

#: The folder of pictures in that of the batch.
FOLDER = "pictures"
_ENDINGS = {"jpeg": "jpg"}
_NAME = 60


class Files:
    """A folder of picture files.

    Args:
        out: The folder of the batch, its URL or its store.
        kind: One of `pictures.write.KINDS`.
        quality: Of JPEG and WebP, from 1 to 100.

    Raises:
        ValueError: If there is no such kind, or the quality is out of range.
    """

    def __init__(self, out, kind: str = "png", quality: int = 95):
        if kind not in KINDS:
            raise ValueError(
                f"`kind` must be one of {', '.join(KINDS)}. Received: {kind}"
            )
        if not 1 <= quality <= 100:
            raise ValueError(f"`quality` must be from 1 to 100. Received: {quality}")
        self.out, self.kind, self.quality = store_of(out), kind, quality

    def write(self, item, pictures: np.ndarray, texts: Sequence[dict | None]) -> dict:
        """Writes the pictures of an item.

        Args:
            item: An `Item`.
            pictures: uint8 `(pictures, height, width, 3)`.
            texts: What each file says, or `None`.

        Returns:
            For the record: `files`, their paths in the batch's folder, with slashes;
            `width` and `height`.

        Raises:
            OSError: If one cannot be written.
        """
        own = digest(item.name, item.key).hex()
        name = slug_of(item.name)[:_NAME]
        ending, files = _ENDINGS.get(self.kind, self.kind), []
        for i, picture in enumerate(pictures):
            number = f"-{i}" if len(pictures) > 1 else ""
            file = f"{FOLDER}/{own[:2]}/{name}-{own}{number}.{ending}"
            content = encoded(picture, self.kind, self.quality, texts[i])
            self.out.write(file, content)
            files.append(file)
        height, width = pictures.shape[1:3]
        return {"files": files, "width": width, "height": height}
