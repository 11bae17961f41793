"""`kerasdiffusion batch`: a picture of each row of a table, resumably."""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
from collections.abc import Iterator

from kerasdiffusion.apps import flags, load, options, outputs
from kerasdiffusion.presets.named import find_preset
from kerasdiffusion.requests.fields import TASKS
from kerasdiffusion.requests.subject import IN

KINDS = ("png", "jpeg", "webp")
STORES = ("files", "parquet", "webdataset", "lance")


def register(commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "batch",
        help="paint a picture of each row of a table, and go on after any crash",
        description="Paints a picture of each row of a table. What is recorded as done "
        "is not painted again: however a run was stopped, the same command goes on. "
        "A column is a field of a request (prompt, negative_prompt, seed, steps, ...), "
        "name, task, size, or width and height; the flags below are for rows that say "
        "nothing else.",
        epilog="Example: kerasdiffusion batch prompts.csv --out pictures --steps 20",
    )
    parser.add_argument(
        "rows",
        type=outputs.place,
        metavar="ROWS",
        help="a .csv, .tsv, .jsonl or .parquet file, or a folder of Parquet files, by "
        "path or URL",
    )
    add_place_flags(parser)
    flags.add_model_flag(parser)
    parser.add_argument(
        "--task",
        choices=TASKS,
        default="text_to_image",
        help="of rows that name none (default: %(default)s)",
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="COLUMN",
        help="a column that is no field and goes along into the index; may be given "
        "several times",
    )
    parser.add_argument(
        "--batch",
        type=options.whole,
        default=8,
        metavar="N",
        help="pictures that are painted at once, at most (default: %(default)s)",
    )
    parser.add_argument(
        "--kind",
        choices=KINDS,
        default="png",
        help="what pictures are written as (default: %(default)s)",
    )
    parser.add_argument(
        "--quality",
        type=options.whole,
        default=95,
        metavar="N",
        help="of JPEG and WebP, 1 to 100 (default: %(default)s)",
    )
    parser.add_argument(
        "--store",
        choices=STORES,
        default=STORES[0],
        help="where pictures stay: as files, or packed into Parquet files, WebDataset "
        "shards or a Lance table (default: %(default)s)",
    )
    parser.add_argument(
        "--shard",
        type=options.whole,
        default=1000,
        metavar="N",
        help="rows of one of these (default: %(default)s)",
    )
    add_engine_flags(parser)
    group = parser.add_argument_group(IN)
    flags.add_fields(group, flags.in_group(IN))
    flags.add_paint_flags(parser, {"seed": "the seed of every row (default: its own)"})
    parser.set_defaults(run=run)


def add_place_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--out`, `--retry-failed` and `--quiet`."""
    parser.add_argument(
        "--out",
        type=outputs.place,
        required=True,
        metavar="DIR",
        help="where pictures and the index go; on a cluster, a folder that all hosts "
        "see, or a URL as s3://bucket/pictures",
    )
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="try rows again that are recorded with an error",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="print nothing but the folder's name"
    )


def add_engine_flags(
    parser: argparse.ArgumentParser, title: str = "where to compute"
) -> None:
    """Adds `--engine`, `--devices` and `--address`."""
    group = parser.add_argument_group(title)
    group.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="in this process, or on a cluster of Ray: pip install "
        '".[ray]" in a checkout (default: %(default)s)',
    )
    group.add_argument(
        "--devices",
        default="auto",
        metavar="KIND[:N],...",
        help="with Ray: gpu, tpu or cpu, and how many, as gpu:4,cpu:2 (default: all "
        "GPUs and TPUs; where there are none, a process on each host)",
    )
    group.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="with Ray: the cluster's (default: the one that runs here, else this "
        "machine)",
    )


def run(args: argparse.Namespace) -> int:
    """Paints, and says what became of it."""
    args.preset = args.preset or "emoji"
    find_preset(args.preset)  # a mistyped name is said before a framework loads
    outputs.check_name(args.out)
    options.choose_backend(args.backend)
    from kerasdiffusion.batch import paint

    constants = flags.given(args)
    if args.size is not None:
        constants["size"] = args.size
    told = {name: value for name, value in vars(args).items() if not callable(value)}
    with saying_how_to_go_on(args):
        done = paint(
            args.rows,
            args.out,
            functools.partial(make_model, args.backend, told),
            constants=constants,
            task=args.task,
            keep=args.keep,
            batch_size=args.batch,
            kind=args.kind,
            quality=args.quality,
            store=args.store,
            shard=args.shard,
            retry_failed=args.retry_failed,
            engine=args.engine,
            devices=args.devices,
            address=args.address,
            name=outputs.name_of(args.preset),
            progress_bar=not args.quiet,
        )
    return say(args, done, "Painted")


def make_model(backend: str | None, told: dict):
    """The model that flags ask for, in whatever process paints."""
    options.choose_backend(backend)
    return load.make_model(argparse.Namespace(**told))


@contextlib.contextmanager
def saying_how_to_go_on(args: argparse.Namespace) -> Iterator[None]:
    """Says so where the user has had enough."""
    try:
        yield
    except KeyboardInterrupt:
        if not args.quiet:
            print(f"Stopped: the same command goes on from what is in {args.out}.")
        raise


def say(args: argparse.Namespace, done, verb: str) -> int:
    """Prints what became of a batch; returns 1 if rows have failed."""
    if args.quiet:
        print(args.out)
    else:
        before = f" {done.before} were recorded before." if done.before else ""
        print(f"{verb} {done.painted} rows to {args.out}.{before}")
    if done.failed:
        print(
            f"kerasdiffusion: {done.failed} rows failed; the index says why, and "
            "--retry-failed tries them again",
            file=sys.stderr,
        )
    return 1 if done.failed else 0
