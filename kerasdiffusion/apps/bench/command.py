"""The subcommand: reads the arguments, runs a process for each library, reports."""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import sys
from pathlib import Path

from kerasdiffusion.apps import cli, options
from kerasdiffusion.apps.bench import (
    adapters,
    caches,
    compile_for,
    measuring,
    memory,
    report,
    serving,
    teach,
)
from kerasdiffusion.apps.bench.worker import PARTS, Job
from kerasdiffusion.compute import processor
from kerasdiffusion.compute.tpu import CHIPS
from kerasdiffusion.presets.families import SD1
from kerasdiffusion.presets.named import PRESETS

#: What is measured beside this library, and what must be installed for it.
PEERS = {
    "diffusers": ("diffusers",),
    "diffusers-compiled": ("diffusers",),
    "openvino": ("openvino", "diffusers"),
    "keras-cv": ("keras_cv",),
    "kerasdiffusion-openvino": ("openvino",),
}
KERAS_CV_MULTIPLE = 128


def register(commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "bench",
        help="measure speed and memory, beside other libraries if wanted",
        description="Prints seconds for each call of the networks, for compiling and "
        "from a cold process to the first picture, and peak memory. Each library runs "
        "in a process of its own; on a CPU with memory for all of them they make their "
        "calls in turn, so that a ratio holds on a busy machine too. Nothing is "
        "downloaded: a preset that is not on the "
        "disk is measured with random weights, which take as long.",
        epilog="Example: kerasdiffusion bench --preset sd1.5 --peer diffusers",
    )
    parser.add_argument(
        "--preset",
        default="emoji",
        metavar="MODEL",
        help=f"the model, as in `generate` (default: %(default)s; presets: "
        f"{', '.join(PRESETS)})",
    )
    parser.add_argument(
        "--random-weights",
        action="store_true",
        help="use random weights even if there are others on the disk",
    )
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        choices=PEERS,
        help="measure this library too, on the same machine, sizes and precision; may "
        "be given several times. diffusers-compiled is diffusers under torch.compile, "
        "openvino its networks by way of OpenVINO on a CPU, kerasdiffusion-openvino "
        "this library so; keras-cv has Stable Diffusion 1's networks only",
    )
    parser.add_argument(
        "--only",
        type=parts,
        default=PARTS,
        metavar="PARTS",
        help="measure only these, with commas between: cold (a first picture from a "
        "cold process, and the peak memory), picture (warm ones), network, decode, "
        "encode (default: all); or adapters: loading a LoRA of rank 32, switching to "
        "another, and pictures of 4 steps without and with three; or caches: pictures "
        "of --steps with U-Net calls left out; or teach: a training step of a LoRA, "
        "without and with checkpointed gradients; or server: what `serve` adds to a "
        "picture, and what it gains by batches",
    )
    parser.add_argument(
        "--caches",
        type=options.names,
        default=(),
        metavar="NAMES",
        help="with --only caches: the rows of these options alone, as ucache,spectrum "
        "(default: all)",
    )
    parser.add_argument(
        "--size",
        type=options.size,
        metavar="N|WxH",
        help="pixels, as 512 or 768x512 (default: the model's)",
    )
    parser.add_argument(
        "--batch-size",
        type=options.whole,
        default=1,
        metavar="N",
        help="pictures at a time (default: 1)",
    )
    parser.add_argument(
        "--steps",
        type=options.whole,
        default=4,
        metavar="N",
        help="denoising steps of a whole picture (default: 4)",
    )
    parser.add_argument(
        "--repeats",
        type=options.whole,
        default=5,
        metavar="N",
        help="measurements of which the median is shown; fewer where they take more "
        "than a minute (default: 5)",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the figures here"
    )
    parser.add_argument(
        "--memory",
        nargs="*",
        type=options.whole,
        metavar="N",
        help="measure nothing else: print the peak memory of each part and of a whole "
        "picture of N x N pixels (default: "
        f"{' '.join(map(str, memory.SIDES))}), each in a process of its own, with "
        "weights of zeros; hours on a CPU for large models",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="measure nothing else: print which operations take the time of a U-Net "
        "call and of a decode",
    )
    group = parser.add_argument_group("TPUs that are not there")
    group.add_argument(
        "--compile-for",
        type=compile_for.topology,
        metavar="tpu:CHIP:AxB",
        help=f"measure nothing: compile a step for these chips ({', '.join(CHIPS)}) on "
        "JAX, as tpu:v5e:2x2, and print the memory, the arithmetic and the traffic of "
        "each; with --only teach a training step. Takes minutes, and needs pip install "
        "jax libtpu",
    )
    group.add_argument(
        "--chip-batch",
        action="append",
        type=options.whole,
        metavar="N",
        help="pictures of each chip; may be given several times (default: 1)",
    )
    group.add_argument(
        "--shard-weights",
        action="store_true",
        help="give each chip a share of the weights in place of all",
    )
    options.add_machine_options(parser)
    parser.set_defaults(run=run)


def parts(text: str) -> tuple[str, ...]:
    """Names of `PARTS` with commas between."""
    found = tuple(options.names(text))
    alone = adapters.NAME, caches.NAME, teach.NAME, serving.NAME
    if found not in [(each,) for each in alone] and not set(found) <= set(PARTS):
        raise argparse.ArgumentTypeError(
            f"must be of {', '.join(PARTS)}, with commas between, or "
            f"{', or '.join(alone)}. Received: {text}"
        )
    return found


def run(args: argparse.Namespace) -> int:
    """Measures, prints the table and writes the JSON file."""
    if args.compile_for is not None:
        return compile_for.run(args)
    options.set_backend(args.backend)
    if args.memory is not None:
        return _print_memory(args)
    check_peers(args)
    height, width = args.size or (None, None)
    job = Job(
        library=report.OURS,
        preset=args.preset,
        random_weights=args.random_weights,
        height=height,
        width=width,
        batch_size=args.batch_size,
        steps=args.steps,
        precision=args.precision,
        jit_compile=options.jit_compile(args),
        repeats=args.repeats,
        only=args.only,
    )
    if args.only == (adapters.NAME,):
        print(*adapters.measure(job, args.peer), sep="\n")
        return 0
    measured = None
    if args.only == (caches.NAME,):
        measured = caches.measure(job, args.peer, machine(), args.caches)
    elif args.only == (teach.NAME,):
        measured = teach.measure(job, args.peer, machine())
    elif args.only == (serving.NAME,):
        measured = serving.measure(job, machine())
    if measured is not None:
        for line in measured:
            print(line, flush=True)
        return 0
    if args.profile:
        from kerasdiffusion.apps.bench import profile

        print(*profile.lines(profile.measure(job)), sep="\n")
        return 0
    failures = []

    def failed(error):
        failures.append(error)
        cli.report(error)

    results = measuring.measure(job, args.peer, failed)
    settings = {
        "preset": args.preset,
        "batch_size": args.batch_size,
        "steps": args.steps,
        "repeats": args.repeats,
        "machine": machine(),
    }
    print(report.table(settings, results))
    if args.json is not None:
        content = json.dumps({"settings": settings, "results": results}, indent=2)
        args.json.write_text(content + "\n", "utf-8")
    return cli.FAILED if failures else 0


def _print_memory(args: argparse.Namespace) -> int:
    """Prints the table of `--memory`, and each figure on the way."""
    sides, jit_compile = args.memory or memory.SIDES, options.jit_compile(args)
    results = []
    check_peers(args)
    how = args.precision, jit_compile
    for each in memory.measure(args.preset, sides, *how, peers=args.peer):
        results.append(each)
        print(f"{memory.named(each['task'])} ...", file=sys.stderr)
    print(f"{args.preset}, {args.precision}; {machine()}\n")
    print(memory.table(results))
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    return cli.FAILED if any("error" in each for each in results) else 0


def check_peers(args: argparse.Namespace) -> None:
    """Refuses peers that cannot run, before anything is measured.

    Raises:
        ValueError: If a peer is not installed, or does not know the geometry.
    """
    teaches = args.only == (teach.NAME,)
    for peer in args.peer:
        for module in PEERS[peer] + (("peft",) if teaches else ()):
            if importlib.util.find_spec(module) is None:
                raise ValueError(
                    "The peer must be installed: pip install "
                    f"{module.replace('_', '-')}. Received: --peer {peer}"
                )
    if not {"keras-cv", "openvino"} & set(args.peer):
        return
    from kerasdiffusion.weights.load import read_config

    preset = PRESETS.get(args.preset)
    config = preset and preset.config
    config = config or read_config(preset.source if preset else args.preset)
    if "openvino" in args.peer and config.text_encoder_2 is not None:
        raise ValueError(
            "diffusers' networks by OpenVINO are measured with one text encoder only. "
            f"Received: --peer openvino --preset {args.preset}"
        )
    if "keras-cv" not in args.peer:
        return
    parts = ("text_encoder", "diffusion_model", "autoencoder")
    if any(getattr(config, part) != getattr(SD1, part) for part in parts):
        raise ValueError(
            "KerasCV has networks of Stable Diffusion 1's geometry only. "
            f"Received: --peer keras-cv --preset {args.preset}"
        )
    size = args.size or (config.generation.height, config.generation.width)
    if any(side % KERAS_CV_MULTIPLE or not side for side in size):
        raise ValueError(
            f"KerasCV paints sizes in multiples of {KERAS_CV_MULTIPLE} only. "
            f"Received: --peer keras-cv --size {size[1]}x{size[0]}"
        )


def machine() -> str:
    """The processor, its instructions, its cores and the system, in a line."""
    known = ", ".join(processor.instructions())
    return (
        f"{processor.name()}{f' ({known})' if known else ''}, {processor.cores()} "
        f"cores, {platform.system()}, Python {platform.python_version()}"
    )
