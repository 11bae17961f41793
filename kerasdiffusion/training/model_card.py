"""What a preset says of itself: its recipe and its card."""

from __future__ import annotations

import dataclasses
import json
import platform
from pathlib import Path

import keras

from kerasdiffusion._version import __version__
from kerasdiffusion.datasets import SceneConfig
from kerasdiffusion.training.recipes import Recipe

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


def write_card(folder: Path, recipe: Recipe, parts: dict) -> None:
    """Adds a recipe and a card to a preset's folder.

    Args:
        folder: Where the preset is.
        recipe: What made it.
        parts: Its networks by name.
    """
    diffusion, scenes = recipe.diffusion, recipe.scenes
    text = json.dumps(dataclasses.asdict(recipe), indent=1, ensure_ascii=False)
    (folder / RECIPE).write_text(text + "\n", encoding="utf-8")
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
        samples=diffusion.epochs * diffusion.steps * diffusion.batch_size,
        version=__version__,
        keras=keras.__version__,
        backend=keras.backend.backend(),
        python=platform.python_version(),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def read_scenes(folder: Path) -> SceneConfig:
    """The scenes that a preset was trained on.

    Args:
        folder: Where the preset is.

    Raises:
        FileNotFoundError: If it says nothing of scenes.
    """
    path = Path(folder) / RECIPE
    if not path.exists():
        raise FileNotFoundError(
            "A model of rendered scenes has its recipe beside its weights. "
            f"Received: {folder}, without {RECIPE}"
        )
    scenes = json.loads(path.read_text(encoding="utf-8"))["scenes"]
    return SceneConfig(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in scenes.items()
        }
    )
