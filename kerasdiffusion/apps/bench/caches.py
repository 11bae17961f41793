"""Cached steps, measured: U-Net calls, time, and how far the latents are led away."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kerasdiffusion.apps.bench.worker import Job

NAME, PROMPT = "caches", "a red apple on a blue background"
PLAIN = "plain"


@dataclass(frozen=True)
class Row:
    """What one option costs and does.

    Args:
        calls: U-Net calls of a picture, in the mean.
        seconds: Of a picture, as a share of the plain one's just before it: the median.
        cpu: The same of the processor's time.
        distance: Of the final latents to the plain ones, by their size, in the mean.
    """

    calls: float
    seconds: float
    cpu: float
    distance: float


def measure(
    job: Job, peers: Sequence[str], machine: str, keywords: Sequence[str] = ()
) -> Iterator[str]:
    """Lines of a table: each option, alternating with a plain picture.

    A threshold that nothing stays under shows what judging costs by itself.

    Args:
        job: The model, its size, the steps, and how often each is repeated.
        peers: None: what other libraries leave out is not measured.
        machine: What it runs on, in words.
        keywords: Of the options whose rows are wanted; all by default.

    Raises:
        ValueError: If there are peers, or no option has such a keyword.
    """
    from kerasdiffusion.apps.bench import ours
    from kerasdiffusion.training.judging.evaluate_cheaper import CACHES, rows_of

    if peers:
        raise ValueError(
            f"Caches are measured in this library alone. Received: {', '.join(peers)}"
        )
    rows = chosen(rows_of(ucache=(1e-30,)) | CACHES, keywords)
    model = ours.Library(job).model
    plain, _ = _painted(model, job, {})
    yield (
        f"{job.preset}, {model.img_width}x{model.img_height}, {job.steps} steps, batch "
        f"{job.batch_size}, {model.precision}; of {max(job.repeats, 1)} seeds, each "
        "beside a plain picture of the same"
    )
    yield f"{machine}\n"
    yield "| | U-Net calls | time | processor time | latents' distance |"
    yield "| --- | --- | --- | --- | --- |"
    yield line(PLAIN, Row(plain["calls"], 1.0, 1.0, 0.0))
    for name, options in rows.items():
        yield line(name, _row(model, job, options))


def chosen(rows: Mapping[str, Mapping], keywords: Sequence[str]) -> dict[str, Mapping]:
    """The rows of some keywords; all where none is named.

    Args:
        rows: Keywords of `text_to_image` by the name of a row.
        keywords: Those that are wanted.

    Raises:
        ValueError: If no row has one of them.

    Example:

    >>> list(chosen({"`ucache=1.0`": {"ucache": 1.0}, "b": {"b": 1}}, ["ucache"]))
    ['`ucache=1.0`']
    """
    known = sorted({name for options in rows.values() for name in options})
    for keyword in keywords:
        if keyword not in known:
            raise ValueError(
                f"--caches must be of {', '.join(known)}. Received: {keyword!r}"
            )
    return {
        name: options
        for name, options in rows.items()
        if not keywords or set(options) & set(keywords)
    }


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


def _row(model, job: Job, options: Mapping) -> Row:
    _painted(model, job, options)  # compiles
    rows = []
    for seed in range(max(job.repeats, 1)):
        before, plain = _painted(model, job, {}, seed)
        after, latents = _painted(model, job, options, seed)
        shares = {name: after[name] / before[name] for name in ("seconds", "cpu")}
        away = float(np.linalg.norm(latents - plain) / np.linalg.norm(plain))
        rows.append(Row(after["calls"], **shares, distance=away))
    return Row(
        statistics.mean(row.calls for row in rows),
        statistics.median(row.seconds for row in rows),
        statistics.median(row.cpu for row in rows),
        statistics.mean(row.distance for row in rows),
    )


def _painted(
    model, job: Job, options: Mapping, seed: int = 0
) -> tuple[dict[str, float], np.ndarray]:
    """What a batch takes, and its final latents."""
    from kerasdiffusion.requests.request import Request

    request = Request(
        task="text_to_image",
        prompt=PROMPT,
        batch_size=job.batch_size,
        num_steps=job.steps,
        seed=seed,
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
