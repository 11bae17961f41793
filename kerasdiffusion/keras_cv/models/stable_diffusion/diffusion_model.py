"""KerasCV's U-Nets: latents, an embedded timestep, a context in; a prediction out."""

from __future__ import annotations

from collections.abc import Mapping

from kerasdiffusion.compute import operations
from kerasdiffusion.keras_cv import sources
from kerasdiffusion.keras_cv.parts import Part
from kerasdiffusion.models import diffusion_model

_KEYS = {
    "latent": "latents",
    "timestep_embedding": "timestep_embedding",
    "context": "crossattn",
}


class DiffusionModel(Part, diffusion_model.DiffusionModel):
    """Stable Diffusion 1's U-Net by KerasCV's arguments.

    Args:
        img_height: Of the pictures; the network takes any.
        img_width: The same.
        max_text_length: Tokens of a context; the network takes any number.
        name: Name of the model.
        download_weights: Whether it begins with the published weights.
        config: A `DiffusionModelConfig`, in place of all these.
        dtype: A dtype or dtype policy; the global policy by default.

    Call arguments:
        inputs: `[latent, timestep_embedding, context]`, or a dict by these names:
            tensors of shape `(batch, height / 8, width / 8, 4)`, `(batch, 320)`
            (cosines of the timestep, then sines) and `(batch, tokens, width)`; or a
            dict as this library has it.

    Call returns:
        The prediction, a tensor of the shape of the latents.
    """

    part = "diffusion_model"

    def __init__(
        self,
        img_height: int = 512,
        img_width: int = 512,
        max_text_length: int = 77,
        name: str | None = None,
        download_weights: bool = True,
        *,
        config=None,
        dtype=None,
    ):
        def usual():
            return sources.config(self.version).diffusion_model

        make = super().__init__
        self._start(make, config, usual, dtype, name, download_weights)

    def call(
        self,
        inputs,
        perturbed_layers=(),
        watch=False,
        branch=None,
        kept=None,
        merge_tokens=0.0,
    ):
        if not isinstance(inputs, Mapping):
            inputs = dict(zip(_KEYS, inputs, strict=True))
        inputs = {_KEYS.get(key, key): value for key, value in inputs.items()}
        return super().call(inputs, perturbed_layers, watch, branch, kept, merge_tokens)

    def embed_time(self, inputs):
        if "timestep_embedding" not in inputs:
            return super().embed_time(inputs)
        waves, own = inputs["timestep_embedding"], self.time_embedding
        if waves.shape[-1] != own.width:
            raise ValueError(
                f"The timestep embedding must have the shape (batch, {own.width}): "
                "cosines of the timestep, then sines, half of them each. Received: "
                f"{tuple(waves.shape)}"
            )
        return own.linear_2(operations.silu(own.linear_1(waves)))


class DiffusionModelV2(DiffusionModel):
    """Stable Diffusion 2's U-Net by KerasCV's arguments."""

    version = 2
