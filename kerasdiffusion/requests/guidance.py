"""What a request asks of guidance, as the compiled program takes it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import numpy as np

from kerasdiffusion.models.taps import is_within
from kerasdiffusion.presets.config import DiffusionModelConfig
from kerasdiffusion.requests.kinds import as_list
from kerasdiffusion.requests.request import Request
from kerasdiffusion.sampling.table import COLUMNS, Table
from kerasdiffusion.weights.names import tensors

#: What the numbers of some fields are called in the compiled program.
THRESHOLDING = ("mimic_scale", "percentile")
APG = ("eta", "norm_threshold", "momentum")
#: Methods that make steps cheaper, see `cheaper_steps`: they guide nothing.
CHEAPER = ("deep_cache", "merge_tokens", "reuse", "forecast")


def guidance_methods(request: Request) -> dict:
    """The methods that are on, as `denoiser` takes them: numbers by their names."""
    methods: dict = {}
    if request.guidance_rescale:
        methods["rescale"] = np.float32(request.guidance_rescale)
    if request.dynamic_thresholding is not None:
        methods["thresholding"] = _named(THRESHOLDING, request.dynamic_thresholding)
    if request.apg is not None:
        methods["apg"] = _named(APG, request.apg)
        if not methods["apg"]["norm_threshold"]:
            methods["apg"]["norm_threshold"] = np.float32(np.inf)
    for name in ("pag", "sag"):
        scale = np.float32(getattr(request, f"{name}_scale"))
        if scale:
            methods[name] = scale
    if "pag" in methods:
        layers = as_list(request.pag_applied_layers)
        methods["pag_layers"] = {layer: () for layer in sorted(set(layers))}
    if request.freeu is not None:
        methods["freeu"] = np.array(request.freeu, np.float32)
    return methods


def within_interval(table: Table, request: Request) -> Table:
    """The table, guided only at the noise levels of `guidance_interval`."""
    if request.guidance_interval is None:
        return table
    low, high = map(np.float32, request.guidance_interval)
    sigmas, before = (
        table.rows[:, column] for column in (COLUMNS.sigma, COLUMNS.guidance)
    )
    inside = (low < sigmas) & (sigmas <= high)
    return table.with_column(COLUMNS.guidance, before * inside)


def without_guidance(
    table: Table, branches: Sequence, shares, methods: Mapping
) -> np.ndarray:
    """The rows of a table to which the prompt alone says all: bool.

    There the negative prompt is left out, and half of the time with it. With other
    methods than the scale and with `AND` it never is.
    """
    alone = len(branches) == 2 and np.all(np.asarray(shares) == 1.0)
    alone = alone and not set(methods) - {"freeu", *CHEAPER}
    return alone & (table.rows[:, COLUMNS.guidance] == 0.0)


def self_attentions(config: DiffusionModelConfig) -> list[str]:
    """diffusers' names of a U-Net's self-attention layers, without building it."""
    ending = ".to_q.weight"
    found = (tensor.name for tensor in tensors("diffusion_model", config))
    return sorted(
        name.removesuffix(ending) for name in found if name.endswith(f".attn1{ending}")
    )


def check_layers(methods: Mapping, known: Sequence[str]) -> None:
    """That the U-Net has the self-attention that methods are about.

    Args:
        methods: As from `guidance_methods`.
        known: The names of the U-Net's self-attention layers.

    Raises:
        ValueError: If it has not.
    """
    blocks = sorted({name.split(".attentions")[0] for name in known})
    for layer in methods.get("pag_layers", ()):
        if any(is_within(name, layer) for name in known):
            continue
        near = difflib.get_close_matches(
            layer[:200], [*blocks, *known], n=3, cutoff=0.5
        )
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(
            f"`pag_applied_layers` must name blocks with self-attention "
            f"({', '.join(blocks)}) or layers in them.{hint} Received: {layer!r}"
        )
    if "sag" in methods and not any(is_within(name, "mid") for name in known):
        raise ValueError(
            "`sag_scale` must be 0 for a U-Net without self-attention in its middle "
            f"block. Received: {float(methods['sag'])}"
        )


def _named(names: Sequence[str], values: Sequence[float]) -> dict:
    """Numbers by their names, as float32."""
    return dict(zip(names, map(np.float32, values), strict=True))
