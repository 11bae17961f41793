"""Captioned pictures: rendered scenes, and folders of images."""

from kerasdiffusion.datasets.captions import caption, caption_corpus
from kerasdiffusion.datasets.emoji import find_font
from kerasdiffusion.datasets.folder import FolderDataset
from kerasdiffusion.datasets.names import STARTER
from kerasdiffusion.datasets.rendered import SceneDataset
from kerasdiffusion.datasets.scenes import (
    Item,
    Scene,
    SceneConfig,
    draw_scene,
    render,
)

__all__ = [
    "STARTER",
    "FolderDataset",
    "Item",
    "Scene",
    "SceneConfig",
    "SceneDataset",
    "caption",
    "caption_corpus",
    "draw_scene",
    "find_font",
    "render",
]
