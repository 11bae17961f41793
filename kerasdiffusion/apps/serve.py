"""`kerasdiffusion serve`: a server that existing clients speak to."""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from kerasdiffusion.apps import flags, options
from kerasdiffusion.presets.named import PRESETS, find_preset
from kerasdiffusion.requests.kinds import Number, Whole
from kerasdiffusion.storage.bounds import shown

#: Where a key may be instead of on the command line, which others can read.
KEY = "KERASDIFFUSION_API_KEY"
_NEEDED = ("fastapi", "uvicorn", "prometheus_client", "python_multipart")


def register(commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "serve",
        help="serve AUTOMATIC1111's and OpenAI's APIs, and jobs",
        description="Serves models to programs that speak AUTOMATIC1111's /sdapi/v1, "
        "OpenAI's images API, or this library's own /jobs. What clients ask for at "
        'once is painted in one batch. Needs pip install ".[server]" in a checkout.',
        epilog="Example: kerasdiffusion serve --models ~/models --api-key ...",
    )
    parser.add_argument(
        "--page",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="serve a page for people too, at /page/; needs pip install "
        '".[page]" in a checkout',
    )
    add_flags(parser)
    parser.set_defaults(run=run, refuse=parser.error)


def add_flags(parser: argparse.ArgumentParser, results: str = "in memory") -> None:
    """Adds what is served, to whom, and how much at once.

    Args:
        parser: Of the command.
        results: Where results are kept by default, in words.
    """
    parser.add_argument(
        "--preset",
        action="append",
        metavar="MODEL",
        help="a model that may be named: a preset's name, hf://owner/name, a folder or "
        "a file; the first is the default (default: emoji, the bundled one). "
        f"Presets: {', '.join(PRESETS)}",
    )
    parser.add_argument(
        "--models",
        type=_folder,
        metavar="DIR",
        help="a folder of models that may be named: files, and folders of diffusers'",
    )
    parser.add_argument(
        "--adapters",
        type=flags.folder_of_adapters,
        metavar="DIR",
        help="a folder of LoRA and its kin, for <lora:NAME:WEIGHT> in prompts",
    )
    parser.add_argument(
        "--controls",
        type=_folder,
        metavar="DIR",
        help="a folder of ControlNets and T2I-Adapters that may be named",
    )
    parser.add_argument(
        "--styles",
        type=Path,
        metavar="FILE",
        help="styles that may be named, a table of AUTOMATIC1111's with name, prompt "
        "and negative_prompt (default: styles.csv in --models)",
    )
    _add_network(parser)
    _add_work(parser, results)
    options.add_machine_options(parser)
    options.add_memory_option(parser)


def _add_network(parser) -> None:
    group = parser.add_argument_group("who may ask")
    group.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="the address to listen on (default: 127.0.0.1, this machine alone)",
    )
    group.add_argument(
        "--port",
        type=options.checked(Whole(0, 65535)),
        default=7860,
        metavar="N",
        help="the port; 0 for any that is free (default: 7860)",
    )
    group.add_argument(
        "--api-key",
        action="append",
        metavar="KEY",
        help=f"a key that clients must have; several may be given, or one in {KEY}",
    )
    group.add_argument(
        "--auth",
        action="append",
        metavar="USER:PASSWORD",
        help="a user that will do too, for clients of AUTOMATIC1111's API",
    )
    group.add_argument(
        "--allow-host",
        action="append",
        metavar="NAME",
        help="a name that this server is asked by, beside addresses, localhost and "
        "this machine's own",
    )
    group.add_argument(
        "--allow-origin",
        action="append",
        metavar="ORIGIN",
        help="a site whose pages may ask from a browser, as https://example.org",
    )


def _add_work(parser, results: str) -> None:
    group = parser.add_argument_group("how much at once")
    group.add_argument(
        "--batch",
        type=options.whole,
        metavar="N",
        help="pictures that are painted together at most (default: 16, or 8 of more "
        "than 131072 pixels)",
    )
    group.add_argument(
        "--queue",
        type=options.whole,
        default=256,
        metavar="N",
        help="pictures that may wait; more are refused with 429 (default: 256)",
    )
    group.add_argument(
        "--memory",
        type=options.checked(Number(0.0)),
        metavar="GIB",
        help="what the weights of all models may take together; the one that was used "
        "the longest time ago makes room (default: no limit)",
    )
    group.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help=f"where results of /jobs and of the page are kept (default: {results})",
    )
    group.add_argument(
        "--keep",
        type=options.checked(Number(0.0)),
        default=24.0,
        metavar="HOURS",
        help="how long they are (default: %(default)g)",
    )


def run(args: argparse.Namespace) -> int:
    """Serves until it is told to end."""
    presets = checked(args)
    keys = keys_of(args)
    return start(args, presets, keys, lambda where: _say(where, presets, args.page))


def checked(args: argparse.Namespace) -> list[str]:
    """The models that are named, where what a server needs is installed.

    Raises:
        ImportError: If it is not.
        ValueError: If there is no such model.
    """
    needed = (*_NEEDED, "gradio") if args.page else _NEEDED
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        what, extra = ("A page", "page") if args.page else ("A server", "server")
        raise ImportError(
            f'{what} needs pip install ".[{extra}]" in a checkout. '
            f"Received: no {', '.join(missing)}"
        )
    presets = args.preset or ["emoji"]
    for name in presets:
        find_preset(name)  # a mistyped name is said before a framework loads
    return presets


def start(
    args: argparse.Namespace,
    presets: list[str],
    keys: list[str],
    say: Callable[[str], None],
) -> int:
    """Serves; `say` is called with the address."""
    check_address(args.host, args.port)  # ahead of all that takes long
    options.choose_backend(args.backend)
    from kerasdiffusion.apps.server.running import serve

    settings = _settings(args, presets, keys)
    # What is wrong with the default model is said before anybody asks.
    settings.models.get(settings.models.default).build()
    _warn(args, settings)
    return serve(settings, args.host, args.port, say)


def check_address(host: str, port: int) -> None:
    """That an address is this machine's, and nobody listens there yet.

    Raises:
        OSError: If it is not, or somebody does.
    """
    try:
        for family, kind, number, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, number) as probe:
                if sys.platform != "win32":  # there it would take another's port
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(
            "--host must be an address of this machine, and --port one that is free; 0 "
            f"is any. Received: {shown(host, 60)} and {port} ({reason})"
        ) from None


def keys_of(args: argparse.Namespace) -> list[str]:
    """The keys that clients may have, those of the environment too."""
    keys = [*(args.api_key or ()), *filter(None, [os.environ.get(KEY)])]
    for each in [*keys, *(args.auth or ())]:
        if not each.strip() or not each.isprintable():
            args.refuse("a key or user must not be empty")
    for each in args.auth or ():
        if ":" not in each:
            args.refuse("--auth must be USER:PASSWORD")
    return keys


def _settings(args: argparse.Namespace, presets: list[str], keys: list[str]):
    """What the flags stand for."""
    from kerasdiffusion.apps.server.core import Settings
    from kerasdiffusion.apps.server.models import Models

    def make(source):
        from kerasdiffusion.tasks.stable_diffusion import StableDiffusion

        return StableDiffusion(
            weights=source,
            jit_compile=options.jit_compile(args),
            precision=args.precision,
            low_memory=args.low_memory,
        )

    most = None if args.memory is None else int(args.memory * 2**30)
    models = Models(
        presets,
        args.models,
        args.adapters,
        args.controls,
        most,
        make,
        args.styles,
    )
    return Settings(
        models,
        args.queue,
        args.batch,
        args.results,
        3600.0 * args.keep,
        keys,
        args.auth or (),
        args.allow_host or (),
        args.allow_origin or (),
        args.page,
    )


def _warn(args: argparse.Namespace, settings) -> None:
    if not is_loopback(args.host) and not settings.keys and not settings.users:
        print(
            "kerasdiffusion: warning: whoever reaches this address can paint, and use "
            f"this machine: give --api-key or --auth. Received: --host {args.host}",
            file=sys.stderr,
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _say(where: str, presets: list[str], page: bool) -> None:
    print(f"Serving {', '.join(presets)} on {where}, described at {where}/docs")
    if page:
        print(f"The page is {where}/page/")
    sys.stdout.flush()


def _folder(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(
            f"There must be such a folder. Received: {text}"
        )
    return path
