"""Results that are kept for a while: pictures, and a record of each job."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from kerasdiffusion.storage.reading import read_json
from kerasdiffusion.storage.whole import write_whole

_ID = re.compile(r"[A-Za-z0-9_-]{22}")
RECORD = "job.json"
# What a job leaves that was killed ahead of its record.
_UNFINISHED = re.compile(r"\d+\.png|\.(\d+\.png|job\.json)\..*\.part")


class Kept:
    """A folder of results, a folder each; a record is written when all of it is there.

    Args:
        folder: Where.
        seconds: How long they are kept.
        most: How many are kept at most; the oldest leave.

    Raises:
        OSError: If the folder cannot be made, read or written.
    """

    def __init__(self, folder: str | os.PathLike, seconds: float = 86400.0, most=1000):
        self.folder, self.seconds, self.most = Path(folder), seconds, most
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(self.folder, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(
                "The folder for results must be one that can be read and written. "
                f"Received: {self.folder}"
            )
        self._records: dict[str, dict] = {}
        for path in sorted(self.folder.iterdir()):
            self._read(path)
        self.clear()

    def _read(self, path: Path) -> None:
        """The record of an earlier server; what has none was never finished."""
        if not _ID.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
            return
        try:
            record = read_json(path / RECORD, "request")
            is_ours = record["id"] == path.name and isinstance(record["ended"], float)
            if not (is_ours and _is_whole(record)):
                raise ValueError("not ours")
        except (OSError, ValueError, KeyError, TypeError):
            names = [each.name for each in path.iterdir()]
            if names and all(map(_UNFINISHED.fullmatch, names)):
                shutil.rmtree(path, ignore_errors=True)
            return
        self._records[path.name] = record

    def put(self, record: dict, pictures: Sequence[bytes]) -> None:
        """Keeps a job's result."""
        folder = self.folder / record["id"]
        folder.mkdir(mode=0o700, exist_ok=True)
        for i, content in enumerate(pictures):
            write_whole(folder / f"{i}.png", content, overwrite=True)
        text = json.dumps(record, ensure_ascii=False)
        write_whole(folder / RECORD, text, overwrite=True)
        self._records[record["id"]] = record
        self.clear()

    def get(self, id: str) -> dict | None:
        """The record of a job, if it is kept."""
        return self._records.get(id)

    def picture(self, id: str, number: int) -> Path | None:
        """The file of a picture, if it is kept."""
        if id not in self._records:
            return None
        path = self.folder / id / f"{int(number)}.png"
        return path if path.is_file() else None

    def all(self) -> list[dict]:
        """The records, the oldest first."""
        return sorted(list(self._records.values()), key=lambda x: x["ended"])

    def drop(self, id: str) -> bool:
        """Forgets a job's result; whether there was one."""
        if self._records.pop(id, None) is None:
            return False
        with contextlib.suppress(OSError):
            # Without its record first, so that no half of it is found again.
            (self.folder / id / RECORD).unlink()
        shutil.rmtree(self.folder / id, ignore_errors=True)
        return True

    def clear(self) -> None:
        """Drops what has been kept long enough."""
        known = self.all()
        oldest = time.time() - self.seconds
        for i, record in enumerate(known):
            if record["ended"] < oldest or i < len(known) - self.most:
                self.drop(record["id"])


def _is_whole(record: dict) -> bool:
    """Whether a record has what its readers take for given."""
    client, texts = record["client"], record["parameters"]
    return (
        isinstance(client, list)
        and len(client) == 2
        and isinstance(texts, list)
        and all(isinstance(each, dict) for each in texts)
        and isinstance(record["state"], str)
    )
