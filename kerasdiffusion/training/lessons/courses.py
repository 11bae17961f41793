"""A folder of pictures, taught: from the lesson to the file that is painted with."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from kerasdiffusion.compute import backend, hosts
from kerasdiffusion.compute.progress import Progress
from kerasdiffusion.tasks.stable_diffusion import StableDiffusion
from kerasdiffusion.training.examples.batches import FolderBatches, Sample, mirrored
from kerasdiffusion.training.examples.encoded import (
    EncodedPictures,
    EncodedTexts,
    Kept,
    Tokens,
)
from kerasdiffusion.training.examples.gathering import gathered
from kerasdiffusion.training.lessons import shares
from kerasdiffusion.training.lessons.ahead import told
from kerasdiffusion.training.lessons.from_lesson import (
    captions_of,
    check_word,
    make_trainer,
    optimizer_of,
)
from kerasdiffusion.training.lessons.lesson import (
    WHOLE_MODEL,
    Lesson,
)
from kerasdiffusion.training.lessons.notes import notes
from kerasdiffusion.training.lessons.runs import Run
from kerasdiffusion.training.lessons.validation import Validation
from kerasdiffusion.weights.fingerprint import of_file

#: Folders of a run.
ENCODED, CLASS = "encoded", "class"
#: How often what a text encoder reads at once captions are read where nothing is said.
MOST_CHUNKS = 3


class Taught(NamedTuple):
    """What came of it.

    Attributes:
        path: The file, or the preset's folder.
        lesson: What was taught, with nothing left open.
        prompt: One to try it with.
    """

    path: Path
    lesson: Lesson
    prompt: str


def teach(
    folder: str | os.PathLike,
    out: str | os.PathLike,
    lesson: Lesson,
    base: str | os.PathLike = "emoji",
    *,
    run: str | os.PathLike | None = None,
    encoded: str | os.PathLike | None = None,
    precision: str = "auto",
    jit_compile: bool | str = "auto",
    overwrite: bool = False,
    report: Callable[[str], None] = print,
    progress_bar: bool = True,
) -> Taught:
    """Teaches a folder of pictures; a run that was stopped goes on where it was.

    Where several processes of JAX have found each other (`compute.hosts.begin`), all of
    them call this with the same arguments and learn together; the first one writes, and
    all see its folders.

    Args:
        folder: The pictures, see `read_folder`.
        out: Where what is taught goes: a `.safetensors` file; of a whole model a folder
            too.
        lesson: What is taught, and how.
        base: The model, as `from_preset` takes it.
        run: The folder of the run; by default beside `out`, `dog-run` for
            `dog.safetensors`.
        encoded: A folder for latents and texts, which several runs may share; by
            default the run's own.
        precision: As of `StableDiffusion`.
        jit_compile: Whether the step is compiled by XLA.
        overwrite: Whether `out` may be replaced.
        report: Is given a line at a time.
        progress_bar: Whether there are bars.

    Returns:
        A `Taught`.

    Raises:
        FileExistsError: If `out` is there and `overwrite` is off: ahead of everything.
        ValueError: If nothing in the folder is fit, or the lesson is none for the
            model.
        BlockingIOError: If another run is at work in its folder.
        KeyboardInterrupt: If it was interrupted.
    """
    out = Path(out)
    run = run_folder(out) if run is None else Path(run)
    _check_out(out, lesson, overwrite)
    started = time.time()
    precision = _precision(precision, lesson)
    how = {"precision": precision, "jit_compile": jit_compile}
    number, processes = hosts.place()
    if number:  # the first one tells
        report, progress_bar = _nothing, False
    model = StableDiffusion(weights=base, low_memory=True, **how)
    check_word(model, lesson)
    kept = Kept(run / ENCODED if encoded is None else encoded)
    latents = EncodedPictures(model, kept)
    with hosts.first_ahead("pictures"):
        lesson, samples, apart = gathered(
            model, folder, lesson, run / CLASS, report, progress_bar
        )
        turned = [mirrored(each) for each in samples] if lesson.flip else []
        with Progress(len(samples + apart + turned), "picture", progress_bar) as bar:
            bar.begin()
            for i, sample in enumerate(samples + apart + turned):
                latents(*sample)
                bar.to(i + 1)
    if processes > 1:
        shares.check(lesson, hosts.spread_batches())
        latents = shares.Alone(latents)
    trainer = make_trainer(model, lesson)
    lesson, texts = _texts(trainer, lesson, samples + apart, kept)
    texts = shares.Alone(texts) if processes > 1 else texts
    in_step = lesson.reads_tokens
    options = {
        "size_ids": bool(model.config.diffusion_model.vector_width),
        "shrink": model.config.autoencoder.downsampling,
        "seed": lesson.seed,
    }
    batches = FolderBatches(
        samples,
        latents,
        texts,
        lesson.batch_size,
        captions_of(lesson),
        lesson.prior_weight,
        flip=lesson.flip,
        **options,
    )
    if processes > 1:
        batches = shares.Share(batches, number, processes)
    if not in_step and not batches.captions.changes:
        for caption in {each.picture.caption for each in samples}:
            texts(caption)
    trainer.compile(
        optimizer_of(lesson), jit_compile=backend.resolve_jit_compile(jit_compile)
    )
    validate = None
    if apart:
        steps = model.config.schedule.train_steps
        how = {"train_steps": steps, **options}
        validate = Validation(trainer, apart, latents, texts, **how)
    for line in told(lesson, model, base, batches, trainer):
        report(line)
    for text in sorted(texts.cut):
        report(f"Note: a caption is longer than is read, and cut: {text[:60]!r} ...")

    def paint():
        prompts = list(lesson.sample)
        return trainer.model.text_to_image(
            prompts, seed=lesson.seed, clip_skip=lesson.clip_skip, progress_bar=False
        )

    Run(
        run,
        trainer,
        batches,
        lesson.steps,
        made=_made(lesson, base, samples, model),
        may_change=lesson.may_change,
        save_every=lesson.save_every,
        save_minutes=lesson.save_minutes,
        paint=paint if lesson.sample else None,
        sample_every=lesson.sample_every,
        validate=validate,
        validate_every=lesson.validate_every,
        report=report,
        progress_bar=progress_bar,
        is_first=number == 0,
    ).go()
    trainer.optimizer.finalize_variable_values(trainer.trainable_variables)
    told_beside = notes(
        lesson,
        model.config,
        base,
        samples,
        title=out.stem,
        steps_per_epoch=batches.steps,
        precision=model.precision,
        started=started,
    )
    path = out
    if number == 0:
        path = trainer.save(out, metadata=told_beside, overwrite=overwrite)
    hosts.wait("the end")
    prompt = lesson.sample[0] if lesson.sample else samples[0].picture.caption
    return Taught(path, lesson, prompt)


def _nothing(line: str) -> None:
    """Tells nobody."""


def run_folder(out: Path) -> Path:
    """Where a run is whose result goes to `out`.

    Example:

    >>> print(run_folder(Path("dog.safetensors")))
    dog-run
    """
    return out.with_name(f"{out.stem or out.name}-run")


def _texts(trainer, lesson: Lesson, samples: Sequence[Sample], kept: Kept):
    """The lesson with the length of its captions, and what reads them."""
    if lesson.caption_chunks is None:
        longest = trainer.chunks_of({each.picture.caption for each in samples})
        lesson = lesson.replace(caption_chunks=min(longest, MOST_CHUNKS))
    count = lesson.caption_chunks
    if lesson.reads_tokens:
        return lesson, Tokens(functools.partial(trainer.tokenize, chunks=count))
    return lesson, EncodedTexts(trainer.base.model, kept, lesson.clip_skip, count)


def _check_out(out: Path, lesson: Lesson, overwrite: bool) -> None:
    """Refuses ahead of hours what could not be written in the end."""
    if lesson.kind in WHOLE_MODEL:
        fits = out.suffix in ("", ".safetensors")
    else:
        fits = out.suffix == ".safetensors"
    if not fits:
        raise ValueError(
            "What is taught goes to a file that ends in .safetensors, and a whole "
            f"model to that or a folder. Received: {out}"
        )
    if os.path.lexists(out) and not overwrite:
        raise FileExistsError(
            f"There is something already, which is not written over: --overwrite, "
            f"`overwrite=True`, replaces it. Received: {out}"
        )
    if not out.parent.is_dir():
        raise FileNotFoundError(f"The folder to write to must exist. Received: {out}")


def _precision(precision: str, lesson: Lesson) -> str:
    """Weights that are taught themselves have 32 bits, whatever is computed in."""
    found = backend.resolve_precision(precision)
    if precision == "auto" and lesson.kind in WHOLE_MODEL and "16" in found:
        return f"mixed_{found.removeprefix('mixed_')}"
    return precision


def _made(lesson: Lesson, base, samples: Sequence[Sample], model) -> dict:
    """What a run is made from; with another, it is another run."""
    pictures = [
        [of_file(each.picture.path), each.picture.caption, *map(list, each.fit[:2])]
        for each in samples
    ]
    return {
        "base": os.fspath(base),
        "lesson": lesson.as_json(),
        "precision": model.precision,
        "pictures": pictures,
    }
