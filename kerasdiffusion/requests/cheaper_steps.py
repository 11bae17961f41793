"""Options that make a step cheaper for a little of its picture, checked; all are off.

DeepCache runs the whole U-Net in some steps and its outer layers in the others; UCache
and EasyCache leave calls out where little would change, others take the noise of before
again, and Spectrum foretells some; token merging lets self-attention see fewer tokens.
(Steps without guidance are in `guidance`, 8-bit weights in `quantization`.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
from keras import ops

from kerasdiffusion.models.token_merging import finest_attention
from kerasdiffusion.presets.config import DiffusionModelConfig
from kerasdiffusion.requests.request import Request
from kerasdiffusion.sampling.forecasts import Forecast, foretold
from kerasdiffusion.sampling.reuse import reusable
from kerasdiffusion.sampling.table import COLUMNS, Table

#: Fields of which a request has one at most: each keeps what the U-Net gave.
CACHES = ("deep_cache", "ucache", "easy_cache", "noise_cache", "spectrum")
#: How `sampling.reuse` judges: stable-diffusion.cpp's constants of both.
UCACHE = {"drift": 0.5, "streak": 0.5, "early": 0.5, "late": 1.5, "noise": 0.0}
EASY_CACHE = {"drift": 0.0, "streak": 0.0, "early": 1.0, "late": 1.0, "noise": 0.0}
PLAIN = {"decay": 1.0, "relative": 1.0, "reset": 1.0}


def cheaper_methods(request: Request, config: DiffusionModelConfig) -> dict:
    """What is on, by names: as `denoiser` and the denoising program take it.

    What the program is made for (the branch, the share of tokens) is a key, since names
    are no tensors, but keys may differ.

    Raises:
        TypeError: If an option is not of its type.
        ValueError: If it is out of its range, or goes not with another.
    """
    methods: dict = {}
    _check_caches(request)
    if request.deep_cache is not None:
        _, branch = request.deep_cache
        most = len(config.skip_widths) - 1
        if branch > most:
            raise ValueError(
                f"`deep_cache: branch` must be at most {most}, the number of the "
                f"U-Net's last skip. Received: {branch}"
            )
        methods["deep_cache"] = {str(branch): ()}
    judged = _judged(request)
    if judged:
        methods["reuse"] = {name: np.float32(each) for name, each in judged.items()}
    if request.spectrum is not None:
        methods["forecast"] = ()
    share = request.merge_tokens
    if share and finest_attention(config) is None:
        raise ValueError(
            "`merge_tokens` must be 0 for a U-Net whose pixels do not attend to each "
            f"other. Received: {share}"
        )
    if share:
        methods["merge_tokens"] = {str(float(share)): ()}
    return methods


def _check_caches(request: Request) -> None:
    """That caches go with each other and with what guides."""
    given = [name for name in CACHES if getattr(request, name) is not None]
    if len(given) > 1:
        raise ValueError(
            f"Of {', '.join(f'`{name}`' for name in CACHES)} one may be given, since "
            f"each leaves out calls that the others judge by. Received: {given}"
        )
    looks = [name for name in given if name != "spectrum"]
    if looks and request.sag_scale:
        raise ValueError(
            f"`sag_scale` must be 0 with `{looks[0]}`: it looks at the middle of the "
            f"U-Net in every step. Received: {request.sag_scale}"
        )


def _judged(request: Request) -> dict:
    """How calls are judged that may be left out; empty where none is."""
    if request.ucache is not None and request.ucache[0]:
        threshold, _, _, decay, relative, reset = request.ucache
        own = {"decay": decay, "relative": relative, "reset": reset}
        return {"threshold": threshold, **own, **UCACHE}
    if request.easy_cache is not None and request.easy_cache[0]:
        return {"threshold": request.easy_cache[0], **PLAIN, **EASY_CACHE}
    if request.noise_cache is not None:
        *_, threshold = request.noise_cache
        return {"threshold": threshold, **PLAIN, **UCACHE, "noise": 1.0}
    return {}


def cheaper_table(
    table: Table,
    request: Request,
    methods: Mapping,
    unguided: np.ndarray,
    controls: Sequence[Mapping] = (),
) -> tuple[Table, dict]:
    """The table with the rows of which the whole network need not run.

    Args:
        table: The sampler's.
        request: What is asked.
        methods: From `cheaper_methods`, with others.
        unguided: Of each row, whether it goes without guidance: bool.
        controls: From `networks.control.told`.

    Returns:
        It, and the methods with what they are told of it.
    """
    methods = dict(methods)
    calls = table.values[:, COLUMNS.call]
    kinds = [calls * 0 + unguided, table.values[:, COLUMNS.variant]]
    kinds += [
        (first <= calls) & (calls < last)
        for first, last in (each["calls"] for each in controls)
    ]
    if "deep_cache" in methods:
        # What it keeps is the U-Net's own, whatever guidance makes of it.
        table = whole_steps(table, request.deep_cache[0], _each(kinds))
    if not {"reuse", "forecast"} & set(methods):
        return table, methods
    kinds = _each([*kinds, table.values[:, COLUMNS.guidance]])
    if "reuse" in methods:
        how = request.noise_cache or request.ucache or request.easy_cache
        first, start, end, *_ = how
        interval = None if request.noise_cache is None else int(first)
        table = reusable(table, start, end, kinds, interval)
        count = np.float32(table.steps[-1] + 1 - table.steps[0])
        methods["reuse"] = methods["reuse"] | {"steps": count}
    else:
        table = foretold(table, spectral(request), kinds)
    return table, methods


def _each(kinds: Sequence[np.ndarray]) -> list[tuple]:
    """Of each row, what it is asked."""
    return list(zip(*(each.tolist() for each in kinds), strict=True))


def spectral(request: Request) -> Forecast:
    """What a request says of forecasts."""
    blend, degree, ridge, window, growth, warmup, stop = request.spectrum
    return Forecast(blend, int(degree), ridge, int(window), growth, int(warmup), stop)


def whole_steps(table: Table, interval: int, kinds: Sequence[Hashable]) -> Table:
    """The table, the whole U-Net run in every so many of its steps alone.

    Counted are the table's own steps: the first is whole wherever in the schedule a
    picture's run or a second model's part of it begins. All network calls of a step are
    alike, since a step of several (Heun, DPM2, ...) lives on their difference; what a
    call reuses is then at most `interval - 1` steps old. Where guidance begins or ends,
    another number of images goes through the U-Net, and features of another prompt say
    nothing of this one: that step is whole too.

    Args:
        table: The sampler's.
        interval: 1 or more; with 1 all steps are whole.
        kinds: Of each row, what changes on the way: the prompt, whether it is guided.
    """
    starts = np.where(table.changing(kinds), table.steps, table.steps[0])
    whole = (table.steps - np.maximum.accumulate(starts)) % interval == 0
    return table.with_column(COLUMNS.whole, whole)


def cheapened(network: Callable, methods: dict) -> Callable:
    """The U-Net as the program calls it, by the names among `cheaper_methods`.

    Args:
        network: It.
        methods: From `cheaper_methods`; what the denoiser need not know is taken out.
    """
    keywords: dict = {}
    if "deep_cache" in methods:
        (branch,) = methods["deep_cache"]
        keywords["branch"] = int(branch)
    if "merge_tokens" in methods:
        (share,) = methods.pop("merge_tokens")
        keywords["merge_tokens"] = float(share)
    return functools.partial(network, **keywords) if keywords else network


def kept_features(
    config: DiffusionModelConfig,
    methods: Mapping,
    latents: Sequence[int],
    copies: int,
    dtype: str,
):
    """Room for what DeepCache keeps; `None` where it is off.

    Args:
        config: The U-Net's.
        methods: From `cheaper_methods`.
        latents: The shape of the latents.
        copies: How often they go through the U-Net in one call.
        dtype: What it computes in.
    """
    if "deep_cache" not in methods:
        return None
    (branch,) = methods["deep_cache"]
    shape = kept_shape(config, int(branch), latents, copies)
    return ops.zeros(shape, dtype)


def kept_shape(
    config: DiffusionModelConfig, branch: int, latents: Sequence[int], copies: int
) -> tuple[int, ...]:
    """The shape of what DeepCache keeps: what the layer that joins a skip is given.

    Args:
        config: Of the U-Net.
        branch: The skip's number.
        latents: The shape of the latents.
        copies: How often they go through the U-Net in one call.
    """
    batch, height, width, _ = latents
    level = begin = 0
    while begin + config.blocks(level) < branch:
        begin += config.blocks(level) + 1
        level += 1
    is_first = branch == begin + config.blocks(level)
    below = min(level + is_first, len(config.block_widths) - 1)
    sides = (-(-side // 2**level) for side in (height, width))
    return (batch * copies, *sides, config.block_widths[below])
