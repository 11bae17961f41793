"""A model as an engine's workers use it: what goes together, painted; what is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kerasdiffusion.batch.asked import Item

#: What a model is that a batch may change: the machine. A batch that was begun on one
#: goes on on another, and several kinds paint one batch.
LEFT_OUT = ("machine",)
WALKS = ("interpolate", "circular_walk")


class Painter:
    """A `StableDiffusion` for a batch.

    Any object with these methods may stand for it.

    Args:
        model: The `StableDiffusion`.
        name: What it is called in the pictures' texts.
    """

    def __init__(self, model, name: str = ""):
        self.model, self.name = model, name

    def begin(self) -> None:
        """Reads the weights."""
        if not self.model.low_memory:
            self.model.build()

    def fingerprint(self) -> dict[str, str]:
        """All that pictures depend on beside requests and the machine."""
        found = self.model.fingerprint()
        found = {name: text for name, text in found.items() if name not in LEFT_OUT}
        # (Without the compiler: hosts of several kinds paint one batch.)
        return {**found, "precision": str(self.model.precision)}

    def own_size(self) -> tuple[int, int]:
        """The model's height and width."""
        return self.model.img_height, self.model.img_width

    def likeness(self, request, size: tuple[int, int] | None) -> tuple | None:
        """What requests must have in common to be painted together.

        Raises:
            ValueError: If the model paints no such size, or a prompt is over a limit.
        """
        from kerasdiffusion.requests.kinds import as_list
        from kerasdiffusion.tasks.batches import likeness

        view = self._view(size)
        texts = request.instruction if request.prompt is None else request.prompt
        several = hasattr(texts, "shape") or len(as_list(texts)) * request.batch_size
        return None if several != 1 else likeness(view, request)

    def paint(self, items: Sequence[Item]) -> list[np.ndarray]:
        """The pictures of items of one likeness, uint8 `(pictures, h, w, 3)` each."""
        from kerasdiffusion.tasks.batches import filled_up

        view = self._view(items[0].size)
        requests = [each.request for each in items]
        if len(requests) == 1:
            return [view.run(requests[0]).pictures()]
        pictures = view.run(filled_up(requests)).pictures()
        return [pictures[i : i + 1] for i in range(len(items))]

    def fault(self, item: Item) -> Exception | None:
        """What is wrong with an item, as far as that can be told without painting."""
        try:
            self._view(item.size).plan(item.request)
        except Exception as error:
            return error
        return None

    def described(self, item: Item, pictures: np.ndarray) -> list[dict]:
        """What the text of each picture of an item says."""
        from kerasdiffusion.requests.text import described, described_walk

        own = item.size or self.own_size()
        size = item.request.told_size(pictures.shape[1:3], own)
        generation = self.model.config.generation
        how = item.request, generation, size, self.name
        if item.request.task in WALKS:
            return [described_walk(*how)] * len(pictures)
        return described(*how)

    def _view(self, size: tuple[int, int] | None):
        from kerasdiffusion.tasks.sized import Sized

        return self.model if size is None else Sized(self.model, *size)


class Keyed:
    """What `Request.key` takes for a model that is elsewhere.

    Args:
        fingerprint: Of a `Painter`.
        size: Height and width of the pictures.
    """

    def __init__(self, fingerprint: dict[str, str], size: tuple[int, int]):
        self._fingerprint = {**fingerprint, "size": f"{size[1]}x{size[0]}"}

    def fingerprint(self) -> dict[str, str]:
        """The fingerprint, at the size."""
        return self._fingerprint

    def fingerprint_of(self, tags) -> str:
        """Of adapters that prompts name."""
        from kerasdiffusion.networks.fingerprint import of_tags

        return of_tags(tags)


def make_painter(make: Callable, name: str = "") -> Painter:
    """The painter that a function makes, or that is made of the model that it makes.

    Args:
        make: A function without arguments, which may be sent to another process.
        name: What the model is called.
    """
    made = make()
    return made if hasattr(made, "likeness") else Painter(made, name)


def same_model(one: dict[str, str], other: dict[str, str]) -> str | None:
    """The first part in which two fingerprints differ; `None` if they are alike."""
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return names[0] if names else None
