"""A model as it paints at another size: the same networks, weights and programs."""

from __future__ import annotations

from kerasdiffusion.pictures.write import check_size
from kerasdiffusion.tasks.pages import PAGES
from kerasdiffusion.tasks.plan import Plan
from kerasdiffusion.tasks.refining import with_refiner
from kerasdiffusion.tasks.run import Run


class Sized:
    """A model at another height and width; all else of it is the model's own.

    Nothing is read or made: several sizes of a model cost no more memory than one. A
    size is compiled for with its first picture, as it is by a model of that size.

    Args:
        model: A `StableDiffusion`.
        height: Height of the pictures in pixels, a multiple of 8.
        width: Width of the pictures in pixels, a multiple of 8.

    Raises:
        TypeError: If a side is no integer.
        ValueError: If a side is no multiple of 8.

    Example:

    >>> model = StableDiffusion.from_preset("emoji")
    >>> request = Request(task="text_to_image", prompt="a cat", num_steps=2, seed=1)
    >>> Sized(model, 64, 96).run(request).pictures().shape
    (1, 64, 96, 3)
    """

    def __init__(self, model, height: int, width: int):
        check_size(height, width, model.config.autoencoder.downsampling)
        self.model, self.img_height, self.img_width = model, int(height), int(width)

    def __getattr__(self, name: str):
        return getattr(self.model, name)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one picture's latents."""
        pixels = self.model.config.autoencoder.downsampling
        channels = self.model.latent_shape[-1]
        return self.img_height // pixels, self.img_width // pixels, channels

    def fingerprint(self) -> dict[str, str]:
        """The model's, with this size."""
        size = f"{self.img_width}x{self.img_height}"
        return {**self.model.fingerprint(), "size": size}

    def plan(self, request) -> Plan:
        """What a request asks for at this size, see `StableDiffusion.plan`."""
        return PAGES[request.task](self, with_refiner(self, request))

    def run(self, request) -> Run:
        """A request at this size as steps, see `StableDiffusion.run`."""
        return Run(self.plan(request))
