"""The model that flags ask for, and what goes with it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from kerasdiffusion.apps import flags, options
from kerasdiffusion.presets.named import PRESETS


def make_model(args: argparse.Namespace):
    """A `StableDiffusion` that reads its weights when it paints.

    What is wrong with the arguments of a task is then said before they are read.
    """
    height, width = args.size or (None, None)
    parts = flags.given(args, flags.PARTS)
    mode = parts.pop("quantize", None)
    model = _model(args, args.preset, height, width, **parts)
    if mode is not None:
        model.quantize(mode)
    return model


def ready(
    model, args: argparse.Namespace, keywords: Mapping, controls: Sequence[Mapping] = ()
) -> dict:
    """Keywords with a refiner and control networks in place of their names."""
    keywords = dict(keywords)
    if "refiner" in keywords:
        size = model.img_height, model.img_width
        keywords["refiner"] = _model(args, keywords["refiner"], *size)
    if controls:
        from kerasdiffusion.networks.control import Control

        keywords["control"] = [Control(**control) for control in controls]
    return keywords


def say_what_painted(args: argparse.Namespace, command: str) -> None:
    """That the bundled model is not Stable Diffusion, if it painted."""
    preset = args.preset
    if preset in PRESETS and PRESETS[preset].source.startswith("asset://"):
        print(
            f"Painted by {PRESETS[preset].about}. Stable Diffusion itself, which "
            f"downloads some GB once: kerasdiffusion {command} --preset sd1.5 ..."
        )


def _model(args, source, height, width, **parts):
    from kerasdiffusion.tasks.stable_diffusion import StableDiffusion

    return StableDiffusion(
        img_height=height,
        img_width=width,
        jit_compile=options.jit_compile(args),
        precision=args.precision,
        low_memory=args.low_memory,
        weights=source,
        **parts,
    )
