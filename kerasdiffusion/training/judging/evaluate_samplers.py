"""Samplers by steps: what the classifier says, and how far from where they lead."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from kerasdiffusion.datasets import SceneConfig, SceneDataset
from kerasdiffusion.sampling.samplers import find_sampler, make_table
from kerasdiffusion.training.judging.evaluate import score

STEPS = (2, 4, 8, 15, 25, 50)
#: Second order and one network call a step.
REFERENCE, REFERENCE_STEPS = "dpmpp_2m", 1000
#: Each at its own spacing, and the most used ones at Karras's too.
USUAL = (
    *("ddim", "pndm", "plms", "euler", "lms", "ipndm", "deis", "unipc", "dpmpp_2m"),
    *("euler_karras", "dpmpp_2m_karras"),
    *("heun", "heunpp2", "dpm_2", "dpm_fast"),
    *("ddpm", "euler_ancestral", "dpmpp_2m_sde", "dpmpp_2m_sde_karras"),
    *("dpmpp_3m_sde", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde", "restart"),
)


@dataclass(frozen=True)
class Cell:
    """One sampler at one number of steps.

    Args:
        objects: The share of pictures whose object the classifier names right.
        distance: Of the latents from the reference's, relative, the mean over the
            pictures; `None` for samplers that add noise, which lead elsewhere.
        calls: Network calls.
    """

    objects: float
    distance: float | None
    calls: int


def evaluate_samplers(
    model,
    classifier: keras.Model,
    config: SceneConfig,
    samplers: Sequence[str] | None = None,
    steps: Sequence[int] = STEPS,
    count: int = 20,
    seed: int = 2000,
    batch_size: int = 20,
    reference_steps: int = REFERENCE_STEPS,
    report: Callable[[str], None] = print,
) -> dict[str, dict[int, Cell]]:
    """Paints the same captions from the same noise by each sampler.

    Args:
        model: A `StableDiffusion` of scenes.
        classifier: A model from `train_classifier`.
        config: The scenes.
        samplers: Names; by default `USUAL`.
        steps: Numbers of steps.
        count: Pictures of each sampler and number of steps.
        seed: Seed of the scenes and of the first picture.
        batch_size: Pictures at once.
        reference_steps: Steps of the reference, `REFERENCE`, which follows the same
            differential equation from the same noise.
        report: Is given a line at a time.

    Returns:
        A `Cell` by sampler and number of steps.

    Raises:
        ValueError: If a sampler is unknown; nothing is painted then.
    """
    names = [find_sampler(name).name for name in samplers or USUAL]
    config = dataclasses.replace(config, relations=0.0, counts=0.0)
    data = SceneDataset(config, model.img_height, seed=seed, split="all")
    _, captions, scenes = data.batch(0, count)

    def paint(sampler: str, num_steps: int):
        pictures, latents = [], []
        for start in range(0, count, batch_size):
            done = []
            pictures.append(
                model.text_to_image(
                    captions[start : start + batch_size],
                    seed=seed + start,
                    sampler=sampler,
                    num_steps=num_steps,
                    callback=done.append,
                    progress_bar=False,
                )
            )
            latents.append(done[-1].latents)
        pictures = np.concatenate(pictures)
        found = score(pictures, captions, scenes, config, classifier)
        return found.objects, np.concatenate(latents)

    objects, reference = paint(REFERENCE, reference_steps)
    report(f"{count} scenes, seed {seed}; reference: {objects:.0%} named right")
    cells: dict[str, dict[int, Cell]] = {}
    for name in names:
        cells[name] = {}
        for each in steps:
            table = make_table(model.config.schedule, name, each)
            objects, latents = paint(name, each)
            away = None if table.noise_count else distance(latents, reference)
            cells[name][each] = Cell(objects, away, len(table))
            report(f"{name:24s}{each:4d} steps  {describe(cells[name][each])}")
    return cells


def distance(latents: np.ndarray, reference: np.ndarray) -> float:
    """The mean over pictures of `|latents - reference| / |reference|`."""
    axes = tuple(range(1, latents.ndim))
    error = np.sqrt(np.sum((latents - reference) ** 2, axis=axes))
    return float(np.mean(error / np.sqrt(np.sum(reference**2, axis=axes))))


def describe(cell: Cell) -> str:
    """`65 %, 0.12`: the share named right and the distance where there is one."""
    away = "" if cell.distance is None else f", {cell.distance:.3f}"
    return f"{100 * cell.objects:.0f} %{away}"


def markdown(cells: dict[str, dict[int, Cell]]) -> str:
    """The table, a row a sampler and a column a number of steps."""
    steps = list(next(iter(cells.values())))
    lines = [
        "| sampler | calls a step | " + " | ".join(map(str, steps)) + " |",
        "| --- " * (len(steps) + 2) + "|",
    ]
    for name, row in cells.items():
        calls = row[steps[-1]].calls / steps[-1]
        values = " | ".join(describe(row[each]) for each in steps)
        lines.append(f"| `{name}` | {round(calls)} | {values} |")
    return "\n".join(lines)
