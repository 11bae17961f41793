"""From a network to a denoiser: its prediction type, its conditioning, its guidance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from keras import ops

from kerasdiffusion.sampling.schedule import scalings
from kerasdiffusion.sampling.table import COLUMNS

__all__ = ["VARYING", "denoiser", "scalings"]

#: The keys of a conditioning that may change from step to step: their first axis is
#: that of the variants, and `COLUMNS.variant` of a row says which one is seen.
VARYING = ("crossattn", "vector")


def denoiser(
    network: Callable, branches: Sequence[Mapping], scale=None, shares=None
) -> Callable:
    """A function `denoise(x, row)` that predicts clean latents.

    All branches go through the network in one call. One alone is the prediction. Of
    several, the first is what the others are guided away from: the output is
    `first + scale * sum_i shares[i] * (other_i - first)`. Classifier-free guidance has
    two branches, unconditional and conditional.

    Args:
        network: Takes a dict of `"latents"` `(N, h, w, channels)`, `"timestep"` `(N,)`
            float32 and the keys of a branch, and returns its prediction, of the shape
            of the latents. `N` is the batch times the branches.
        branches: Dicts of tensors, all of the same keys and shapes. The first axis is
            the batch; ahead of it those of `VARYING` have an axis of variants.
        scale: The guidance scale: a scalar, or one for each image of shape `(batch,)`,
            float32. A row takes `1 + guidance * (scale - 1)`. Not used with one branch.
        shares: How much each branch but the first counts, float32 of shape
            `(branches - 1, batch)`; by default 1.

    Returns:
        A function of `x`, float32 `(batch, h, w, channels)`, and one row of a table,
        which returns the denoised latents, float32 of the shape of `x`.

    Raises:
        ValueError: If there is no branch, or their keys differ.

    Example:

    >>> table = make_table(ScheduleConfig(), "euler", 10)
    >>> denoise = denoiser(lambda inputs: 0.5 * inputs["latents"], [{}])
    >>> row = ops.convert_to_tensor(table.rows[0])
    >>> print(denoise(ops.ones((1, 8, 8, 4)), row).shape)
    (1, 8, 8, 4)

    Reference:
        Ho and Salimans 2022, "Classifier-Free Diffusion Guidance", equation 6, with
        `guidance_scale = 1 + w`; Liu et al. 2022, "Compositional Visual Generation
        with Composable Diffusion Models", algorithm 1, for more branches; Karras et
        al. 2022, equation 7, for the scalings.
    """
    keys = [sorted(branch) for branch in branches]
    if not keys or any(each != keys[0] for each in keys):
        raise ValueError(
            "`branches` must be one or more, and have the same keys. Received: "
            + (" and ".join(map(str, keys)) or "none")
        )
    # Once, ahead of the loop.
    conditioning = {
        key: ops.concatenate(
            [branch[key] for branch in branches], axis=1 if key in VARYING else 0
        )
        for key in keys[0]
    }
    count = len(branches)
    if count > 1:
        scale = ops.reshape(ops.cast(scale, "float32"), (-1, 1, 1, 1))
        shares = ops.ones((count - 1, 1)) if shares is None else shares
        shares = ops.reshape(ops.cast(shares, "float32"), (count - 1, -1, 1, 1, 1))

    def denoise(x, row):
        latents = ops.concatenate([x * row[COLUMNS.c_in]] * count, axis=0)
        timestep = ops.broadcast_to(row[COLUMNS.timestep], ops.shape(latents)[:1])
        output = network(
            {"latents": latents, "timestep": timestep, **_seen(conditioning, row)}
        )
        output = ops.cast(output, "float32")
        if count > 1:
            first, *others = ops.split(output, count, axis=0)
            towards = sum(shares[i] * (each - first) for i, each in enumerate(others))
            guided = 1.0 + row[COLUMNS.guidance] * (scale - 1.0)
            output = first + guided * towards
        return row[COLUMNS.c_skip] * x + row[COLUMNS.c_out] * output

    return denoise


def _seen(conditioning, row):
    """The conditioning of a row: one variant of what varies."""
    variant = ops.cast(row[COLUMNS.variant], "int32")
    return {
        key: ops.take(value, variant, axis=0) if key in VARYING else value
        for key, value in conditioning.items()
    }
