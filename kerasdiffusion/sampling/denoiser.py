"""From a network to a denoiser: its prediction type and its guidance."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from keras import ops

from kerasdiffusion.sampling.schedule import scalings
from kerasdiffusion.sampling.table import COLUMNS

__all__ = ["denoiser", "scalings"]


def denoiser(
    network: Callable,
    conditioning: Mapping,
    guidance_scale=None,
    unconditional: Mapping | None = None,
) -> Callable:
    """A function `denoise(x, row)` that predicts clean latents.

    With an unconditional half, both halves go through the network in one call, and
    its outputs are `unconditional + guidance_scale * (conditional - unconditional)`.

    Args:
        network: Takes a dict of `"latents"` `(N, h, w, channels)`, `"timestep"` `(N,)`
            float32 and the keys of `conditioning`, and returns its prediction, of the
            shape of the latents. `N` is the batch, twice with guidance.
        conditioning: Tensors whose first axis is the batch.
        guidance_scale: Scalar, or one for each image of shape `(batch,)`, float32.
            Without an unconditional half it is not used.
        unconditional: Tensors of the keys and shapes of `conditioning`; `None` for
            no guidance.

    Returns:
        A function of `x`, float32 `(batch, h, w, channels)`, and one row of a table,
        which returns the denoised latents, float32 of the shape of `x`.

    Raises:
        ValueError: If the keys of the two halves differ.

    Example:

    >>> table = make_table(ScheduleConfig(), "euler", 10)
    >>> denoise = denoiser(lambda inputs: 0.5 * inputs["latents"], {})
    >>> row = ops.convert_to_tensor(table.rows[0])
    >>> print(denoise(ops.ones((1, 8, 8, 4)), row).shape)
    (1, 8, 8, 4)

    Reference:
        Ho and Salimans 2022, "Classifier-Free Diffusion Guidance", equation 6, with
        `guidance_scale = 1 + w`; Karras et al. 2022, equation 7, for the scalings.
    """
    guided = unconditional is not None
    if guided:
        if set(unconditional) != set(conditioning):
            raise ValueError(
                "`unconditional` must have the keys of `conditioning`. Received: "
                f"{sorted(unconditional)} and {sorted(conditioning)}"
            )
        # Once, ahead of the loop.
        conditioning = {
            key: ops.concatenate([unconditional[key], value], axis=0)
            for key, value in conditioning.items()
        }
        guidance_scale = ops.reshape(ops.cast(guidance_scale, "float32"), (-1, 1, 1, 1))

    def denoise(x, row):
        latents = x * row[COLUMNS.c_in]
        if guided:
            latents = ops.concatenate([latents, latents], axis=0)
        timestep = ops.broadcast_to(row[COLUMNS.timestep], ops.shape(latents)[:1])
        output = network({"latents": latents, "timestep": timestep, **conditioning})
        output = ops.cast(output, "float32")
        if guided:
            without, output = ops.split(output, 2, axis=0)
            output = without + guidance_scale * (output - without)
        return row[COLUMNS.c_skip] * x + row[COLUMNS.c_out] * output

    return denoise
