"""Cached steps, measured: U-Net calls, time, and how far the latents are led away."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kerasdiffusion.apps.bench.worker import GUIDANCE_SCALE, PROMPT, Job

NAME, SEED = "caches", 0
PLAIN = "plain"


@dataclass(frozen=True)
class Row:
    """What one option costs and does.

    Args:
        calls: U-Net calls of a picture.
        seconds: Of a picture, as a share of the plain one's just before it: the median.
        cpu: The same of the processor's time.
        distance: Of the final latents to the plain ones, by their size.
    """

    calls: float
    seconds: float
    cpu: float
    distance: float


def measure(job: Job, peers: Sequence[str], machine: str) -> Iterator[str]:
    """Lines of a table: each option, alternating with a plain picture.

    A threshold that nothing stays under shows what judging costs by itself.

    Args:
        job: The model, its size, the steps, and how often each is repeated.
        peers: None: what other libraries leave out is not measured.
        machine: What it runs on, in words.

    Raises:
        ValueError: If there are peers.
    """
    from kerasdiffusion.apps.bench import ours
    from kerasdiffusion.training.judging.evaluate_cheaper import CACHES, rows_of

    if peers:
        raise ValueError(
            f"Caches are measured in this library alone. Received: {', '.join(peers)}"
        )
    model = ours.Library(job).model
    plain, latents = _painted(model, job, {})
    yield (
        f"{job.preset}, {model.img_width}x{model.img_height}, {job.steps} steps, batch "
        f"{job.batch_size}, {model.precision}; medians of {max(job.repeats, 1)}, each "
        "beside a plain picture"
    )
    yield f"{machine}\n"
    yield "| | U-Net calls | time | processor time | latents' distance |"
    yield "| --- | --- | --- | --- | --- |"
    yield line(PLAIN, Row(plain["calls"], 1.0, 1.0, 0.0))
    for name, options in (rows_of(ucache=(1e-30,)) | CACHES).items():
        yield line(name, _row(model, job, options, latents))


def line(name: str, row: Row) -> str:
    """A row as Markdown.

    Example:

    >>> line("`deep_cache=3`", Row(12.0, 0.5, 0.49, 0.031))
    '| `deep_cache=3` | 12.0 | 0.50 | 0.49 | 3.1 % |'
    """
    return (
        f"| {name} | {row.calls:.1f} | {row.seconds:.2f} | {row.cpu:.2f} | "
        f"{100 * row.distance:.1f} % |"
    )


def _row(model, job: Job, options: Mapping, plain: np.ndarray) -> Row:
    found, latents = _painted(model, job, options)  # compiles
    ratios: dict[str, list[float]] = {"seconds": [], "cpu": []}
    for _ in range(max(job.repeats, 1)):
        before, _ = _painted(model, job, {})
        after, _ = _painted(model, job, options)
        for name, several in ratios.items():
            several.append(after[name] / before[name])
    medians = {name: statistics.median(several) for name, several in ratios.items()}
    distance = np.linalg.norm(latents - plain) / np.linalg.norm(plain)
    return Row(found["calls"], **medians, distance=float(distance))


def _painted(model, job: Job, options: Mapping) -> tuple[dict[str, float], np.ndarray]:
    """What a batch takes, and its final latents."""
    from kerasdiffusion.requests.request import Request

    request = Request(
        task="text_to_image",
        prompt=PROMPT,
        batch_size=job.batch_size,
        num_steps=job.steps,
        unconditional_guidance_scale=GUIDANCE_SCALE,
        seed=SEED,
        **options,
    )
    begun, spent = time.perf_counter(), time.process_time()
    run = model.run(request)
    run.pictures()
    figures = {
        "seconds": time.perf_counter() - begun,
        "cpu": time.process_time() - spent,
        "calls": len(run.plan.settings.table) - run.step.left_out.mean(),
    }
    return figures, run.latents
