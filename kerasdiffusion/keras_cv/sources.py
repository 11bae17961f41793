"""Whose weights stand behind KerasCV's names."""

from __future__ import annotations

from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.presets.named import find_preset

#: What KerasCV's two models are; `use` names others.
_PRESETS: dict[int, object] = {1: "sd1.4", 2: "sd2.1-base"}


def use(preset, version: int = 1) -> None:
    """Has another model stand behind KerasCV's names, from now on.

    Args:
        preset: What `kerasdiffusion.StableDiffusion.from_preset` takes: a name, a
            folder, a file. By default it is `"sd1.4"`, whose weights KerasCV's are.
        version: 1 for `StableDiffusion` and its networks, 2 for `StableDiffusionV2`
            and its, by default `"sd2.1-base"`.

    Raises:
        ValueError: If the version is another.

    Example:

    >>> use("sd1.5")
    >>> use("sd1.4")
    """
    if version not in _PRESETS:
        raise ValueError(f"`version` must be 1 or 2. Received: {version!r}")
    _PRESETS[version] = preset


def preset(version: int):
    """What stands behind the names of a version."""
    return _PRESETS[version]


def source(version: int):
    """Where its weights are."""
    return find_preset(_PRESETS[version])[0]


def config(version: int) -> ModelConfig:
    """What its networks are made of; nothing is fetched for a name that is known."""
    from kerasdiffusion.weights.load import read_config

    where, known = find_preset(_PRESETS[version])
    return known or read_config(where)
