"""KerasCV's decoder: latents in, pictures out."""

from __future__ import annotations

from kerasdiffusion.keras_cv import sources
from kerasdiffusion.keras_cv.parts import Part
from kerasdiffusion.models import autoencoder


class Decoder(Part, autoencoder.Decoder):
    """The autoencoder's second half by KerasCV's arguments.

    Args:
        img_height: Of the pictures; the network takes any.
        img_width: The same.
        name: Name of the model.
        download_weights: Whether it begins with the published weights.
        config: An `AutoencoderConfig`, in place of all these.
        dtype: A dtype or dtype policy; the global policy by default.

    Call arguments:
        latents: Tensor of shape `(batch, height / 8, width / 8, 4)`.

    Call returns:
        Pictures of shape `(batch, height, width, 3)`, in [-1, 1] but for overshoot.
    """

    part = "decoder"

    def __init__(
        self,
        img_height: int = 512,
        img_width: int = 512,
        name: str | None = None,
        download_weights: bool = True,
        *,
        config=None,
        dtype=None,
    ):
        def usual():
            return sources.config(self.version).autoencoder

        make = super().__init__
        self._start(make, config, usual, dtype, name, download_weights)
