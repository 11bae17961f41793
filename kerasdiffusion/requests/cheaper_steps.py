"""Options that make a step cheaper for a little of its picture, checked; all are off.

DeepCache runs the whole U-Net in some steps and its outer layers in the others; token
merging lets self-attention see fewer tokens. (Steps without guidance are in
`guidance_arguments`, 8-bit weights in `quantization`.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from keras import ops

from kerasdiffusion.models.token_merging import finest_attention
from kerasdiffusion.presets.config import DiffusionModelConfig
from kerasdiffusion.requests.request import Request
from kerasdiffusion.sampling.table import COLUMNS, Table


def cheaper_methods(request: Request, config: DiffusionModelConfig) -> dict:
    """What is on, by names: as `denoiser` and the denoising program take it.

    What the program is made for (the branch, the share of tokens) is a key, since names
    are no tensors, but keys may differ.

    Raises:
        TypeError: If an option is not of its type.
        ValueError: If it is out of its range, or goes not with another.
    """
    methods: dict = {}
    if request.deep_cache is not None:
        _, branch = request.deep_cache
        most = len(config.skip_widths) - 1
        if branch > most:
            raise ValueError(
                f"`deep_cache: branch` must be at most {most}, the number of the "
                f"U-Net's last skip. Received: {branch}"
            )
        if request.sag_scale:
            raise ValueError(
                "`sag_scale` must be 0 with `deep_cache`: it looks at the middle of "
                f"the U-Net in every step. Received: {request.sag_scale}"
            )
        methods["deep_cache"] = {str(branch): ()}
    share = request.merge_tokens
    if share and finest_attention(config) is None:
        raise ValueError(
            "`merge_tokens` must be 0 for a U-Net whose pixels do not attend to each "
            f"other. Received: {share}"
        )
    if share:
        methods["merge_tokens"] = {str(float(share)): ()}
    return methods


def whole_steps(table: Table, interval: int, kinds: np.ndarray) -> Table:
    """The table, the whole U-Net run in every so many of its steps alone.

    Counted are the table's own steps: the first is whole wherever in the schedule a
    picture's run or a second model's part of it begins. All network calls of a step are
    alike, since a step of several (Heun, DPM2, ...) lives on their difference; what a
    call reuses is then at most `interval - 1` steps old. Where guidance begins or ends,
    another number of images goes through the U-Net: that step is whole too.

    Args:
        table: The sampler's.
        interval: 1 or more; with 1 all steps are whole.
        kinds: Of each row, whether it goes without guidance: bool.
    """
    since, last, whole = 0, None, np.ones(len(table))
    for i, kind in enumerate(kinds):
        step = int(table.steps[i])
        if last is None or kind != kinds[i - 1]:
            since = step
        last = step
        whole[i] = (step - since) % interval == 0
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
