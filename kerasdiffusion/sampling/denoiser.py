"""From a network to a denoiser: its prediction type, its conditioning, its guidance."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

from keras import ops

from kerasdiffusion.compute.backend import spread
from kerasdiffusion.sampling import forecasts, reuse
from kerasdiffusion.sampling.guidance import (
    OF_THE_SCALE,
    degraded,
    projected,
    rescaled,
    thresholded,
)
from kerasdiffusion.sampling.schedule import scalings
from kerasdiffusion.sampling.table import COLUMNS

__all__ = ["VARYING", "copies_of", "denoiser", "empty_memory", "scalings"]

#: The keys of a conditioning that may change from step to step: their first axis is
#: that of the variants, and `COLUMNS.variant` of a row says which one is seen.
VARYING = ("crossattn", "vector")


def denoiser(
    network: Callable,
    branches: Sequence[Mapping],
    scale=None,
    shares=None,
    methods: Mapping | None = None,
    control: Callable | None = None,
) -> Callable:
    """A function `denoise(x, row)` that predicts clean latents.

    All branches go through the network in one call, those of an image side by side, so
    that a device that has some of the images has all their branches. One alone is the
    prediction. Of several, the first is what the others are guided away from: the
    output is `first + scale * sum_i shares[i] * (other_i - first)`. Classifier-free
    guidance has two branches, unconditional and conditional.

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
        methods: What there is beside the scale, by name, float32 scalars unless said
            otherwise; what is left out costs nothing.
            `"rescale"`: see `guidance.rescaled`.
            `"thresholding"`: a dict of `"mimic_scale"` and `"percentile"`, see
            `guidance.thresholded`.
            `"apg"`: a dict of `"eta"`, `"norm_threshold"` and `"momentum"`, see
            `guidance.projected`; the function then takes and returns a memory.
            `"pag"`: a scale. The network also sees each branch but the first (or the
            only one) with a `"perturbed"` self-attention, and is guided away from it.
            `"sag"`: a scale. The network is called with `watch=True`, and then once
            more on `guidance.degraded` latents, which it is guided away from.
            `"freeu"`: of shape `(4,)`, handed to the network.
            `"deep_cache"`: its presence alone. The network gives features beside its
            prediction, which are kept in the memory, behind what else is there; a row
            that is not `whole` hands them back to it as `kept`.
            `"reuse"`: a dict, see `reuse.reuse_or_call`; its memory is behind the rest.
            `"forecast"`: its presence alone. A row that is not `whole` calls nothing,
            see `forecasts.foretold`; its memory is behind the rest.
        control: A function of the network's inputs and a row, whose result they get
            as `"control"`.

    Returns:
        A function of `x`, float32 `(batch, h, w, channels)`, and one row of a table,
        which returns the denoised latents, float32 of the shape of `x`. With a third
        argument, a memory as from `empty_memory`, it returns the next memory too.

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
        al. 2022, equation 7, for the scalings; Ahn et al. 2024, "Self-Rectifying
        Diffusion Sampling with Perturbed-Attention Guidance", section 4.
    """
    keys = [sorted(branch) for branch in branches]
    if not keys or any(each != keys[0] for each in keys):
        raise ValueError(
            "`branches` must be one or more, and have the same keys. Received: "
            + (" and ".join(map(str, keys)) or "none")
        )
    methods, count = dict(methods or {}), len(branches)
    keeps = methods.pop("deep_cache", None) is not None
    foretells = methods.pop("forecast", None) is not None
    reused = methods.pop("reuse", None)
    settings = {"freeu": methods.pop("freeu")} if "freeu" in methods else {}
    if count == 1:
        methods = {k: v for k, v in methods.items() if k not in OF_THE_SCALE}
        if not {"pag", "sag"} & set(methods):
            methods = {}
    copied = (branches[1:] or branches) if "pag" in methods else []
    copies = copies_of(count, methods)
    # Once, ahead of the loop.
    together, first_alone = _join([*branches, *copied]), _join(branches[:1])
    watch = {"watch": True} if "sag" in methods else {}
    if count > 1:
        scale = ops.reshape(ops.cast(scale, "float32"), (-1, 1, 1, 1))
        shares = ops.ones((count - 1, 1)) if shares is None else shares
        shares = ops.reshape(ops.cast(shares, "float32"), (count - 1, -1, 1, 1, 1))

    def see(x, row, conditioning, copies, **options):
        """What the network gives for copies of the latents under a conditioning."""
        latents = spread(_side_by_side([x * row[COLUMNS.c_in]] * copies))
        timestep = ops.broadcast_to(row[COLUMNS.timestep], ops.shape(latents)[:1])
        inputs = {"latents": latents, "timestep": timestep, **settings}
        inputs |= _seen(conditioning, row)
        if copies > count:
            inputs["perturbed"] = ops.arange(ops.shape(latents)[0]) % copies >= count
        if control is not None:
            inputs["control"] = control(inputs, row)
        return network(inputs, **options)

    def weighted(others, origins):
        """Differences of branches by their shares."""
        pairs = enumerate(zip(others, origins, strict=True))
        return sum(shares[i] * (each - origin) for i, (each, origin) in pairs)

    def denoise(x, row, memory=()):
        if not foretells:
            denoised, after = predict(x, row, memory)
            return (denoised, after) if memory else denoised
        *memory, past = memory

        def computed():
            denoised, after = predict(x, row, tuple(memory))
            return denoised, (*after, forecasts.joined(denoised, past))

        return ops.cond(
            row[COLUMNS.whole] > 0.0,
            computed,
            lambda: (forecasts.forecast(row, past), (*memory, past)),
        )

    def predict(x, row, memory):
        """The denoised latents by a call of the network, and the next memory."""
        if keeps:
            *memory, kept = memory
            outputs, kept = ops.cond(
                row[COLUMNS.whole] > 0.0,
                lambda: see(x, row, together, copies),
                lambda: see(x, row, together, copies, kept=kept),
            )
            own = (kept,)
        elif reused is not None:
            *memory, seen, facts, kept = memory
            outputs, own = reuse.reuse_or_call(
                lambda: see(x, row, together, copies),
                x * row[COLUMNS.c_in],
                row,
                (seen, facts, kept),
                reused,
                judge=min(1, count - 1),
            )
        else:
            outputs, own = see(x, row, together, copies, **watch), ()
        denoised, memory = guide(x, row, outputs, tuple(memory))
        return denoised, (*memory, *own)

    def guide(x, row, outputs, memory):
        """The denoised latents, and the next memory."""
        outputs, attention = outputs if watch else (outputs, None)
        outputs = ops.cast(outputs, "float32")
        outputs = _apart(outputs, copies)
        first, *others = outputs[:count]
        output = first
        if others:
            towards = weighted(others, [first] * len(others))
            excess = row[COLUMNS.guidance] * (scale - 1.0)
            output = first + (1.0 + excess) * towards
        clean = functools.partial(_clean, x, row)
        if not methods:
            return clean(output), memory
        conditional = first + towards if others else first
        if "apg" in methods:
            apg, on = methods["apg"], row[COLUMNS.guidance] > 0.0
            update = row[COLUMNS.c_out] * towards
            if memory:
                update = update + apg["momentum"] * memory[0]
                memory = (ops.where(on, update, memory[0]),)
            update = projected(
                update, clean(conditional), apg["eta"], apg["norm_threshold"]
            )
            output = conditional + excess * (update / row[COLUMNS.c_out])
        if "pag" in methods:
            perturbed = outputs[count:]
            away = weighted(others, perturbed) if others else first - perturbed[0]
            output = output + row[COLUMNS.guidance] * methods["pag"] * away
        if "sag" in methods:
            without = degraded(x, clean(first), _apart(attention, copies)[0])
            away = first - ops.cast(see(without, row, first_alone, 1), "float32")
            output = output + row[COLUMNS.guidance] * methods["sag"] * away
        if "rescale" in methods:
            output = rescaled(output, conditional, methods["rescale"])
        denoised = clean(output)
        if "thresholding" in methods:
            to, percentile = (
                methods["thresholding"][key] for key in ("mimic_scale", "percentile")
            )
            excess = row[COLUMNS.guidance] * (to - 1.0)
            mimicked = clean(first + (1.0 + excess) * towards)
            denoised = thresholded(denoised, mimicked, percentile)
        return denoised, memory

    return denoise


def copies_of(branches: int, methods: Mapping) -> int:
    """How often the latents go through the network in one call."""
    return branches + ((branches - 1 or 1) if "pag" in methods else 0)


def empty_memory(methods: Mapping, latents, kept=None, copies: int = 1) -> tuple:
    """What a denoiser by these methods remembers ahead of its first call.

    Args:
        methods: As in `denoiser`.
        latents: Of the shape of the latents.
        kept: Of the shape and dtype of what `"deep_cache"` keeps.
        copies: From `copies_of`.

    Returns:
        A tuple of tensors, for `loop.start`; empty where nothing is remembered.
    """
    memory = (ops.zeros_like(latents),) if "apg" in methods else ()
    if kept is not None:
        memory = (*memory, kept)
    if "reuse" in methods:
        memory = (*memory, *reuse.empty(latents, copies))
    if "forecast" in methods:
        memory = (*memory, forecasts.empty_past(latents))
    return memory


def _clean(x, row, output):
    """The denoised latents of a network's output."""
    return row[COLUMNS.c_skip] * x + row[COLUMNS.c_out] * output


def _join(branches):
    """A conditioning of several branches, those of an image side by side."""
    return {
        key: _side_by_side([branch[key] for branch in branches], int(key in VARYING))
        for key in branches[0]
    }


def _side_by_side(tensors, axis=0):
    """Batches as one: the first of each, the second of each, ..."""
    if len(tensors) == 1:
        return tensors[0]
    together = ops.stack(tensors, axis=axis + 1)
    shape = ops.shape(together)
    count = shape[axis] * len(tensors)
    return ops.reshape(together, (*shape[:axis], count, *shape[axis + 2 :]))


def _apart(tensor, count):
    """The batches of `_side_by_side`."""
    if count == 1:
        return [tensor]
    shape = ops.shape(tensor)
    apart = ops.reshape(tensor, (shape[0] // count, count, *shape[1:]))
    return [apart[:, i] for i in range(count)]


def _seen(conditioning, row):
    """The conditioning of a row: one variant of what varies."""
    variant = ops.cast(row[COLUMNS.variant], "int32")
    return {
        key: ops.take(value, variant, axis=0) if key in VARYING else value
        for key, value in conditioning.items()
    }
