"""The pictures of a lesson: those that are taught, kept apart, or of the class."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from kerasdiffusion.compute.progress import Progress
from kerasdiffusion.pictures.write import save_png
from kerasdiffusion.storage.whole import write_whole
from kerasdiffusion.training.examples.batches import Sample
from kerasdiffusion.training.examples.buckets import factor, fit
from kerasdiffusion.training.examples.folders import Picture, read_folder
from kerasdiffusion.training.lessons.lesson import WITH_WORDS, Lesson


def gathered(
    model,
    folder: str | os.PathLike,
    lesson: Lesson,
    painted: Path,
    report: Callable[[str], None],
    progress_bar: bool,
) -> tuple[Lesson, list[Sample], list[Sample]]:
    """The pictures of a folder in their buckets, and those of the class.

    Args:
        model: A `StableDiffusion`, which paints the pictures of the class.
        folder: The pictures.
        lesson: What is taught.
        painted: The folder for pictures that are painted.
        report: Is given what is left out.
        progress_bar: Whether there is a bar.

    Returns:
        The lesson with nothing left open; what is taught; and what is kept apart.
    """
    caption = lesson.instance_prompt
    if caption is None and lesson.kind in WITH_WORDS:
        caption = f"a photo of {lesson.word}"
    found = read_folder(folder, caption, alpha_mask=lesson.alpha_mask)
    for path, reason in found.left_out:
        report(f"Left out: {path} ({reason}).")
    for note in found.notes:
        report(f"Note: {note}")
    lesson = lesson.settled(model.config, len(found.pictures))
    _check_word(lesson, found.pictures)
    own, apart = _apart(found.pictures, lesson)
    own = (*own, *_class_pictures(model, lesson, painted, report, progress_bar))
    samples, apart = (
        [Sample(each, _fit(each, lesson, model.config)) for each in pictures]
        for pictures in (own, apart)
    )
    return lesson, samples, apart


def _check_word(lesson: Lesson, pictures: Sequence[Picture]) -> None:
    """A word that no caption has would learn nothing."""
    without = [
        each for each in pictures if lesson.word and lesson.word not in each.caption
    ]
    if without:
        raise ValueError(
            "Every caption must have the new word in it, to teach it. Received: "
            f"{len(without)} without {lesson.word}, such as {without[0].caption!r} of "
            f"{without[0].path}"
        )


def _apart(pictures: Sequence[Picture], lesson: Lesson):
    """What is taught, and what is kept apart for validation."""
    if not lesson.validation:
        return tuple(pictures), ()
    count = max(1, round(lesson.validation * len(pictures)))
    if count >= len(pictures):
        raise ValueError(
            "There must be pictures to teach beside those that are kept apart. "
            f"Received: validation={lesson.validation} of {len(pictures)} pictures"
        )
    order = np.random.default_rng((lesson.seed, 5)).permutation(len(pictures))
    chosen = set(order[:count].tolist())
    return (
        tuple(each for i, each in enumerate(pictures) if i not in chosen),
        tuple(each for i, each in enumerate(pictures) if i in chosen),
    )


def _fit(picture: Picture, lesson: Lesson, config):
    return fit(
        picture.size,
        lesson.resolution,
        factor(config),
        upscale=lesson.upscale,
        square=not lesson.buckets,
    )


def _class_pictures(
    model, lesson: Lesson, painted: Path, report, progress_bar: bool
) -> tuple[Picture, ...]:
    """Pictures of what shall not be forgotten, painted where there are too few."""
    prompts = lesson.class_prompt
    if not prompts and lesson.class_folder is None:
        if lesson.kind == "dreambooth":
            report(
                "Note: without a class prompt nothing keeps the model from taking the "
                "new thing for all of its kind."
            )
        return ()
    if not prompts:
        raise ValueError(
            "A class folder needs the caption of its pictures: --class-prompt, "
            f"`class_prompt`. Received: class_folder={lesson.class_folder!r}"
        )
    found: list[Picture] = []
    if lesson.class_folder is not None:
        there = read_folder(lesson.class_folder, class_prompt=prompts[0])
        found += there.pictures
        for path, reason in there.left_out:
            report(f"Left out: {path} ({reason}).")
    missing = lesson.class_count - len(found)
    if missing > 0:
        others = len(prompts) - 1
        more = f" and {others} other{'s' * (others > 1)}" * bool(others)
        report(f"Paints {missing} pictures of {prompts[0]!r}{more}.")
        painted.mkdir(parents=True, exist_ok=True)
        with Progress(missing, "picture", progress_bar) as bar:
            bar.begin()
            for i in range(missing):
                path, prompt = painted / f"{i:04d}.png", prompts[i % len(prompts)]
                if not path.exists():
                    (picture,) = model.text_to_image(
                        prompt,
                        seed=lesson.seed + i,
                        clip_skip=lesson.clip_skip,
                        progress_bar=False,
                    )
                    write_whole(path.with_suffix(".txt"), prompt, overwrite=True)
                    save_png(picture, path)
                bar.to(i + 1)
        there = read_folder(painted, class_prompt=prompts[0])
        found += there.pictures[:missing]
    return tuple(replace(each, repeats=1) for each in found)
