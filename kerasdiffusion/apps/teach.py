"""`kerasdiffusion teach`: a model learns from a folder of pictures."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from pathlib import Path

from kerasdiffusion.apps import flags, options, outputs
from kerasdiffusion.presets.named import find_preset
from kerasdiffusion.requests.kinds import Choice, Switch, Whole
from kerasdiffusion.training.lessons.lesson import (
    CAPTIONS,
    HOW,
    NOISE,
    PICTURES,
    WAY,
    WHAT,
    WITH_ADAPTER,
    Lesson,
)

_EXAMPLE = (
    'kerasdiffusion teach dog --base sd1.5 --instance-prompt "a photo of sks dog" '
    "--out dog.safetensors"
)


def register(commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "teach",
        help="teach a model your own pictures: LoRA, DreamBooth, textual inversion",
        description="Teaches a model what is in a folder of pictures, and writes a "
        "file that is painted with, here and in other programs. A run that was "
        "stopped, however that was, goes on when the same command is given again.",
        epilog=f"Example: {_EXAMPLE}",
    )
    parser.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="pictures, with captions in cat.txt beside cat.jpg, metadata.jsonl, "
        "captions.csv, in the name of a folder as 10_sks dog, or --instance-prompt; or "
        "a .csv, .jsonl or .parquet table of files and captions",
    )
    parser.add_argument(
        "--base",
        default="emoji",
        metavar="MODEL",
        help="what is taught: a preset, hf://owner/name, a folder or a file (default: "
        "emoji, the bundled toy)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="where to write: a .safetensors file, of a whole model a folder too",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace it if it is there"
    )
    parser.add_argument(
        "--run",
        dest="run_folder",
        type=Path,
        metavar="DIR",
        help="where settings, log, samples and the state of the run go (default: "
        "dog-run for dog.safetensors)",
    )
    parser.add_argument(
        "--encoded",
        type=Path,
        metavar="DIR",
        help="where encoded pictures and texts are kept, for several runs (default: "
        "in the run's folder)",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="print nothing but the file's name"
    )
    for title in (WHAT, PICTURES, CAPTIONS, HOW, NOISE, WAY):
        group = parser.add_argument_group(title)
        for each in dataclasses.fields(Lesson):
            if each.metadata["group"] == title:
                add_field(group, each)
    add_process_flags(parser)
    options.add_machine_options(parser, openvino=False)
    parser.set_defaults(run=run)


def add_process_flags(parser: argparse.ArgumentParser) -> None:
    """Adds what tells several processes of each other."""
    group = parser.add_argument_group("several hosts, on JAX")
    group.add_argument(
        "--processes",
        metavar="N",
        help="learn together with others, which are started with the same flags on "
        "each host and see the same folders; auto where a TPU pod, Slurm or "
        "KERAS_DISTRIBUTION_... say all of it",
    )
    group.add_argument(
        "--process",
        type=options.checked(Whole(least=0)),
        metavar="I",
        help="which of them this one is, from 0",
    )
    group.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="where the first of them is met",
    )


def begin_processes(args: argparse.Namespace) -> None:
    """Has this process find the others, if there are to be any.

    Raises:
        ValueError: If a flag is missing.
    """
    told = args.processes, args.process, args.coordinator
    if args.processes is None and told == (None, None, None):
        return
    count = args.processes
    if count != "auto" and (count is None or not count.isdecimal() or None in told):
        raise ValueError(
            "Several processes must be told of each other: --processes 2 --process 0 "
            "--coordinator 10.0.0.1:1234, each with its own number; or --processes "
            f"auto. Received: {told}"
        )
    from kerasdiffusion.compute import hosts

    count = None if count == "auto" else int(count)
    hosts.begin(args.coordinator, count, args.process)


def add_field(group, field: dataclasses.Field) -> None:
    """The flag of a field; what is not given is `None`."""
    told, kind = field.metadata, field.metadata["kind"]
    name = "as" if field.name == "kind" else field.name
    default = field.default
    usual = default not in (None, ()) and not isinstance(kind, Switch)
    help = told["help"] + (f" (default: {default})" if usual else "")
    arguments = {"dest": field.name, "help": help.replace("%", "%%")}
    flag = flags.option(name)
    if isinstance(kind, Switch):
        if default is not False:
            arguments["action"] = argparse.BooleanOptionalAction
        else:
            arguments |= {"action": "store_true", "default": None}
        group.add_argument(flag, **arguments)
        return
    if isinstance(kind, Choice):
        arguments["choices"] = kind.names
    else:
        arguments |= {"type": options.checked(kind), "metavar": told["metavar"]}
    if getattr(kind, "repeats", False):
        arguments["action"] = "extend"
    group.add_argument(flag, **arguments)


def lesson_of(args: argparse.Namespace) -> Lesson:
    """The lesson that flags stand for."""
    names = [each.name for each in dataclasses.fields(Lesson)]
    values = {name: getattr(args, name) for name in names}
    return Lesson(**{n: value for n, value in values.items() if value is not None})


def run(args: argparse.Namespace) -> int:
    """Teaches, and says how to paint with it."""
    lesson = lesson_of(args)
    find_preset(args.base)  # a mistyped name is said before a framework loads
    outputs.check_name(args.out)
    options.choose_backend(args.backend)
    begin_processes(args)
    from kerasdiffusion.compute import hosts
    from kerasdiffusion.training.lessons.courses import run_folder, teach
    from kerasdiffusion.training.lessons.runs import SHEET

    run_at = args.run_folder or run_folder(args.out)
    try:
        taught = teach(
            args.folder,
            args.out,
            lesson,
            args.base,
            run=run_at,
            encoded=args.encoded,
            precision=args.precision,
            jit_compile=options.jit_compile(args),
            overwrite=args.overwrite,
            report=(lambda line: None) if args.quiet else _say,
            progress_bar=not args.quiet,
        )
    except KeyboardInterrupt:
        if not args.quiet:
            print(f"Stopped: the same command goes on from the state in {run_at}.")
        raise
    if hosts.place()[0] > 0:
        return 0
    if args.quiet:
        print(taught.path)
        return 0
    print(f"Wrote {taught.path}. Its run is in {run_at}.")
    if taught.lesson.sample:
        print(f"What it painted on the way: {run_at / SHEET}")
    print(f"Paint with it: {paint_command(args.base, taught)}")
    return 0


def paint_command(base: str, taught) -> str:
    """The command that paints with what was taught."""
    line = ["kerasdiffusion", "generate", taught.prompt]
    kind, path = taught.lesson.kind, str(taught.path)
    if kind in WITH_ADAPTER or kind == "textual-inversion":
        if base != "emoji":
            line += ["--preset", str(base)]
        line += ["--adapter" if kind in WITH_ADAPTER else "--embedding", path]
    else:
        line += ["--preset", path]
    return shlex.join(line)


def _say(line: str) -> None:
    print(line, flush=True)
