"""Cheaper steps beside plain ones: how much time, and how far from their pictures."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import keras
import numpy as np

from kerasdiffusion.datasets import SceneConfig, SceneDataset
from kerasdiffusion.requests.request import Request
from kerasdiffusion.training.judging.evaluate import score


def rows_of(**values) -> dict[str, dict]:
    """Options of one keyword each, by the name of their row."""
    return {
        f"`{name}={value}`": {name: value}
        for name, several in values.items()
        for value in several
    }


#: What keeps U-Net calls, or parts of them, from one step to the next.
CACHES = rows_of(
    deep_cache=(2, 3, 5, (2, 1), (3, 1)),
    noise_cache=(2, 3, 4, (1000, 0.0, 1.0, 1.0)),
    ucache=(0.3, 1.0, 1.5),
    easy_cache=(0.1, 0.2, 0.3),
    spectrum=(True, {"flex": 0.0}),
)
#: Options by the name of their row. The interval is the one of Kynkäänniemi et al. 2024
#: for Stable Diffusion XL.
USUAL = {
    **rows_of(guidance_interval=((0.28, 5.42),)),
    **CACHES,
    **rows_of(merge_tokens=(0.25, 0.5)),
}
PLAIN, EIGHT_BIT = "plain", '`quantize("int8")`'


@dataclass(frozen=True)
class Cheaper:
    """One way to make steps cheaper.

    Args:
        time: Of a picture, from prompt to pixels, as a share of the plain one's: the
            median over batches, each of which is painted plainly just before.
        calls: U-Net calls of a picture, whole or not, in the mean.
        decibels: The peak signal-to-noise ratio of the pictures to the plain ones, by
            the squared error of all; infinite where they are the same.
        objects: The share of pictures whose object the classifier names right.
    """

    time: float
    calls: float
    decibels: float
    objects: float


def evaluate_cheaper(
    model,
    eight_bit,
    classifier: keras.Model,
    config: SceneConfig,
    options: Mapping[str, Mapping] = USUAL,
    count: int = 100,
    seed: int = 2000,
    batch_size: int = 1,
    num_steps: int | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Cheaper]:
    """Paints the same captions from the same noise plainly and by each option.

    Args:
        model: A `StableDiffusion` of scenes.
        eight_bit: The same with weights of 8 bits; `None` leaves that row out.
        classifier: A model from `judge.train_classifier`.
        config: The scenes.
        options: Keywords of `text_to_image` by the name of their row.
        count: Pictures of each row; fewer than two batches give a poor time.
        seed: Seed of the scenes and of the first picture.
        batch_size: Pictures at once, of which `count` should be a multiple.
        num_steps: Denoising steps; the preset's by default.
        report: Is given a line at a time.

    Returns:
        A `Cheaper` by row, the plain one first.
    """
    config = dataclasses.replace(config, relations=0.0, counts=0.0)
    data = SceneDataset(config, model.img_height, seed=seed, split="all")
    _, captions, scenes = data.batch(0, count)
    starts = range(0, count, batch_size)

    def paint(painter, start, keywords):
        began = time.perf_counter()
        request = Request(
            task="text_to_image",
            prompt=captions[start : start + batch_size],
            seed=seed + start,
            num_steps=num_steps,
            **keywords,
        )
        run = painter.run(request)
        pictures = run.pictures()
        seconds = time.perf_counter() - began
        calls = len(run.plan.settings.table) - run.step.left_out.mean()
        return pictures, seconds, calls

    def judged(pictures) -> float:
        return score(pictures, captions, scenes, config, classifier).objects

    rows = [(name, model, keywords) for name, keywords in options.items()]
    if eight_bit is not None:
        rows.append((EIGHT_BIT, eight_bit, {}))
    paint(model, 0, {})  # compiles
    before = [paint(model, start, {}) for start in starts]
    plain = np.concatenate([pictures for pictures, _, _ in before])
    found = {PLAIN: Cheaper(1.0, before[0][2], np.inf, judged(plain))}
    report(f"{count} scenes, seed {seed}, {batch_size} at once")
    report(f"{PLAIN:36s}{describe(found[PLAIN])}")
    for name, painter, keywords in rows:
        paint(painter, 0, keywords)
        pairs = [
            (paint(model, start, {})[1], paint(painter, start, keywords))
            for start in starts
        ]
        ratio = np.median([seconds / before for before, (_, seconds, _) in pairs])
        calls = np.mean([calls for _, (_, _, calls) in pairs])
        pictures = np.concatenate([pictures for _, (pictures, _, _) in pairs])
        away = decibels(pictures, plain)
        found[name] = Cheaper(float(ratio), float(calls), away, judged(pictures))
        report(f"{name:36s}{describe(found[name])}")
    return found


def decibels(pictures: np.ndarray, plain: np.ndarray) -> float:
    """The peak signal-to-noise ratio of uint8 pictures to others."""
    error = np.mean((pictures.astype("float64") - plain) ** 2)
    return float(10.0 * np.log10(255.0**2 / error)) if error else np.inf


def describe(row: Cheaper) -> str:
    """`0.61 of the time, 15.2 calls, 27.3 dB, 65 % named right`."""
    away = "the same" if row.decibels == np.inf else f"{row.decibels:.1f} dB"
    return (
        f"{row.time:.2f} of the time, {row.calls:.1f} calls, {away}, "
        f"{100 * row.objects:.0f} % named right"
    )


def markdown(rows: Mapping[str, Cheaper]) -> str:
    """The table, a row for each."""
    lines = [
        "| | time of a picture | U-Net calls | to the plain pictures | objects named "
        "right |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        away = "" if row.decibels == np.inf else f"{row.decibels:.1f} dB"
        lines.append(
            f"| {name} | {row.time:.2f} | {row.calls:.1f} | {away} | "
            f"{100 * row.objects:.0f} % |"
        )
    return "\n".join(lines)
