"""`kerasdiffusion adapter`: adapters converted, cut, taken, joined and baked in."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from kerasdiffusion.apps import options

_FORMATS = ("kohya", "diffusers", "peft")


def register(commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "adapter",
        help="convert, resize, extract, merge or bake LoRA files",
        description="Works on files of LoRA and its kin; all but `bake` without a "
        "framework.",
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    def add(name, run, text, outputs=True):
        verb = verbs.add_parser(name, help=text, description=f"{text.capitalize()}.")
        verb.set_defaults(run=run)
        verb.add_argument("--output", "-o", type=Path, required=True, metavar="PATH")
        verb.add_argument("--overwrite", action="store_true", help="replace the output")
        verb.add_argument("--dtype", choices=("float32", "float16", "bfloat16"))
        if outputs:
            verb.add_argument("--format", choices=_FORMATS, default="kohya")
        return verb

    def of_model(verb):
        verb.add_argument(
            "--model", help="what it is for, where that is none of the usual families"
        )

    verb = add("convert", _convert, "write an adapter in another dialect")
    verb.add_argument("file")
    of_model(verb)
    verb = add("resize", _resize, "cut an adapter to a rank, by singular values")
    verb.add_argument("file")
    verb.add_argument("--rank", type=int, required=True)
    verb.add_argument("--share", type=float, help="of the norm that is enough, to 1")
    of_model(verb)
    verb = add("merge", _merge, "join adapters into one, each at its weight")
    verb.add_argument("files", nargs="+", metavar="FILE[:WEIGHT]")
    verb.add_argument("--rank", type=int, help="cut the result to a rank")
    of_model(verb)
    verb = add("extract", _extract, "the difference of two checkpoints as a LoRA")
    verb.add_argument("base")
    verb.add_argument("other")
    verb.add_argument("--rank", type=int, required=True)
    verb = add("bake", _bake, "put adapters into a model for good", outputs=False)
    verb.add_argument("files", nargs="+", metavar="FILE[:WEIGHT]")
    verb.add_argument("--model", required=True, help="as `generate` takes it")
    options.add_backend_option(verb)


def split_weight(text: str) -> tuple[str, float]:
    """`FILE:WEIGHT` as both; 1 where there is none.

    Example:

    >>> split_weight("detail.safetensors:0.7")
    ('detail.safetensors', 0.7)
    """
    path, colon, weight = text.rpartition(":")
    if colon and path and not Path(text).exists():
        with contextlib.suppress(ValueError):
            return path, float(weight)
    return text, 1.0


def _read(text: str, model: str | None):
    """An adapter, and whether its model has two text encoders."""
    from kerasdiffusion.adapters.read import read_adapter
    from kerasdiffusion.adapters.sources import find_adapter
    from kerasdiffusion.adapters.telling import guess
    from kerasdiffusion.presets.families import SD1
    from kerasdiffusion.presets.named import find_preset
    from kerasdiffusion.weights.files import open_tensors
    from kerasdiffusion.weights.load import read_config

    path = find_adapter(text)
    if model is not None:
        source, known = find_preset(model)
        config = known or read_config(source)
    else:
        with open_tensors(path) as file:
            found = guess({key: file.shape(key) for key in file.keys()})
        config = SD1 if found is None else found[1]  # which then says what is wrong
    return read_adapter(path, config), config.text_encoder_2 is not None


def _write(args, changes, two_encoders: bool, metadata=None) -> int:
    from kerasdiffusion.adapters.write import write_adapter

    path = write_adapter(
        args.output,
        changes,
        args.format,
        two_encoders=two_encoders,
        dtype=args.dtype or "float32",
        metadata=metadata,
        overwrite=args.overwrite,
    )
    print(path)
    return 0


def _convert(args: argparse.Namespace) -> int:
    from kerasdiffusion.adapters.combine import joined

    adapter, two = _read(args.file, args.model)
    metadata = {k: v for k, v in adapter.metadata.items() if k.startswith("modelspec.")}
    return _write(args, joined([(adapter, lambda entry: 1.0)]), two, metadata)


def _resize(args: argparse.Namespace) -> int:
    from kerasdiffusion.adapters.combine import joined, resized

    _check_rank(args.rank)
    if args.share is not None and not 0.0 < args.share <= 1.0:
        raise ValueError(f"--share must be from 0 to 1. Received: {args.share}")
    adapter, two = _read(args.file, args.model)
    changes = joined([(adapter, lambda entry: 1.0)])
    return _write(args, resized(changes, args.rank, args.share), two)


def _merge(args: argparse.Namespace) -> int:
    from kerasdiffusion.adapters.combine import joined, resized

    read, kinds = [], set()
    for text in args.files:
        path, weight = split_weight(text)
        adapter, two = _read(path, args.model)
        kinds.add(adapter.family)
        read.append((adapter, lambda entry, weight=weight: weight))
    if len(kinds) > 1:
        raise ValueError(
            f"Adapters that are joined must be for one family. Received: "
            f"{', '.join(sorted(kinds))}"
        )
    changes = joined(read)
    if args.rank is not None:
        _check_rank(args.rank)
        changes = resized(changes, args.rank)
    return _write(args, changes, two)


def _extract(args: argparse.Namespace) -> int:
    from kerasdiffusion.adapters.checkpoints import reader
    from kerasdiffusion.adapters.combine import extracted
    from kerasdiffusion.weights.load import read_config

    _check_rank(args.rank)
    config = read_config(args.base)
    if read_config(args.other).diffusion_model != config.diffusion_model:
        raise ValueError(
            "The difference is one of two models of the same layout. Received: "
            f"{args.base} and {args.other}, whose U-Nets differ"
        )
    with reader(args.base, config) as base, reader(args.other, config) as other:
        changes = extracted(base, other, config, args.rank)
    return _write(args, changes, config.text_encoder_2 is not None)


def _bake(args: argparse.Namespace) -> int:
    options.choose_backend(args.backend)
    from kerasdiffusion.tasks.stable_diffusion import StableDiffusion

    model = StableDiffusion.from_preset(args.model)
    for number, text in enumerate(args.files):
        path, weight = split_weight(text)
        print(model.load_adapter(path, weight, name=f"{number}"))
    model.save_preset(args.output, dtype=args.dtype, overwrite=args.overwrite)
    print(args.output)
    return 0


def _check_rank(rank: int) -> None:
    if rank < 1:
        raise ValueError(f"--rank must be 1 or more. Received: {rank}")
