"""What a preset says of itself: its recipe and its card."""

from __future__ import annotations

import dataclasses
import json
import platform
from pathlib import Path

import keras

from kerasdiffusion._version import __version__
from kerasdiffusion.datasets import SceneConfig
from kerasdiffusion.presets.named import PRESETS
from kerasdiffusion.storage.bounds import shown
from kerasdiffusion.storage.reading import read_json
from kerasdiffusion.training.bundled.recipes import Recipe
from kerasdiffusion.weights import hub

RECIPE = "recipe.json"
_CARD = """---
license: apache-2.0
library_name: kerasdiffusion
tags: [text-to-image, latent-diffusion, keras]
---

# A small latent diffusion model of emoji

Paints {things} emoji and {shapes} shapes on grounds of {grounds} colours, in
{size}x{size} pixels. It knows these and nothing else.

    kerasdiffusion generate --preset THIS_FOLDER "a red apple on a blue background"

It was trained from nothing by `kerasdiffusion train` on scenes that are rendered with
the font Noto Color Emoji (SIL Open Font License 1.1) and captioned with the names of
CLDR (Unicode License v3). The recipe, seeds included, is in `{recipe}`.

| | |
| --- | --- |
| parameters | {parameters} |
| samples | {samples:,} for the U-Net and the text encoder |
| made with | kerasdiffusion {version}, Keras {keras} on {backend}, Python {python} |
"""


def texts(
    recipe: Recipe, parts: dict, start: str | Path | None = None
) -> dict[str, str]:
    """The recipe and the card of a preset, by the names of their files.

    Args:
        recipe: What made it.
        parts: Its networks by name.
        start: The preset that it began with: that one's runs are its earlier ones.
    """
    scenes, made = recipe.scenes, dataclasses.asdict(recipe)
    if start is not None:
        before = _read_recipe(start)
        made["earlier"] = [*before.pop("earlier", []), before]
    text = json.dumps(made, indent=1, ensure_ascii=False)
    counts = ", ".join(
        f"{name.replace('_', ' ')} {part.count_params():,}"
        for name, part in parts.items()
    )
    card = _CARD.format(
        things=len(scenes.objects),
        shapes=len(scenes.shapes),
        grounds=len(scenes.backgrounds),
        size=recipe.config.generation.height,
        recipe=RECIPE,
        parameters=counts,
        samples=sum(map(_samples, [made, *made.get("earlier", [])])),
        version=__version__,
        keras=keras.__version__,
        backend=keras.backend.backend(),
        python=platform.python_version(),
    )
    return {RECIPE: text + "\n", "README.md": card}


def _samples(recipe: dict) -> int:
    stage = recipe["diffusion"]
    return stage["epochs"] * stage["steps"] * stage["batch_size"]


def read_scenes(preset: str | Path) -> SceneConfig:
    """The scenes that a preset was trained on.

    Args:
        preset: Its name or its folder.

    Raises:
        FileNotFoundError: If it says nothing of scenes.
        ValueError: If what it says is none.
    """
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in _read_recipe(preset)["scenes"].items()
    }
    try:
        return SceneConfig(**values)
    except TypeError as error:
        raise ValueError(
            f"A recipe's scenes have the fields of SceneConfig. Received: "
            f"{shown(values)} in {RECIPE} of {preset}"
        ) from error


def _read_recipe(preset: str | Path) -> dict:
    source = PRESETS[preset].source if preset in PRESETS else preset
    path = Path(hub.resolve(str(source), configs_only=True)) / RECIPE
    if not path.exists():
        raise FileNotFoundError(
            "A model of rendered scenes has its recipe beside its weights. "
            f"Received: {preset}, without {RECIPE}"
        )
    return _checked(read_json(path), path)


def _checked(made, path: Path) -> dict:
    """A recipe whose parts are there."""
    parts = {"scenes", "diffusion"}
    whole = isinstance(made, dict) and all(
        isinstance(made.get(part), dict) for part in parts
    )
    if not whole:
        raise ValueError(
            "A recipe is a JSON object with its scenes and its stages. "
            f"Received: {shown(made)} in {path}"
        )
    return made
