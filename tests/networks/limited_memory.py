"""A process whose memory is limited: `python limited_memory.py FOLDER`.

Ahead of each attempt it may take so many MiB of addresses more than it has. Prints what
each ended with, and whether the model then paints what it did before.
"""

import json
import resource
import sys
from pathlib import Path

import numpy as np

from kerasdiffusion import StableDiffusion
from kerasdiffusion.prompts.tokenizer import Tokenizer
from tests.tiny import TEXTS, TINY, tiny_tokenizer


def addresses() -> int:
    """Bytes of addresses that the process has."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (size,) = [line for line in lines if line.startswith("VmSize")]
    return int(size.split()[1]) * 1024


def limited(mebibytes: int, attempt) -> str:
    """What an attempt ended with, in a process that may take no more than that."""
    limit = addresses() + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        attempt()
        return "done"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        unlimited = resource.RLIM_INFINITY, resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_AS, unlimited)


def main(folder: str) -> None:
    """Paints too much in too little memory, and loads weights into too little."""
    tokenizer = Tokenizer(TINY.tokenizer, tiny_tokenizer().vocabulary)

    def model(name, config=TINY):
        source = Path(folder, name)
        return StableDiffusion(weights=source, config=config, tokenizer=tokenizer)

    def paint(one, **more):
        options = {"num_steps": 2, "seed": 1, "progress_bar": False, **more}
        return one.text_to_image(TEXTS[0], **options)

    small = model("small")
    before, told = paint(small), {"painting": {}, "loading": {}}
    for mebibytes in (16, 60, 150, 300, 500, 700):
        said = limited(mebibytes, lambda: paint(small, batch_size=1024))
        same = bool(np.array_equal(paint(small), before))
        told["painting"][mebibytes] = said, same
    large = StableDiffusion(weights=Path(folder, "large"))
    for mebibytes in (120, 300, 450):
        said = limited(mebibytes, lambda: paint(large))
        same = bool(np.array_equal(paint(small), before))
        told["loading"][mebibytes] = said, same
    told["then"] = paint(large).shape
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
