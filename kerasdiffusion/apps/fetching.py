"""What a picture may make this machine fetch: nothing, unless its user says so."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from kerasdiffusion.presets.controls import CONTROLS
from kerasdiffusion.presets.named import PRESETS

#: Keywords whose value says where a model lies.
SOURCES = ("preset", "vae", "text_encoder", "refiner", "control")


def named(args: argparse.Namespace) -> dict:
    """The models that flags name."""
    return {name: getattr(args, name, None) for name in SOURCES}


def check(args: argparse.Namespace, before: Mapping) -> None:
    """Refuses to fetch what a picture has named, if not `--fetch` says yes.

    Args:
        args: The flags, set from the picture `args.source`.
        before: What `named` gave before they were.

    Raises:
        ValueError: As `refuse`.
    """
    if args.fetch:
        return
    set_now = {
        name: value
        for name, value in named(args).items()
        if value and not before.get(name)
    }
    controls = set_now.pop("control", ())
    set_now |= {f"control {i}": each[0] for i, each in enumerate(controls, 1)}
    refuse(set_now, args.source)


def refuse(named: Mapping, picture) -> None:
    """Refuses to fetch what a picture names.

    Args:
        named: Names of models that a picture gave, by what they are for.
        picture: Its path, for the message.

    Raises:
        ValueError: If one of them is not on this machine; the message says what would
            be fetched, and how to say yes.
    """
    wanted = [
        f"{name} {named[name]!r} ({address})"
        for name in named
        if (address := to_fetch(str(named[name])))
    ]
    if wanted:
        raise ValueError(
            "A picture must not fetch models unasked: add --fetch for "
            f"{', '.join(wanted)}, or name others (--preset, --vae, ...). Received: "
            f"--from {picture}"
        )


def to_fetch(source: str) -> str | None:
    """Where a model would be fetched from; `None` if it is on this machine.

    Args:
        source: A preset's or a control network's name, `hf://owner/name`, a folder or
            a file.
    """
    addresses = [source]
    if source in CONTROLS:
        addresses = [f"hf://{each[0]}" for each in CONTROLS[source].values()][:1]
    if source in PRESETS:
        preset = PRESETS[source]
        addresses = [each for each in (preset.source, preset.unet) if each]
    for address in addresses:
        if address.startswith(("\\\\", "//")):
            return address  # another machine's disk
        scheme, mark, name = address.partition("://")
        if not mark or scheme == "asset":
            continue
        if scheme != "hf" or not _is_here(name):
            return address
    return None


def _is_here(name: str) -> bool:
    """Whether the hub's cache has something of a model."""
    from huggingface_hub.constants import HF_HUB_CACHE

    owner, _, rest = name.partition("/")
    model = rest.partition("/")[0].partition("@")[0]
    folder = Path(HF_HUB_CACHE, f"models--{owner}--{model}", "snapshots")
    return folder.is_dir() and any(os.scandir(folder))
