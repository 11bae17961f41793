"""The index of a batch in an object store, where nothing can be renamed.

    index/merged-00000003.jsonl             all that runs 1 to 3 have recorded
    index/run-00000004/00000/00000001.jsonl a part of run 4
    index/run-00000004.sealed               which of its parts count, and no others do
    index/run-00000005.open                 the run that goes on now

A run begins by making its own `.open`, on condition that there is none. Then it seals
those before it: it removes their `.open`, and after that lists their parts and writes
down which count. Whoever has written a part looks for its run's `.open`: where that is
still there, the part was there ahead of the list, and counts; else another run has
begun. So what is told as recorded counts, and what a process records that outlived its
run counts for nobody: nothing is lost, and nothing is recorded twice.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator

from kerasdiffusion.batch.index import (
    FOLDER,
    MOST_PARTS,
    Index,
    Known,
    Superseded,
    as_lines,
    parsed,
    part_name,
)

_NAME = re.compile(rf"{FOLDER}/(run|merged)-(\d{{8}})(\.open|\.sealed|\.jsonl|/(.*))")


class ObjectRun:
    """The parts of one run; as `index.Run`.

    Args:
        store: The `Objects` of the batch.
        number: The run's.
    """

    def __init__(self, store, number: int):
        self.store, self.number = store, number

    @property
    def folder(self) -> str:
        """Where its parts are, for messages."""
        return f"{self.store}/{_run(self.number)}"

    def write(self, number: int, records: Iterable[dict]) -> bool:
        """Records what became of the batch of this number, all or nothing.

        Args:
            number: The batch's, 0 or more; each is recorded once.
            records: What `json` takes, each with `name`, `key` and `status`.

        Returns:
            Whether it was recorded now; `False` if it had been before.

        Raises:
            Superseded: If another run has begun.
            OSError: If nothing can be written.
        """
        name = f"{_run(self.number)}/{part_name(number)}"
        is_new = self.store.create(name, b"".join(as_lines(records)))
        if not self.store.has(f"{_run(self.number)}.open"):
            raise Superseded(
                f"Another run of this batch has begun. Received: {self.folder}"
            )
        return is_new

    def read(self, number: int) -> list[dict] | None:
        """What is recorded of the batch of this number; `None` if nothing is."""
        name = f"{_run(self.number)}/{part_name(number)}"
        content = self.store.read(name)
        if content is None:
            return None
        return list(parsed(io.BytesIO(content), f"{self.store}/{name}"))


class ObjectIndex(Index):
    """The records of a batch in an object store.

    Args:
        store: The `Objects`.
    """

    def __init__(self, store):
        self.store = store

    @property
    def is_there(self) -> bool:
        """Whether there is a batch."""
        return bool(self.store.names(FOLDER))

    def begin(self) -> tuple[ObjectRun, Known]:
        """Begins a run, and seals those before; for who has the lease.

        Returns:
            The run, and what is recorded ahead of it.

        Raises:
            BlockingIOError: If another process begins at the same moment.
        """
        there = _There(self.store)
        number = there.last + 1
        # (Made ahead of all else, so that no number is ever had by two runs.)
        if not self.store.create(f"{_run(number)}.open", b""):
            raise BlockingIOError(
                "A batch needs its place for itself; another one has begun there just "
                f"now. Received: {self.store}"
            )
        there = _There(self.store)
        for each in there.runs:
            if each < number and each not in there.sealed:
                self._seal(each)
        known = self.known()
        there = _There(self.store)
        if sum(len(there.parts.get(each, ())) for each in there.runs) > MOST_PARTS:
            self._merge_up_to(number - 1)
        else:
            self._clear()
        return ObjectRun(self.store, number), known

    def records(self) -> Iterator[dict]:
        """All records, in the order of the runs; the last of a row counts."""
        return self._records(_There(self.store))

    def _records(self, there: _There) -> Iterator[dict]:
        if there.merged:
            name = _merged(there.merged)
            with self.store.open(name) as lines:
                yield from parsed(lines, f"{self.store}/{name}")
        for each in there.runs:
            folder, own = _run(each), there.parts.get(each, [])
            if each in there.sealed:
                content = self.store.read(f"{folder}.sealed")
                own = json.loads(content or b"[]")
            names = [f"{folder}/{part}" for part in own]
            for name, content in zip(names, self.store.read_all(names), strict=True):
                yield from parsed(io.BytesIO(content), f"{self.store}/{name}")

    def _seal(self, number: int) -> None:
        """Writes down which parts of a run count, when nobody can add any."""
        self.store.remove([f"{_run(number)}.open"])
        own = _There(self.store).parts.get(number, [])
        self.store.create(f"{_run(number)}.sealed", json.dumps(own).encode())

    def _merge_up_to(self, number: int) -> None:
        """All parts as one object, which counts from the moment that it is there."""
        there = _There(self.store)
        there.runs = [each for each in there.runs if each <= number]
        with self.store.whole(_merged(number), overwrite=True) as part:
            with open(part, "xb") as out:
                out.writelines(as_lines(self._records(there)))
        self._clear()

    def _clear(self) -> None:
        """Removes what the last merged object holds."""
        there = _There(self.store)
        self.store.remove(there.old)


class _There:
    """What a store has of an index.

    Attributes:
        merged: The number of the last merged object; 0 if there is none.
        runs: The numbers of runs that it does not hold, in their order.
        sealed: Those that are.
        parts: The parts of each run, in their order.
        old: The objects that the merged one holds.
        last: The last number that there is, or 0.
    """

    def __init__(self, store):
        found = [(_NAME.fullmatch(each), each) for each in store.names(FOLDER)]
        found = [(match, each) for match, each in found if match]
        own = [int(match[2]) for match, _ in found if match[1] == "merged"]
        self.merged = max(own, default=0)
        self.parts: dict[int, list[str]] = {}
        self.sealed, self.old, runs = set(), [], set()
        for match, name in found:
            number = int(match[2])
            is_merged = match[1] == "merged"
            if number < self.merged or (number == self.merged and not is_merged):
                self.old.append(name)
            elif not is_merged:
                runs.add(number)
                if match[3] == ".sealed":
                    self.sealed.add(number)
                elif match[4]:
                    self.parts.setdefault(number, []).append(match[4])
        self.runs = sorted(runs)
        self.last = max([self.merged, *runs])


def _run(number: int) -> str:
    return f"{FOLDER}/run-{number:08d}"


def _merged(number: int) -> str:
    return f"{FOLDER}/merged-{number:08d}.jsonl"
