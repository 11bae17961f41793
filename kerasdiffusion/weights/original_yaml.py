"""The original configuration that lies beside a single file: `model.yaml`.

It says what shapes do not show: what the U-Net predicts, the betas, the scale of the
latents and the heads. It is read as data; what it names is never imported.

Reference:
    CompVis `configs/stable-diffusion/v1-inference.yaml`; Stability's `v2-inference-v
    .yaml` and generative-models `configs/inference/sd_xl_base.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.storage.bounds import shown
from kerasdiffusion.storage.reading import read_text
from kerasdiffusion.weights.base import WeightsError
from kerasdiffusion.weights.fields import Fields

PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}
SCALINGS = {"EpsScaling": "epsilon", "VScaling": "v_prediction"}


def heed_yaml(path: Path, config: ModelConfig) -> ModelConfig:
    """The configuration of a single file as the `.yaml` of its name has it.

    Args:
        path: The single file.
        config: What its keys and shapes show.

    Returns:
        A `ModelConfig`; `config` itself where there is no such file.

    Raises:
        WeightsError: If the file is none of that layout, or has a value that is not
            supported.
    """
    place = path.with_suffix(".yaml")
    if not place.is_file():
        return config
    import yaml

    try:
        values = yaml.safe_load(read_text(place, "yaml"))
    except (yaml.YAMLError, ValueError, OSError, RecursionError, TypeError) as error:
        raise WeightsError(
            f"The configuration beside a single file must be YAML "
            f"({shown(str(error))}). Received: {place}"
        ) from error
    params = _inside(values, "model", "params")
    if params is None:
        raise WeightsError(
            "The configuration beside a single file must have `model.params`, as "
            f"CompVis's have. Received: {place}"
        )
    fields = Fields({str(key): value for key, value in params.items()}, str(place))
    scale = fields.number("scale_factor", config.autoencoder.scale_factor, 0, 1e6)
    config = config.replace(autoencoder=replace(config.autoencoder, scale_factor=scale))
    config = config.replace(schedule=_schedule(fields, config.schedule))
    unet = _inside(params, "unet_config", "params")
    unet = unet or _inside(params, "network_config", "params") or {}
    return config.replace(diffusion_model=_heads(unet, config.diffusion_model, place))


def _schedule(fields: Fields, own):
    kind = fields.take("parameterization")
    target = _inside(fields.values, "denoiser_config", "params", "scaling_config")
    target = str((target or {}).get("target", "")).rpartition(".")[2]
    predicts = SCALINGS.get(target, own.prediction_type)
    if kind is not None:
        if not isinstance(kind, str) or kind not in PREDICTIONS:
            fields.refuse("parameterization", kind)
        predicts = PREDICTIONS[kind]
    if own.is_continuous:
        return own
    low = fields.number("linear_start", own.beta_start, 0, 1)
    high = fields.number("linear_end", own.beta_end, 0, 1)
    if low > high:
        fields.refuse("linear_start", low)
    steps = fields.whole("timesteps", own.train_steps, "train_steps")
    return replace(
        own,
        prediction_type=predicts,
        beta_start=low,
        beta_end=high,
        train_steps=steps,
    )


def _heads(params: Mapping, own, place: Path):
    """Heads by their number, or by their width in channels."""
    fields = Fields({str(key): value for key, value in params.items()}, str(place))
    width = fields.take("num_head_channels", -1)
    count = fields.take("num_heads", -1)
    if width == count == -1:
        return own
    if width != -1:
        fields.values["num_head_channels"] = width
        width = fields.whole("num_head_channels", 64, "channels")
        return replace(own, heads=tuple(max(1, n // width) for n in own.block_widths))
    fields.values["num_heads"] = count
    count = fields.whole("num_heads", 8, "channels")
    return replace(own, heads=(count,) * len(own.block_widths))


def _inside(values, *names: str) -> Mapping | None:
    """What stands under names within names, if it is a mapping."""
    for name in names:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else None
