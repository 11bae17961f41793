"""Whether weights in prompts do what they say: two objects, one painted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np

from kerasdiffusion.datasets import SceneConfig, SceneDataset
from kerasdiffusion.training.judging.judge import class_names, object_logits

WEIGHTS = (0.5, 0.75, 1.0, 1.25, 1.5)
#: Captions of two objects say how they stand: of this one, a model has to choose.
PROMPT = "a ({first}:{weight}) and a ({second}:{rest}) on a {ground} background"


def evaluate_weights(
    model,
    classifier: keras.Model,
    config: SceneConfig,
    weights: Sequence[float] = WEIGHTS,
    count: int = 20,
    seed: int = 2000,
    num_steps: int = 10,
    weighting: str = "a1111",
    report: Callable[[str], None] = print,
) -> dict[float, tuple[float, float]]:
    """Paints prompts of two objects, of which one has a weight and one 2 less it.

    Args:
        model: A `StableDiffusion` of scenes.
        classifier: A model from `train_classifier`.
        config: The scenes.
        weights: Of the first object.
        count: Pictures of each weight: the same objects and seeds.
        seed: Seed of the scenes and of the first picture.
        num_steps: Denoising steps.
        weighting: `prompt_weighting` of a `Request`.
        report: Is given a line at a time.

    Returns:
        By weight, the share of pictures in which the classifier finds the first object
        likelier than the second, and the mean logarithm of how much likelier.
    """
    config = dataclasses.replace(config, relations=0.0, counts=0.0, styles=())
    data = SceneDataset(config, model.img_height, seed=seed, split="all")
    _, _, scenes = data.batch(0, count)
    first = [scene.items[0].name for scene in scenes]
    pairs = list(zip(first, first[1:] + first[:1], strict=True))
    names = class_names(config)
    places = np.array([[names.index(name) for name in pair] for pair in pairs])
    # A scene and the next may have one object: there is nothing to choose then.
    differ = places[:, 0] != places[:, 1]
    found = {}
    report(f"{differ.sum()} pairs of objects, seed {seed}, weights as {weighting}")
    for weight in weights:
        prompts = [
            PROMPT.format(
                first=pair[0],
                second=pair[1],
                weight=weight,
                rest=2.0 - weight,
                ground=scene.background,
            )
            for pair, scene in zip(pairs, scenes, strict=True)
        ]
        pictures = model.text_to_image(
            prompts,
            seed=seed,
            num_steps=num_steps,
            prompt_weighting=weighting,
            progress_bar=False,
        )
        logits = np.concatenate(object_logits(pictures, scenes, classifier))
        one, other = np.take_along_axis(logits, places, axis=1)[differ].T
        found[weight] = float(np.mean(one > other)), float(np.mean(one - other))
        report(
            f"weight {weight:4.2f}  first object likelier {found[weight][0]:4.0%}, "
            f"by e^{found[weight][1]:.1f}"
        )
    return found
