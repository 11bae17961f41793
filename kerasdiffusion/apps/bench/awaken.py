"""Reads what a library's process will read, so that none pays for a cold disk.

Run as `python -m kerasdiffusion.apps.bench.awaken JOB`, a `Job` as JSON, ahead of the
process that is measured: that one is cold, not the disk.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from kerasdiffusion.apps.bench.worker import LIBRARIES, Job

BLOCK = 2**24


def weights(job: Job) -> set[Path]:
    """The files of a job's weights; none where they are random."""
    if job.random_weights:
        return set()
    from kerasdiffusion.apps.bench import ours
    from kerasdiffusion.presets.named import find_preset
    from kerasdiffusion.weights import load

    source, config = find_preset(job.folder or job.preset)
    path = ours.on_disk(source, config)
    if path is None:
        return set()
    return set(load.locate(path, (config or load.read_config(path)).parts).values())


def main(job: str) -> None:
    """Imports the job's library and reads the files."""
    job = Job(**json.loads(job))
    importlib.import_module(LIBRARIES[job.library])
    for path in weights(job):
        with open(path, "rb", buffering=0) as file:
            while file.read(BLOCK):
                pass


if __name__ == "__main__":
    main(*sys.argv[1:])
