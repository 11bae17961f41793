"""Pictures to follow: what a caller says of them, and what the U-Net is told."""

from __future__ import annotations

import math
import numbers
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kerasdiffusion.adapters.loaded import Loaded, changes_of, told_unused
from kerasdiffusion.adapters.namespaces import CONTROL
from kerasdiffusion.adapters.read import read_adapter
from kerasdiffusion.adapters.sources import find_adapter
from kerasdiffusion.compute import backend
from kerasdiffusion.compute.precision import policy
from kerasdiffusion.models.controlnet import ControlNet
from kerasdiffusion.models.t2i_adapter import T2IAdapter
from kerasdiffusion.networks.merging import Merging
from kerasdiffusion.pictures.control_pictures import check_lines
from kerasdiffusion.pictures.read import pad_to_multiple, read_pictures
from kerasdiffusion.presets.config import (
    ControlNetConfig,
    ModelConfig,
    T2IAdapterConfig,
)
from kerasdiffusion.presets.controls import find_control, kind_of
from kerasdiffusion.requests.adapters import Adapters
from kerasdiffusion.requests.control import Control
from kerasdiffusion.requests.kinds import SHARE
from kerasdiffusion.sampling.table import COLUMNS, Table
from kerasdiffusion.weights.controls import load_control, read_control_config

NETWORKS = {ControlNetConfig: ControlNet, T2IAdapterConfig: T2IAdapter}


class Checked(NamedTuple):
    """A `Control` that fits the model and the call.

    Args:
        source: The network, or where it is.
        config: The network's configuration.
        pictures: uint8 of shape `(images, height, width, 3)`.
        multiple: What the sides are brought to multiples of, for the network to see.
        scales: float32 of shape `(2, residuals)`: those under the negative prompt, and
            those under others.
        start: Where it begins, and
        end: where it ends to count.
    """

    source: Any
    config: ControlNetConfig | T2IAdapterConfig
    pictures: np.ndarray
    multiple: int
    scales: np.ndarray
    start: float
    end: float


def control_network(
    source, precision: str = "auto", adapters=None
) -> ControlNet | T2IAdapter:
    """A network that follows pictures, with its weights: for several models at once.

    Args:
        source: As in `Control`; what is followed has to be said with the family, as
            in `"sd-controlnet-canny"`.
        precision: As in `StableDiffusion`.
        adapters: LoRA files of a ControlNet, as a task's `adapters`; they stay in it.

    Returns:
        A `ControlNet` or a `T2IAdapter`.

    Raises:
        ValueError: If there is no such name, or adapters are asked of a T2I-Adapter.
        WeightsError: If the source is no such network, or a file no adapter of it.
    """
    source = find_control(source)
    config, loaded = read_control_config(source), []
    for path, weight, *_ in Adapters().check(adapters or [], "adapters") or ():
        if not isinstance(config, ControlNetConfig):
            raise ValueError(
                f"Adapters are of a ControlNet. Received: adapters={path!r} of a "
                "T2I-Adapter"
            )
        found = read_adapter(find_adapter(path), config)
        loaded.append(Loaded(path, found, weight, weight))
    network = _build(source, config, precision)
    if loaded:
        Merging(network).merge(changes_of(CONTROL, loaded))
        network.has_adapters = False  # for good: nobody takes them off
        for unused in filter(None, map(told_unused, loaded)):
            warnings.warn(unused, UserWarning, stacklevel=2)
    return network


def _build(source, config, precision: str):
    with backend.empty_weights():
        dtype = policy(backend.resolve_precision(precision))
        network = NETWORKS[type(config)](config, dtype=dtype)
    load_control(network, source)
    return network


class Networks:
    """The networks that a model has followed pictures by, each read once."""

    def __init__(self, precision: str):
        self.precision, self._read = precision, {}
        self._lock = threading.Lock()

    def get(self, control: Checked):
        """The network of a control."""
        if isinstance(control.source, (ControlNet, T2IAdapter)):
            return control.source
        key = str(control.source)
        with self._lock:
            if key not in self._read:
                network = _build(control.source, control.config, self.precision)
                self._read[key] = network
            return self._read[key]


def check_controls(
    controls, config: ModelConfig, count: int, size: tuple[int, int]
) -> tuple[Checked, ...]:
    """The caller's controls, checked and with their pictures read.

    Args:
        controls: A `Control`, a list of them, or `None`.
        config: The model's.
        count: How many results there are.
        size: Their height and width.

    Returns:
        A `Checked` for each.

    Raises:
        TypeError: If something is of the wrong kind.
        ValueError: If a value is out of its range, a picture has another size, or a
            network is for another family.
    """
    if controls is None:
        return ()
    listed = list(controls) if isinstance(controls, (list, tuple)) else [controls]
    if not all(isinstance(each, Control) for each in listed):
        raise TypeError(
            "`control` must be a `Control(network, picture)` or a list of them. "
            f"Received: {controls!r}"
        )
    return tuple(_checked(each, config, count, size) for each in listed)


def _checked(control: Control, config: ModelConfig, count, size) -> Checked:
    scale = control.scale
    if isinstance(scale, bool) or not isinstance(scale, numbers.Real):
        raise TypeError(f"A control's `scale` must be a number. Received: {scale!r}")
    if not math.isfinite(scale):
        raise ValueError(f"A control's `scale` must be finite. Received: {scale}")
    start, end = SHARE.check(control.start, "start"), SHARE.check(control.end, "end")
    if start >= end:
        raise ValueError(
            f"A control's `start` must be less than its `end`. Received: "
            f"start={start}, end={end}"
        )
    source, own = control.network, None
    if isinstance(source, (ControlNet, T2IAdapter)):
        own = source.config
    elif isinstance(source, str) or hasattr(source, "__fspath__"):
        source = find_control(source, config.diffusion_model.context_width)
    else:
        raise TypeError(
            "A control's `network` must be a name, a path, a ControlNet or a "
            f"T2IAdapter. Received: {source!r}"
        )
    pictures = read_pictures(control.picture)
    check_lines(pictures, kind_of(control.network))
    for picture in pictures:
        if picture.shape[:2] != tuple(size):
            raise ValueError(
                f"A control's picture must have the result's height and width, "
                f"{tuple(size)}. Received: {picture.shape[:2]}"
            )
    if count % len(pictures):
        raise ValueError(
            f"A control must have one picture, or one for each prompt or each of the "
            f"{count} results. Received: {len(pictures)} pictures"
        )
    own = read_control_config(source) if own is None else own
    _check_fits(own, config, control.network)
    multiple = max(config.autoencoder.downsampling, own.downsampling)
    pictures = np.stack(pictures)
    if len(pictures) == 1:  # a walk's many frames may share one
        pictures = np.broadcast_to(pictures, (count, *pictures.shape[1:]))
    else:
        pictures = np.repeat(pictures, count // len(pictures), axis=0)
    scales = _scales(control, own)
    return Checked(source, own, pictures, multiple, scales, start, end)


def _scales(control: Control, config) -> np.ndarray:
    is_adapter = isinstance(config, T2IAdapterConfig)
    count = len(config.block_widths if is_adapter else config.skip_widths + [1])
    scales = np.full((2, count), control.scale, "float32")
    pooled = getattr(config, "pooled", False)
    if control.guess_mode or pooled:
        scales[0] = 0.0
    if control.guess_mode and not pooled:
        scales[1] *= np.logspace(-1.0, 0.0, count)
    return scales


def _check_fits(config, model: ModelConfig, received) -> None:
    """Whether what a network gives can be added to the U-Net's."""
    unet, factor = model.diffusion_model, model.autoencoder.downsampling
    if isinstance(config, ControlNetConfig):
        names = ("vector_width",)
        if any(config.transformer_depths) or config.mid_transformer_depth:
            names += ("context_width",)
        found = {name: getattr(config, name) for name in names}
        needed = {name: getattr(unet, name) for name in names}
        found |= {"skips": config.skip_widths, "in_channels": config.in_channels}
        latent_channels = model.autoencoder.latent_channels
        needed |= {"skips": unet.skip_widths, "in_channels": latent_channels}
        found["downsampling"], needed["downsampling"] = config.downsampling, factor
    else:
        places = _places(unet, factor)
        side, levels = config.downsampling, []
        for level, width in enumerate(config.block_widths):
            side *= 2 if config.halves(level) else 1
            levels.append((width, side))
        # One more than there are levels goes to the middle.
        fewer = len(levels) < len(places)
        found, needed = {"levels": levels}, {"levels": places[: -1 if fewer else None]}
    for name, value in needed.items():
        if found[name] != value:
            raise ValueError(
                f"A control's network must be made for the model's family, whose "
                f"U-Net has {name} {value}. Received: {received!r} with {found[name]}"
            )


def _places(unet, factor: int) -> list[tuple[int, int]]:
    """Width, and pixels on a side of one, where each level takes a feature."""
    last = len(unet.block_widths) - 1
    places = []
    for level, width in enumerate(unet.block_widths):
        attends = bool(max(unet.depths(level)))
        places.append((width, factor * 2 ** (level + (not attends and level < last))))
    return [*places, (unet.block_widths[-1], factor * 2**last)]


def told(controls: Sequence[Checked], table: Table) -> list[dict[str, np.ndarray]]:
    """What the denoising program takes for each control.

    Args:
        controls: From `check_controls`.
        table: The run's; a control counts in a network call that lies within its
            part of all calls, as in diffusers.

    Returns:
        A dict for each of `"pictures"`, float32 of shape `(images, height, width,
        channels)`, from 0 to 1; `"scales"`, see `Checked`; and `"calls"`: the first
        call in which it counts and the one before which it stops.
    """
    found = []
    for control in controls:
        position = np.arange(len(table))
        inside = position / len(table) >= control.start
        inside &= (position + 1) / len(table) <= control.end
        calls = table.values[inside, COLUMNS.call]
        span = (calls[0], calls[-1] + 1) if len(calls) else (0, 0)
        found.append(
            {
                "pictures": _seen(control),
                "scales": control.scales,
                "calls": np.array(span, "float32"),
            }
        )
    return found


def _seen(control: Checked) -> np.ndarray:
    padded = [pad_to_multiple(each, control.multiple) for each in control.pictures]
    seen = np.stack(padded).astype("float32") / 255.0
    if control.config.picture_channels == 1:
        seen = seen @ np.array([[0.299], [0.587], [0.114]], "float32")
    return seen


def controller(networks: Sequence, controls: Sequence[Mapping]) -> Callable | None:
    """What adds up the residuals of all networks, inside the denoising program.

    Args:
        networks: A `ControlNet` or a `T2IAdapter` for each control.
        controls: From `told`, as tensors.

    Returns:
        A function of the U-Net's inputs and a row of the table, which returns the
        U-Net's `"control"`; `None` without controls.
    """
    if not networks:
        return None
    # Once, ahead of the loop.
    pairs = list(zip(networks, controls, strict=True))
    seen = [network.look(each["pictures"]) for network, each in pairs]
    images = controls[0]["pictures"].shape[0]

    def control(inputs, row):
        copies, total = inputs["latents"].shape[0] // images, {}
        for (network, each), picture in zip(pairs, seen, strict=True):
            picture = keras.tree.map_structure(lambda x: _copied(x, copies), picture)
            scales = _scales_of_images(each, row, images, copies)
            for key, tensors in network.residuals(inputs, picture).items():
                scaled = [
                    x * ops.cast(scales[:, i, None, None, None], x.dtype)
                    for i, x in enumerate(tensors)
                ]
                before = total.get(key, [0.0] * len(scaled))
                total[key] = [x + y for x, y in zip(scaled, before, strict=True)]
        return total

    return control


def _copied(x, copies: int):
    # Side by side, as the denoiser has them.
    return ops.repeat(x, copies, axis=0) if copies > 1 else x


def _scales_of_images(control, row, images: int, copies: int):
    """Of shape `(images * copies, residuals)`; 0 in calls that are not its own."""
    first, stop = control["calls"][0], control["calls"][1]
    call = row[COLUMNS.call]
    counts = ops.logical_and(call >= first, call < stop)
    scales = control["scales"] * ops.cast(counts, "float32")
    # Of several copies the first is the negative prompt's.
    away, towards = scales[:1], scales[1:]
    first = [away] if copies > 1 else [towards]
    return ops.tile(
        ops.concatenate(first + [towards] * (copies - 1), axis=0), (images, 1)
    )
