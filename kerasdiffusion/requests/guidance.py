"""What callers pass of guidance, checked, and as the compiled program takes it."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Mapping, Sequence

import numpy as np

from kerasdiffusion.models.taps import is_within
from kerasdiffusion.presets.config import DiffusionModelConfig
from kerasdiffusion.requests.options import Options
from kerasdiffusion.sampling.table import COLUMNS, Table
from kerasdiffusion.weights.names import tensors


def guidance_methods(options: Options) -> dict:
    """The methods that are on, as `denoiser` takes them: numbers by their names.

    Raises:
        TypeError: If an option is not of its type.
        ValueError: If it is out of its range.
    """
    methods = {}
    phi = _number("guidance_rescale", options.guidance_rescale, 0.0, 1.0)
    if phi:
        methods["rescale"] = phi
    if options.dynamic_thresholding is not None:
        given = options.dynamic_thresholding
        methods["thresholding"] = _numbers(
            "dynamic_thresholding",
            given,
            {"mimic_scale": (0.0, math.inf), "percentile": (0.0, 1.0)},
            {"percentile": 1.0},
        )
    if options.apg is not None and options.apg is not False:
        methods["apg"] = _numbers(
            "apg",
            {} if options.apg is True else options.apg,
            {
                "eta": (-math.inf, math.inf),
                "norm_threshold": (0.0, math.inf),
                "momentum": (-1.0, 1.0),
            },
            {"eta": 0.0, "norm_threshold": 7.5, "momentum": -0.75},
        )
        if not methods["apg"]["norm_threshold"]:
            methods["apg"]["norm_threshold"] = np.float32(np.inf)
    layers = _layers(options.pag_applied_layers)
    for name in ("pag", "sag"):
        scale = _number(f"{name}_scale", getattr(options, f"{name}_scale"), 0.0)
        if scale:
            methods[name] = scale
    if "pag" in methods:
        methods["pag_layers"] = {layer: () for layer in layers}
    if options.freeu is not None:
        ranges = dict.fromkeys(("b1", "b2", "s1", "s2"), (-math.inf, math.inf))
        factors = _numbers("freeu", options.freeu, ranges, {})
        methods["freeu"] = np.stack(list(factors.values()))
    return methods


def within_interval(table: Table, options: Options) -> Table:
    """The table, guided only at the noise levels of `guidance_interval`.

    Raises:
        TypeError: If it is not two numbers.
        ValueError: If they are no interval.
    """
    if options.guidance_interval is None:
        return table
    low, high = _numbers(
        "guidance_interval",
        options.guidance_interval,
        {"low": (0.0, math.inf), "high": (0.0, math.inf)},
        {"low": 0.0, "high": np.inf},
    ).values()
    if low > high:
        raise ValueError(
            f"`guidance_interval` must be (low, high) with low <= high. "
            f"Received: {options.guidance_interval!r}"
        )
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
    alone = alone and not set(methods) - {"freeu", "deep_cache", "merge_tokens"}
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
        near = difflib.get_close_matches(layer, [*blocks, *known], n=3, cutoff=0.5)
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


def _layers(given) -> list[str]:
    """One name or several."""
    layers = [given] if isinstance(given, str) else given
    if not isinstance(layers, (list, tuple)) or not all(
        isinstance(layer, str) for layer in layers
    ):
        raise TypeError(
            f"`pag_applied_layers` must be a string or a list of strings. "
            f"Received: {given!r}"
        )
    if not layers:
        raise ValueError("`pag_applied_layers` must not be empty. Received: []")
    return sorted(set(layers))


def _numbers(name: str, given, ranges: Mapping, defaults: Mapping) -> dict:
    """Numbers in their order or by their names, as float32 by their names.

    Args:
        name: The option's name.
        given: What the caller passed.
        ranges: The lowest and the highest value of each number.
        defaults: Of those that may be left out.
    """
    order = f"`{name}` must be ({', '.join(ranges)}), or a dict by these names"
    if isinstance(given, Mapping):
        unknown = [key for key in given if key not in ranges]
        if unknown:
            raise ValueError(f"{order}. Received: {unknown[0]!r}")
        found = dict(given)
    elif isinstance(given, (list, tuple)):
        if len(given) > len(ranges):
            raise ValueError(f"{order}. Received: {given!r}")
        found = dict(zip(ranges, given, strict=False))
    else:
        raise TypeError(f"{order}. Received: {given!r}")
    found = {**defaults, **found}
    missing = [key for key in ranges if key not in found]
    if missing:
        raise ValueError(f"{order}; {missing[0]} is missing. Received: {given!r}")
    return {
        key: _number(f"{name}: {key}", found[key], *ranges[key], defaults.get(key))
        for key in ranges
    }


def _number(name: str, value, low=-math.inf, high=math.inf, default=0.0) -> np.float32:
    """A finite number within its range; an infinite default is good too."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be a number. Received: {value!r}")
    if not math.isfinite(value) and value != default:
        raise ValueError(f"`{name}` must be finite. Received: {value}")
    if not low <= value <= high:
        bounds = f"{low:g} or more" if high == math.inf else f"from {low:g} to {high:g}"
        raise ValueError(f"`{name}` must be {bounds}. Received: {value}")
    return np.float32(value)
