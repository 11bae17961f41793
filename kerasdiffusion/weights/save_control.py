"""A ControlNet to a folder, as diffusers and `Control` read it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from kerasdiffusion.presets.config import ControlNetConfig
from kerasdiffusion.storage.folders import whole_folder
from kerasdiffusion.weights.arrays import stored_shape, stored_variables
from kerasdiffusion.weights.names import canonical_name
from kerasdiffusion.weights.save import Entry, dtype_of, write_safetensors
from kerasdiffusion.weights.unet_json import unet_to_json

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"


def save_control(
    network,
    folder: str | os.PathLike,
    overwrite: bool = False,
    dtype: str | None = None,
) -> Path:
    """Writes a ControlNet.

    Args:
        network: A built `ControlNet`.
        folder: Where to; its parent must exist.
        overwrite: Whether a ControlNet that is there may be replaced.
        dtype: What the weights are stored in; by default each in its own.

    Returns:
        The folder.

    Raises:
        FileExistsError: If something is there, and `overwrite` is off or it is no
            ControlNet.
        ValueError: If a value does not fit the dtype.

    Example:

    ```python
    trainer = Finetuner(model, begin_control(model))
    save_control(trainer.taught["controlnet"], "edges", dtype="float16")
    model.text_to_image("a cat", control=Control("edges", picture))
    ```
    """
    entries = [
        Entry(
            canonical_name(variable.path, network.name),
            variable,
            stored_shape(variable),
            dtype_of(variable, dtype),
        )
        for variable in stored_variables(network)
    ]
    text = json.dumps(controlnet_to_json(network.config), indent=2) + "\n"
    with whole_folder(
        folder, overwrite, _is_control, {CONFIG, WEIGHTS}.__contains__
    ) as (part):
        (part / CONFIG).write_text(text, "utf-8")
        write_safetensors(part / WEIGHTS, entries, {"format": "pt"})
    return Path(folder)


def controlnet_to_json(config: ControlNetConfig) -> dict:
    """Diffusers' `config.json` of a ControlNet.

    Args:
        config: Its configuration.

    Returns:
        A JSON object, of which `controlnet_from_json` makes the same.
    """
    found = unet_to_json(config)
    for name in (
        "out_channels",
        "up_block_types",
        "sample_size",
        "center_input_sample",
    ):
        del found[name]
    return {
        **found,
        "_class_name": "ControlNetModel",
        "conditioning_channels": config.picture_channels,
        "conditioning_embedding_out_channels": list(config.picture_widths),
        "controlnet_conditioning_channel_order": "bgr" if config.bgr else "rgb",
        "global_pool_conditions": config.pooled,
    }


def _is_control(folder: Path) -> bool:
    path = folder / CONFIG
    return path.is_file() and '"ControlNetModel"' in path.read_text("utf-8", "replace")
