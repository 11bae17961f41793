"""The `kerasdiffusion` command.

A subcommand is a module with a function `register(commands)`, which adds its parser
and sets `run` to a function of the parsed arguments that returns the exit code; and a
row in `COMMANDS`. Such a module imports a framework in `run`, not before: `--help`
needs none.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from kerasdiffusion._version import __version__
from kerasdiffusion.requests import foreign

COMMANDS = (
    "kerasdiffusion.apps.generate",
    "kerasdiffusion.apps.walk",
    "kerasdiffusion.apps.batch",
    "kerasdiffusion.apps.show",
    "kerasdiffusion.apps.adapter",
    "kerasdiffusion.apps.bench.command",
    "kerasdiffusion.apps.encode",
    "kerasdiffusion.apps.teach",
    "kerasdiffusion.apps.train",
    "kerasdiffusion.apps.evaluate",
    "kerasdiffusion.apps.serve",
    "kerasdiffusion.apps.page.command",
)

FAILED, USAGE, INTERRUPTED = 1, 2, 130

#: Characters of an error: what libraries say can be as long as their input.
LONGEST = 2000

# What a wrong argument or file raises; anything else deserves its name and a hint.
EXPECTED = (ValueError, TypeError, OSError, ImportError, MemoryError)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, under the name of the command.

    Args:
        intermixed: Whether options may stand between positional arguments.
        **options: Those of `argparse.ArgumentParser`.
    """

    def __init__(self, intermixed: bool = False, **options):
        # Shortened options would break scripts when a new option joins.
        super().__init__(allow_abbrev=False, **options)
        self._intermixed = intermixed

    def parse_known_args(self, args=None, namespace=None):
        """As argparse's, and intermixed if asked for."""
        if not self._intermixed:
            return super().parse_known_args(args, namespace)
        # This calls `parse_known_args` itself.
        self._intermixed = False
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixed = True

    def error(self, message: str):
        """Prints the line and exits with 2; of other programs' flags it says ours."""
        given = message.partition("unrecognized arguments: ")[2].split()
        message += "".join(self._hint(each) for each in given if each.startswith("-"))
        self.exit(USAGE, _error_line(f"{message} (see {self.prog} --help)"))

    def _hint(self, given: str) -> str:
        """What a flag that is none is called here."""
        hint, name = foreign.flag(given), given.partition("=")[0].replace("_", "-")
        if hint:
            return f"; {hint}"
        found = difflib.get_close_matches(name, self._flags(), n=1, cutoff=0.7)
        return f"; did you mean {found[0]}?" if found else ""

    def _flags(self) -> list[str]:
        """All flags of this parser and of its commands."""
        found = list(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    found += parser._flags()
        return found


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="kerasdiffusion",
        description="Stable Diffusion as a Keras 3 model: text in, picture out.",
        epilog='A first picture: kerasdiffusion generate "a red apple on a blue '
        'background"',
    )
    parser.add_argument(
        "--version", action="version", version=f"kerasdiffusion {__version__}"
    )
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True
    )
    for module in COMMANDS:
        importlib.import_module(module).register(commands)
    for command in commands.choices.values():
        command.add_argument(
            "--traceback",
            action="store_true",
            help="show where in the code an error came from",
        )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: The arguments, those of the process by default.

    Returns:
        The exit code: 0; 1 if the command failed; 130 if it was interrupted.

    Raises:
        SystemExit: With 2 if the arguments are wrong, with 0 after `--help`.

    Example:

    >>> main(["generate", "a red apple", "--seed", "1", "--quiet"])
    a-red-apple-1.png
    0
    """
    args = make_parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        # A prompt in a script that the terminal lacks must not end the run.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings(
            "default", category=UserWarning, module="kerasdiffusion"
        )
        warnings.showwarning = _show_warning
        try:
            code = args.run(args)
            sys.stdout.flush()
            return code
        except KeyboardInterrupt:
            print("kerasdiffusion: interrupted", file=sys.stderr)
            return INTERRUPTED
        except BrokenPipeError:
            # Whoever read the output has seen enough, as in `... | head -1`.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        except Exception as error:
            if args.traceback:
                traceback.print_exc()
            report(error)
            return FAILED


def report(error: Exception) -> None:
    """Prints an error as one line on stderr."""
    message = str(error)
    if isinstance(error, MemoryError) and not message:
        message = (
            "There must be enough memory for what is asked: ask for fewer or smaller "
            "pictures, or try --low-memory"
        )
    if isinstance(error, OSError) and error.filename and "Received" not in message:
        message = f"{error.strerror}. Received: {error.filename}"
    if not message or not isinstance(error, EXPECTED):
        message = f"{type(error).__name__}: {message} (--traceback shows where)"
    sys.stderr.write(_error_line(message))


def _error_line(message: str) -> str:
    line = " ".join(message.split())
    if len(line) > LONGEST:
        half = LONGEST // 2
        line = f"{line[:half]} ... {line[-half:]}"
    return f"kerasdiffusion: error: {line}\n"


def _show_warning(message, category, filename, lineno, file=None, line=None):
    print(f"kerasdiffusion: warning: {message}", file=sys.stderr)
