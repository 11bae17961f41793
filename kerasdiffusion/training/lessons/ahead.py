"""What is said ahead of the first step: what is taught, how long it takes, what of."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from kerasdiffusion.adapters.families import family_of
from kerasdiffusion.adapters.namespaces import UNET
from kerasdiffusion.compute import devices
from kerasdiffusion.training.examples.batches import FolderBatches
from kerasdiffusion.training.lessons.lesson import WITH_ADAPTER, WITH_WORDS, Lesson
from kerasdiffusion.training.lessons.runs import told_time
from kerasdiffusion.training.pace import step_seconds
from kerasdiffusion.training.room import held_bytes, step_bytes


def told(lesson: Lesson, model, base, batches: FolderBatches, trainer) -> list[str]:
    """What is said ahead of the first step."""
    own = [each for each in batches.samples if not each.picture.is_class]
    others = len(batches.samples) - len(own)
    taught = sum(math.prod(each.shape) for each in trainer.trainable_variables)
    epochs = lesson.steps * lesson.batch_size / sum(e.picture.repeats for e in own)
    sizes = Counter(each.fit.bucket for each in batches.samples)
    shown = ", ".join(f"{w}x{h} ({n})" for (h, w), n in sorted(sizes.items()))
    what = lesson.kind
    if lesson.kind in WITH_ADAPTER:
        what += f", {lesson.algorithm} of rank {lesson.rank} on {lesson.modules}"
    if lesson.kind in WITH_WORDS:
        what += f", {lesson.word} of {lesson.vectors} vectors"
    seconds, peak = _cost(lesson, model, batches, trainer)
    lines = [
        f"Teaches {base} ({family_of(model.config)}, {model.precision}): {what}; "
        f"{taught:,} numbers.",
        f"Pictures: {len(own)}{f' and {others} of the class' * bool(others)}; "
        f"sizes: {shown}.",
        f"Steps: {lesson.steps} of {lesson.batch_size} "
        f"({epochs / (2 if others else 1):.0f} times each picture); "
        f"{lesson.optimizer}, rate {lesson.learning_rate:g}, {lesson.schedule}"
        f"{', text encoders too' if lesson.text_encoders else ''}.",
        f"Time: roughly {told_time(lesson.steps * seconds)}, by how fast this machine "
        "multiplies. After the first steps it is known better; the very first makes "
        "the program of all, and takes longer.",
        f"Memory: about {peak / 2**30:.1f} GiB at most.",
    ]
    small = sum(each.fit.is_enlarged for each in own)
    if small:
        lines.append(f"Note: {small} pictures are smaller than that, and scaled up.")
    return lines


def _cost(lesson: Lesson, model, batches: FolderBatches, trainer) -> tuple[float, int]:
    """About how many seconds a step takes, and how many bytes."""
    latents, network = model.config.autoencoder, trainer.base.networks[UNET]
    height, width = max(batches.shapes, key=math.prod)
    sides = height // latents.downsampling, width // latents.downsampling
    shape = lesson.batch_size, *sides, latents.latent_channels
    remats, dtype = trainer.remats(shape), network.compute_dtype
    size = np.dtype(dtype).itemsize
    narrow = [v for v in network.variables if np.dtype(v.dtype).itemsize < size]
    memory = trainer.held(), remats, held_bytes(narrow)
    peak = step_bytes(network.config, shape, size, *memory)
    own = -(-shape[0] // devices.devices(network.variables)), *shape[1:]
    how = network.config, own, dtype, remats, trainer.teaches_weights
    return step_seconds(*how), peak
