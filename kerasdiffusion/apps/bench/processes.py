"""Processes of this package that are asked line by line, or run to their end."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import kerasdiffusion

#: Seconds that a process has to end in, once nothing more is asked of it.
LAST = 30


class Asked:
    """A process that answers a line of JSON with another; for use with `with`.

    Args:
        library: What it measures, for messages.
        module: The module of this package that it runs.
        *arguments: Of its command line.
        **variables: Of its environment.
    """

    def __init__(self, library: str, module: str, *arguments: str, **variables: str):
        self.library = library
        self._command = _command(module, arguments), _environment(variables)

    def __enter__(self) -> Asked:
        command, environment = self._command
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
        )
        return self

    def __exit__(self, *error: Any) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(LAST)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def ask(self, **question: Any) -> dict:
        """The answer to a question.

        Raises:
            ChildProcessError: If the process has ended; the message has its last line.
        """
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(question), file=self._process.stdin, flush=True)
        return self.answer()

    def answer(self) -> dict:
        """What it says next; raises as `ask` does."""
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        raise _failure(self.library, self._process.wait(), self._errors)


@contextlib.contextmanager
def answering() -> Iterator[Callable[[dict], None]]:
    """Within it, in a process that is asked, what is printed goes to standard error.

    Returns:
        A function that says an answer.
    """
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)  # what libraries print, their C++ too
    with open(own, "w", encoding="utf-8") as answers:
        yield lambda found: print(json.dumps(found), file=answers, flush=True)


def run_apart(library: str, module: str, *arguments: str, **variables: str) -> None:
    """Runs a module of this package for a library, in a process of its own.

    Raises:
        ChildProcessError: If the process fails; the message has its last line.
    """
    with tempfile.TemporaryFile() as stderr:
        done = subprocess.run(
            _command(module, arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=_environment(variables),
            check=False,
        )
        if done.returncode:
            raise _failure(library, done.returncode, stderr)


def _command(module: str, arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", f"kerasdiffusion.apps.bench.{module}", *arguments]


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    package = str(Path(kerasdiffusion.__file__).parent.parent)
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
    return os.environ | own | variables


def _failure(library: str, code: int, stderr) -> ChildProcessError:
    stderr.seek(0)
    lines = stderr.read().decode("utf-8", "replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "")
    return ChildProcessError(
        f"{library} could not be measured (exit code {code}): {last.strip()}"
    )
