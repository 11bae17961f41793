"""The model that flags ask for, and the request that they make for it."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping, Sequence

from kerasdiffusion.apps import flags, options
from kerasdiffusion.presets.named import PRESETS
from kerasdiffusion.requests.control import Control
from kerasdiffusion.requests.request import Request


def make_model(args: argparse.Namespace):
    """A `StableDiffusion` that reads its weights when it paints.

    What is wrong with the arguments of a task is then said before they are read.
    """
    height, width = args.size or (None, None)
    parts = flags.parts(args)
    mode, embedding = parts.pop("quantize", None), parts.pop("embedding", None)
    if "zero_terminal_snr" in parts:
        parts["zero_terminal_snr"] = parts["zero_terminal_snr"] == "true"
    parts["strict"] = args.strict
    model = _model(args, args.preset, height, width, **parts)
    if embedding is not None:
        _warn_of_unnamed(model.load_embedding(embedding), args)
    if mode is not None:
        model.quantize(mode)
    return model


def _warn_of_unnamed(words: Sequence[str], args: argparse.Namespace) -> None:
    """A word that no prompt has says nothing, and nobody would see why."""
    prompts = getattr(args, "prompts", None)
    if not prompts:  # of a table: each row has its own
        return
    texts = " ".join([*prompts, str(getattr(args, "negative_prompt", ""))])
    if not any(word in texts for word in words):
        warnings.warn(
            f"No prompt has what {args.embedding} teaches: {', '.join(words[:3])}",
            stacklevel=2,
        )


def make_request(task: str, fields: Mapping, controls: Sequence[Mapping]) -> Request:
    """The request that flags stand for."""
    fields = dict(fields)
    if controls:
        fields["control"] = [Control(**each) for each in controls]
    return Request(task=task, **fields)


def paint(model, request: Request):
    """The pictures of a request."""
    return model.run(request).pictures(progress_bar=request.progress_bar)


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
