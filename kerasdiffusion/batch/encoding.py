"""The other direction: pictures and captions to latents and texts, for `teach`.

Each is named by all that it depends on (`training.examples.encoded`), and written ahead
of its record as pictures are.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kerasdiffusion.batch.asked import Item
from kerasdiffusion.batch.going import Summary, Way, carry_out
from kerasdiffusion.batch.packing import FILES, Packing
from kerasdiffusion.batch.stores import store_of
from kerasdiffusion.storage.places import expand_user
from kerasdiffusion.training.lessons.lesson import Lesson

#: The folder of arrays in that of the batch: what `teach --encoded` takes.
FOLDER = "encoded"


class Encoder:
    """Encodes in the place of a `Painter`.

    Args:
        base: The model, as `from_preset` takes it.
        folder: Where arrays go.
        precision: As of `StableDiffusion`.
    """

    def __init__(self, base, folder: str | os.PathLike, precision: str = "auto"):
        from kerasdiffusion.tasks.stable_diffusion import StableDiffusion
        from kerasdiffusion.training.examples.encoded import (
            EncodedPictures,
            EncodedTexts,
            Kept,
        )

        kept = Kept(folder)
        self.model = StableDiffusion(weights=base, low_memory=True, precision=precision)
        self._latents = EncodedPictures(self.model, kept)
        self._texts = EncodedTexts(self.model, kept)

    def begin(self) -> None:
        """Networks are read one after the other, when they are needed."""

    def fingerprint(self) -> dict[str, str]:
        """All that latents and texts depend on beside pictures and captions."""
        from kerasdiffusion.networks.fingerprint import NUMERICS, of_part

        parts = [each for each in self.model.config.parts if "encoder" in each]
        found = {part: of_part(self.model, part) for part in parts}
        found["numerics"] = str(NUMERICS)
        found["precision"] = str(self.model.precision)
        return {**found, "config": repr(self.model.config)}

    def likeness(self, sample, size) -> tuple:
        """What goes together: pictures of one bucket."""
        return sample.fit.bucket

    def fault(self, item: Item) -> Exception | None:
        """Nothing is known ahead."""
        return None

    def paint(self, items: Sequence[Item]) -> list[dict]:
        """Encodes and writes items; what their records say."""
        found = []
        for each in items:
            latents = self._latents(*each.request)
            texts = self._texts(each.request.picture.caption)
            shapes = {name: list(array.shape) for name, array in texts.items()}
            found.append({"latents": list(latents.shape), **shapes})
        return found

    def described(self, item: Item, found) -> None:
        """Arrays say nothing of themselves."""


class Written:
    """The place of what is written already."""

    def write(self, item: Item, found: dict, texts) -> dict:
        """What the record says."""
        return found


def encode(
    folder: str | os.PathLike,
    out: str | os.PathLike,
    base: str | os.PathLike = "emoji",
    lesson: Lesson | None = None,
    *,
    precision: str = "auto",
    way: Way | None = None,
    report: Callable[[str], None] = print,
) -> Summary:
    """Encodes pictures for `teach`, and goes on where a run has ended.

    Args:
        folder: The pictures with their captions, or a table of these, see
            `training.examples.folders`.
        out: The folder of the batch; `teach` takes `out/encoded` as `encoded`.
        base: The model, as `from_preset` takes it.
        lesson: What is to be taught: its resolution, buckets and captions count.
        precision: As `teach` is given it.
        way: How it is carried out.
        report: Is given what is left out.

    Returns:
        A `Summary`.

    Raises:
        BlockingIOError: If another process is at work in the folder.
        FileNotFoundError: If there is no such folder or table.
        OSError: If something cannot be written.
        ValueError: If nothing in the folder is fit.

    Example:

    ```python
    encode("dog", "dog-encoded", "sd1.5", Lesson(instance_prompt="a photo of sks dog"))
    teach("dog", "dog.safetensors", lesson, "sd1.5", encoded="dog-encoded/encoded")
    ```
    """
    store, source = store_of(out), os.fspath(base)
    if not store.is_on_disk:
        raise ValueError(
            "Encoded pictures must go to a folder on a disk, from which `teach` reads "
            "them; copy it to the object store, and back where it is taught. "
            f"Received: {store}"
        )
    base = os.path.abspath(source) if os.path.exists(source) else source
    lesson, folder = lesson or Lesson(), expand_user(folder).absolute()
    beside = folder.parent if folder.is_file() else folder
    make = functools.partial(Encoder, base, store.path / FOLDER, precision)
    gathered: list = []

    def count() -> int:
        gathered.extend(_samples(folder, base, lesson, report))
        return len(gathered)

    def items(encoder: Encoder, fingerprint: dict, is_left) -> Iterator[Item]:
        from kerasdiffusion.weights.fingerprint import of_file

        for each in gathered:
            path = each.picture.path
            is_below = path.is_relative_to(beside)
            name = (path.relative_to(beside) if is_below else path).as_posix()
            caption, file = each.picture.caption, of_file(each.picture.path)
            facts = file, *each.fit, caption, sorted(fingerprint.items())
            key = hashlib.sha256(repr(facts).encode()).hexdigest()
            like, told = encoder.likeness(each, None), {"prompt": caption}
            item = Item(name, key, each, likeness=like, told=told)
            if is_left(item):
                yield item

    packed = Packing(store, FILES)
    where = store, make, "", Written()
    return carry_out(*where, items, count, way or Way(), packed)


def _samples(folder: Path, base, lesson: Lesson, report) -> list:
    """The pictures in their buckets, as `teach` would bring them there."""
    from kerasdiffusion.tasks.stable_diffusion import StableDiffusion
    from kerasdiffusion.training.examples.gathering import gathered

    model = StableDiffusion(weights=base, low_memory=True)
    plain = lesson.replace(class_prompt=None, class_folder=None)
    _, samples, apart = gathered(model, folder, plain, Path(), report, False)
    return [*samples, *apart]
