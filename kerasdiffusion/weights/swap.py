"""The configuration of a model of which a part comes from somewhere else."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping
from pathlib import Path

from kerasdiffusion.presets.config import (
    AutoencoderConfig,
    ModelConfig,
    TextEncoderConfig,
    TinyAutoencoderConfig,
)
from kerasdiffusion.storage.bounds import shown
from kerasdiffusion.weights import hub, load
from kerasdiffusion.weights.alone import detect_part
from kerasdiffusion.weights.base import WeightsError, read_json
from kerasdiffusion.weights.configs import text_encoder_from_json, vae_from_json
from kerasdiffusion.weights.files import open_tensors
from kerasdiffusion.weights.given import Given
from kerasdiffusion.weights.unet_json import unet_from_json

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
#: Folders of the parts, and how their configurations are read.
FOLDERS = {
    "autoencoder": ("vae", vae_from_json),
    "text_encoder": ("text_encoder", text_encoder_from_json),
    "text_encoder_2": ("text_encoder_2", text_encoder_from_json),
    "diffusion_model": ("unet", unet_from_json),
}
# What has to be as in the model that a part comes into.
FITS = {
    "autoencoder": ("latent_channels", "downsampling", "image_channels"),
    "text_encoder": ("width", "context_length", "projection_width"),
    "text_encoder_2": ("width", "context_length", "projection_width"),
    "diffusion_model": ("out_channels", "context_width", "vector_width"),
}
TINY_KEYS = ("1.conv.0.weight", "3.conv.0.weight", "decoder.layers.0.weight")


def read_model(source, sources: Mapping, known=None, **said) -> ModelConfig:
    """The configuration of a model, of which some parts may come from elsewhere.

    Args:
        source: Where the model lies, as in `load.read_config`.
        sources: As in `read_configs`.
        known: The model's configuration where it is known.
        **said: As in `read_configs`, but for `absent`.

    Returns:
        A `ModelConfig`.

    Raises:
        WeightsError: If the model, or a part, is none or does not fit; with what to
            give for a part that nobody gives.
    """
    there = {name: source for name, source in sources.items() if source is not None}

    def read(name, usual):
        return read_part(name, there[name], usual, True)

    given = Given(there, read)
    config = known or load.read_config(source, given)
    return read_configs(config, sources, absent=given.absent, **said)


def read_configs(
    config: ModelConfig,
    sources: Mapping,
    prediction_type: str | None = None,
    zero_terminal_snr: bool | None = None,
    absent: Collection[str] = (),
) -> ModelConfig:
    """A model's configuration with those of the parts that are swapped.

    Args:
        config: The model's own.
        sources: Where `"autoencoder"`, `"text_encoder"`, `"text_encoder_2"` and
            `"diffusion_model"` come from, or `None`: a model's folder, the part's own
            folder in one, a file of the part or of a whole model, `hf://owner/name`, or
            a dict from parts to files.
        prediction_type: What the U-Net predicts, where the model's files do not say.
        zero_terminal_snr: Whether the last training step is noise alone, likewise.
        absent: Those that have been read already, for the model's own files lack them.

    Returns:
        A `ModelConfig`.

    Raises:
        WeightsError: If a source holds no such part, or one that does not fit.
        ValueError: If the prediction type is none.
    """
    if zero_terminal_snr is not None:
        if not isinstance(zero_terminal_snr, bool):
            raise TypeError(
                "`zero_terminal_snr` must be True, False or None. "
                f"Received: {shown(zero_terminal_snr)}"
            )
        schedule = dataclasses.replace(
            config.schedule, zero_terminal_snr=zero_terminal_snr
        )
        config = config.replace(schedule=schedule)
    if prediction_type is not None:
        if prediction_type not in PREDICTION_TYPES:
            raise ValueError(
                f"`prediction_type` must be one of {', '.join(PREDICTION_TYPES)}. "
                f"Received: {prediction_type!r}"
            )
        schedule = dataclasses.replace(config.schedule, prediction_type=prediction_type)
        config = config.replace(schedule=schedule)
    for field, source in sources.items():
        if source is None or field in absent:
            continue
        own = getattr(config, field)
        if own is None:
            raise WeightsError(
                "The model has one text encoder and takes no second. "
                f"Received: {field}={shown(source)}"
            )
        found = read_part(field, source, own)
        _check(field, found, own, source)
        config = config.replace(**{field: found})
    return config


def read_part(field: str, source, own, absent: bool = False):
    """The configuration of a part's files; what they do not say is as in `own`.

    Where the model's own is absent, `own` is its family's or `None`, and a file is
    looked at closely.
    """
    if isinstance(source, Mapping):
        own_tiny = isinstance(own, TinyAutoencoderConfig)
        path = Path(source.get("decoder", next(iter(source.values()))))
        with open_tensors(path) as file:
            is_tiny = any(key in file for key in TINY_KEYS)
            if field == "autoencoder" and is_tiny and not own_tiny:
                return TinyAutoencoderConfig()
            return detect_part(field, file, own) if absent else own
    path = hub.resolve(source, configs_only=True)
    name, convert = FOLDERS[field]
    if path.is_dir():
        for place in (path / name, path):
            if (place / "config.json").is_file():
                if field == "autoencoder":  # what it does not say is the family's
                    upcasts = getattr(own, "force_upcast", False)
                    convert = functools.partial(convert, force_upcast=upcasts)
                found = convert(read_json(place / "config.json"), str(place))
                return _like(found, own)
        raise WeightsError(
            f"The folder must hold {name}/config.json or config.json. Received: {path}"
        )
    with open_tensors(path) as file:
        if field == "autoencoder" and any(key in file for key in TINY_KEYS):
            return TinyAutoencoderConfig()
        if absent:
            return detect_part(field, file, own)
    # A file has no more than weights: it must be of the same layout.
    return _kl(own) if field == "autoencoder" else own


def _kl(own) -> AutoencoderConfig:
    return own if isinstance(own, AutoencoderConfig) else AutoencoderConfig()


def _like(found, own):
    """Which layers count is the model's affair, not the text encoder's."""
    if not isinstance(found, TextEncoderConfig) or own is None:
        return found
    return dataclasses.replace(
        found, skipped_layers=own.skipped_layers, final_norm=own.final_norm
    )


def _check(field: str, found, own, source) -> None:
    """Whether a part fits its neighbours."""
    for name in FITS[field]:
        if getattr(found, name) != getattr(own, name):
            raise WeightsError(
                f"The {field} must have a {name} of {getattr(own, name)} to fit the "
                f"model. Received: {getattr(found, name)} in {source!r}"
            )
