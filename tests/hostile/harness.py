"""Hostile input in a child process, each case with limits of time and memory.

A case makes something in an empty folder, harmless in itself; a reader is given it.
What is refused is stated with the case. The child tells of each case as it begins and
ends, so that a crash or a hang is pinned on its case, and goes on with the next.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
#: Of processor time, which a busy machine does not stretch; and of the clock's.
SECONDS, PATIENCE = 10.0, 120.0
#: More than any of these files or requests has a reason to take.
MEBIBYTES = 400
#: Addresses, beyond which an allocation fails.
ROOM = 1500
MODULES = (
    # The first six import no framework.
    "tensor_files",
    "pickled",
    "model_folders",
    "tokenizers",
    "pictures",
    "texts",
    "kept",
    "commands",
    "saving",
)
#: What a message may be made of: one sentence or three, no page.
LONGEST = 2100
FITTING = (ValueError, TypeError, OSError)


@dataclass(frozen=True)
class Case:
    """Something hostile.

    Args:
        reader: Who is given it.
        name: What is wrong with it.
        make: From an empty folder to what the reader is given.
        outcome: `"refused"` with an error that fits; `"warned"`, taken with a word;
            `"taken"` as it is; or `"any"` of these.
        says: What the error or the warning must name.
        check: Raises if what the reader left or gave is wrong; given the folder and
            the value (`None` if it refused).
        mebibytes: What it may take.
    """

    reader: str
    name: str
    make: Callable[[Path], Any]
    outcome: str = "refused"
    says: str = ""
    check: Callable[[Path, Any], None] | None = None
    mebibytes: int = MEBIBYTES


class Collection:
    """The cases and the readers of a module.

    Args:
        framework: Whether the readers need one: it is started ahead of the first case,
            and its addresses are not limited, since its threads would not start.
    """

    def __init__(self, framework: bool = False):
        self.framework = framework
        self.readers: dict[str, Callable] = {}
        self.cases: list[Case] = []

    def reader(self, name: str):
        """Registers a function that reads what its cases make."""

        def register(function):
            self.readers[name] = function
            return function

        return register

    def add(self, reader: str, name: str, make, outcome="refused", **more) -> None:
        """Adds a case; what is no function is given to the reader as it is."""
        self.cases.append(
            Case(
                reader,
                name,
                make if callable(make) else lambda _: make,
                outcome,
                **more,
            )
        )

    def case(self, reader: str, name: str, outcome="refused", **more):
        """The same for a function of a folder."""

        def register(function):
            self.add(reader, name, function, outcome, **more)
            return function

        return register


class Hung(BaseException):
    """A case that takes too long."""


def collections() -> dict[str, Collection]:
    """The modules' collections."""
    return {
        name: importlib.import_module(f"tests.hostile.{name}").CASES for name in MODULES
    }


def _memory(name: str) -> float:
    """A line of the process's status, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    return 0.0


def _files(folder: Path) -> dict[str, tuple]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
        if not path.is_dir() or path.is_symlink()
    }


def run_case(case: Case, reader: Callable, folder: Path, room: int | None) -> dict:
    """What became of a case: its outcome, or what is wrong with it.

    Args:
        case: The case.
        reader: Its reader.
        folder: Where it may write.
        room: MiB of addresses that it may take; `None` for any number.
    """
    given = folder / "given"
    given.mkdir()
    marker = Path(os.environ["HOSTILE_MARKER"])
    argument = case.make(given)
    before = _files(given)
    error = value = None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        _reset_peak()
        _limit(room)
        base, start = _memory("VmRSS"), time.process_time()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            value = reader(argument)
            outcome = "taken"
        except Hung:
            outcome = "hung"
        except MemoryError as caught:
            error, outcome = caught, "over memory"
        except FITTING as caught:
            error, outcome = caught, "refused"
        except Exception as caught:
            error, outcome = caught, f"{type(caught).__name__}, which fits nothing"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            _limit(None)
    seconds, peak = time.process_time() - start, _memory("VmHWM") - base
    words = [
        str(each.message) for each in said if issubclass(each.category, UserWarning)
    ]
    if outcome == "taken" and words:
        outcome = "warned"
    wrong = _wrong(case, outcome, str(error or " ".join(words)))
    if peak > case.mebibytes:
        wrong = f"over memory: {peak:.0f} MiB"
    if marker.exists():
        wrong = "executed"
        marker.unlink()
    if case.check is not None and not wrong:
        try:
            case.check(given, value)
        except Exception as caught:
            wrong = f"half done: {type(caught).__name__} {caught}"
    elif not wrong and case.check is None and _files(given) != before:
        wrong = f"half done: it left {sorted(set(_files(given)) - set(before))}"
    return {
        "wrong": wrong,
        "outcome": outcome,
        "said": f"{type(error).__name__ if error else ''} {error or words}"[:600],
        "seconds": round(seconds, 2),
        "peak": round(peak),
    }


def _wrong(case: Case, outcome: str, said: str) -> str | None:
    if outcome not in ("refused", "warned", "taken"):
        return outcome
    if case.outcome != "any" and outcome != case.outcome:
        silent = "silent: " if outcome == "taken" else ""
        return f"{silent}{outcome} in place of {case.outcome}"
    if outcome == "refused" and "Received" not in said:
        return "its error does not say what was received"
    if outcome == "refused" and len(said) > LONGEST:
        return f"its error has {len(said)} characters"
    if case.says and case.says not in said and case.outcome != "any":
        return f"its words lack {case.says!r}"
    return None


def _limit(room: int | None) -> None:
    """How many MiB of addresses the process may take from here on."""
    if room is not None:
        room = int((_memory("VmSize") + room) * 2**20)
    resource.setrlimit(resource.RLIMIT_AS, (room or resource.RLIM_INFINITY, -1))


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def main(module: str, first: int) -> None:
    """Runs the cases of a module from one on, in this process."""

    def hung(*_):
        raise Hung

    found = collections_of(module)
    signal.signal(signal.SIGPROF, hung)
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    root = Path(os.environ["HOSTILE_FOLDER"])
    if found.framework:
        import keras

        keras.layers.Dense(1)(keras.ops.zeros((1, 1)))
    for number, case in enumerate(found.cases[first:], first):
        print(json.dumps({"number": number}), file=out)
        folder = root / str(number)
        folder.mkdir(exist_ok=True)
        os.chdir(folder)
        room = None if found.framework else ROOM
        told = run_case(case, found.readers[case.reader], folder, room)
        print(json.dumps({"number": number, **told}), file=out)
        os.chdir(root)
        shutil.rmtree(folder, ignore_errors=True)
    out.flush()
    os._exit(0)  # without waiting for what a refused request still reads


def collections_of(module: str) -> Collection:
    """A module's collection."""
    return importlib.import_module(f"tests.hostile.{module}").CASES


@functools.cache
def failures(module: str) -> dict[str, list[str]]:
    """Runs the cases of a module in children, the next where one ends too soon.

    Args:
        module: One of `MODULES`.

    Returns:
        What went wrong with each reader, a line a case.
    """
    collection = collections_of(module)
    cases, first = collection.cases, 0
    found = {reader: [] for reader in collection.readers}
    while first < len(cases):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            done, wrong = _child(module, first, folder)
        for number, told in done.items():
            if told["wrong"]:
                line = f"{cases[number].name}: {told['wrong']} ({told})"
                found[cases[number].reader].append(line)
        first += len(done)
        if wrong and first < len(cases):
            found[cases[first].reader].append(f"{cases[first].name}: {wrong}")
            first += 1
        elif wrong:
            found[cases[-1].reader].append(f"after the last case: {wrong}")
    return found


def _child(module, first, folder):
    """What a child tells of the cases that it got through, and why it ended."""
    done, begun = {}, time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.hostile.harness", module, str(first)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={
            **os.environ,
            "HOSTILE_FOLDER": folder,
            "HOSTILE_MARKER": str(Path(folder, "marker")),
            "PYTHONPATH": str(ROOT),
        },
        text=True,
    )
    with process, tempfile.TemporaryFile("w+") as errors:
        buffer = ""
        while True:
            ready, _, _ = select.select([process.stdout, process.stderr], [], [], 1.0)
            if process.stderr in ready:
                errors.write(
                    os.read(process.stderr.fileno(), 65536).decode("utf-8", "replace")
                )
            if process.stdout in ready:
                chunk = os.read(process.stdout.fileno(), 65536).decode()
                if not chunk:
                    break
                buffer += chunk
                *lines, buffer = buffer.split("\n")
                for line in lines:
                    told, begun = json.loads(line), time.monotonic()
                    if "outcome" in told:
                        done[told.pop("number")] = told
            if time.monotonic() - begun > PATIENCE:
                process.kill()
                return done, "hung, and could not be interrupted"
        code = process.wait()
        errors.seek(0)
        last = errors.read()[-1500:]
    return done, None if code == 0 else f"crashed with code {code}: {last}"


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
