"""Peak memory of a decode, in tiles and in one piece: each in a process of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import kerasdiffusion
from kerasdiffusion.config import AutoencoderConfig, ModelConfig

#: Sides in pixels, and `tiling`: a picture that most machines decode in one piece, and
#: one beyond.
CASES = ((768, False), (2048, True))


def decode_memory(
    config: AutoencoderConfig = AutoencoderConfig(),
    cases: tuple = CASES,
) -> list[dict]:
    """What decoding square pictures takes at most, with random weights in float32.

    Args:
        config: The autoencoder's; Stable Diffusion 1's by default.
        cases: Pairs of the side in pixels and `tiling`, as `StableDiffusion` takes it.

    Returns:
        For each case a dict of `"side"`, `"tiling"`, `"bytes"` (of the whole process at
        its peak) and `"before"` (of those, what was there ahead of the decode).

    Raises:
        ChildProcessError: If a decode fails, for want of memory for example.

    Example:

    >>> small = AutoencoderConfig(block_widths=(8, 8), norm_groups=4)
    >>> [each["side"] for each in decode_memory(small, cases=((64, False),))]
    [64]
    """
    return [_apart(config, side, tiling) for side, tiling in cases]


def lines(results: list[dict]) -> list[str]:
    """The results for people, one line each."""
    return [
        f"decode {each['side']}x{each['side']}, "
        f"{'in tiles' if each['tiling'] else 'in one piece'}: "
        f"{(each['bytes'] - each['before']) / 2**20:,.0f} MiB beside "
        f"{each['before'] / 2**20:,.0f} MiB of program and weights"
        for each in results
    ]


def _apart(config: AutoencoderConfig, side: int, tiling) -> dict:
    job = {"config": dataclasses.asdict(config), "side": side, "tiling": tiling}
    package = str(Path(kerasdiffusion.__file__).parent.parent)
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "kerasdiffusion.apps.bench.tiles", json.dumps(job)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip() or "killed").splitlines()[-1]
        raise ChildProcessError(
            f"A decode of {side}x{side} could not be measured (exit code "
            f"{done.returncode}): {last}"
        )
    return {
        "side": side,
        "tiling": tiling,
        **json.loads(done.stdout.splitlines()[-1]),
    }


def _measure(job: dict) -> dict:
    import numpy as np

    from kerasdiffusion.stable_diffusion import StableDiffusion

    values = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in job["config"].items()
    }
    config = AutoencoderConfig(**values)
    model = StableDiffusion(
        config=ModelConfig(autoencoder=config),
        weights=None,
        precision="float32",
        tiling=job["tiling"],
    )
    # Its decoder alone: a U-Net would be most of what there is.
    from kerasdiffusion.models.autoencoder import Decoder

    model._parts = {"decoder": Decoder(config, dtype="float32", name="decoder")}
    size = job["side"] // config.downsampling
    latents = np.random.default_rng(0).standard_normal(
        (1, size, size, config.latent_channels), "float32"
    )
    before = peak()
    model.decode_latents(latents)
    return {"bytes": peak(), "before": before}


def peak() -> int:
    """Bytes that this process held at most; an accelerator's where there is one."""
    from kerasdiffusion import backend

    device = backend.peak_device_memory()
    if device is not None:
        return device
    import resource

    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else held * 1024


if __name__ == "__main__":
    print(json.dumps(_measure(json.loads(sys.argv[1]))))
