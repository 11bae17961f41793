"""`kerasdiffusion page`: a server with a page for people, opened in a browser."""

from __future__ import annotations

import argparse
import secrets
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from kerasdiffusion.apps import serve
from kerasdiffusion.storage.places import make_private, user_data

#: Hours that pictures are kept where nobody says how long: a year.
KEEP = 24.0 * 365
#: Names that a tunnel of Gradio's gives.
TUNNELS = ".gradio.live"


def register(commands) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "page",
        help="open a page to paint with, in a browser",
        description="Serves a page on this machine alone and opens it in a browser: "
        "prompts, pictures painted over, in part and beyond their edges, grids, a "
        "history. No prompt leaves the machine. The server's APIs are there too, see "
        '`kerasdiffusion serve`. Needs pip install ".[page]" in a checkout.',
        epilog="Example: kerasdiffusion page --preset sd1.5 --adapters ~/loras",
    )
    parser.add_argument(
        "--browser",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="open the page in a browser (default: yes)",
    )
    parser.add_argument(
        "--share",
        action="store_true",
        help="give it an address on the internet too, by Gradio's tunnel: all that is "
        "asked and painted then goes through other machines; with a user and a "
        "password, which are printed where --auth has none",
    )
    serve.add_flags(parser, "a folder of yours, which it names")
    parser.set_defaults(run=run, refuse=parser.error, page=True, keep=KEEP)


def run(args: argparse.Namespace) -> int:
    """Serves, and opens the page."""
    presets = serve.checked(args)
    if args.results is None:
        args.results = _results()
    if args.share:
        _prepare_sharing(args)
    keys = serve.keys_of(args)
    return serve.start(args, presets, keys, lambda where: _say(args, where))


def _results() -> Path | None:
    """Where pictures are kept; `None` where the user has no folder of their own."""
    data = user_data()
    folder = None if data is None else data / "kerasdiffusion" / "pictures"
    if folder is None or not make_private(folder):
        print(
            "kerasdiffusion: warning: there is no folder of yours to keep pictures in; "
            "they are gone when this ends: give --results",
            file=sys.stderr,
        )
        return None
    return folder


def _prepare_sharing(args: argparse.Namespace) -> None:
    args.allow_host = [*(args.allow_host or ()), TUNNELS]
    if not args.auth:
        password = secrets.token_urlsafe(9)
        args.auth = [f"guest:{password}"]
        print(f"User guest, password {password}")


def _say(args: argparse.Namespace, where: str) -> None:
    page = f"{where}/page/"
    kept = args.results or "memory, while this runs"
    print(f"The page is {page}\nPictures are kept in {kept}")
    sys.stdout.flush()
    # (Neither may hold up the server: some browsers run in the terminal.)
    if args.share:
        port = urlsplit(where).port
        _apart(_share, port)
    if args.browser:
        _apart(_open, page)


def _apart(function: Callable, *args) -> None:
    """Calls a function in a thread of its own."""
    threading.Thread(target=function, args=args, daemon=True).start()


def _open(page: str) -> None:
    import webbrowser

    webbrowser.open(page)


def _share(port: int) -> None:
    from gradio.networking import setup_tunnel

    try:
        token = secrets.token_urlsafe(32)
        where = setup_tunnel("127.0.0.1", port, token, None, None)
    except Exception as error:  # whatever a tunnel raises, the page is there
        reason = " ".join(str(error).split())[:200]
        print(
            f"kerasdiffusion: warning: it cannot be shared: {reason}", file=sys.stderr
        )
        return
    print(f"Shared as {where}/page/")
    sys.stdout.flush()
