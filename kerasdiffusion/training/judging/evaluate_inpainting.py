"""How well a model of scenes paints one object over another."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

from kerasdiffusion.datasets import Item, Scene, SceneConfig, render
from kerasdiffusion.datasets.names import spoken_names
from kerasdiffusion.datasets.scenes import BACKGROUNDS
from kerasdiffusion.training.judging.judge import find_object, name_objects


def evaluate_inpainting(
    model,
    classifier: keras.Model,
    config: SceneConfig,
    count: int = 50,
    seed: int = 2000,
    painted: str = "dog",
    over: str = "red apple",
    batch_size: int = 10,
    report: Callable[[str], None] = print,
) -> tuple[float, float, np.ndarray]:
    """Paints one object over another's region, on grounds of all colours.

    The region is the box around the object and a margin.

    Args:
        model: A `StableDiffusion`.
        classifier: A model from `judge.train_classifier`.
        config: The scenes, which the classifier was trained on.
        count: Pictures.
        seed: Seed of the first picture.
        painted: What is asked for, as captions of these scenes call it. The prompt
            says nothing of the ground.
        over: The object that is there at first.
        batch_size: Pictures at once.
        report: Is given a line at a time.

    Returns:
        The share of pictures in which the classifier sees the new object; the share of
        the pixels outside of the regions that are the input's own; and the pictures.
    """
    prompt, painted = f"a {painted}", called(painted, config)
    size = model.img_height
    grounds = [BACKGROUNDS[i % len(BACKGROUNDS)] for i in range(count)]
    before = np.stack(
        [render(Scene(ground, (Item(over),)), size) for ground in grounds]
    )
    masks = np.stack([box_mask(picture) for picture in before])
    after = []
    for start in range(0, count, batch_size):
        part = slice(start, start + batch_size)
        after.append(
            model.inpaint(
                list(before[part]),
                list(masks[part]),
                [prompt] * len(before[part]),
                seed=seed + start,
                progress_bar=False,
            )
        )
    after = np.concatenate(after)
    scenes = [Scene(ground, (Item(painted),)) for ground in grounds]
    named = name_objects(after, scenes, config, classifier)
    seen = float(np.mean([name == (painted,) for name in named]))
    kept = float(np.mean((after == before).all(axis=-1)[~masks]))
    report(f"{count} times {prompt!r} over a {over}, seed {seed}")
    report(f"{painted} seen {seen:6.1%}  pixels outside the mask kept {kept:6.1%}")
    return seen, kept, after


def called(name: str, config: SceneConfig) -> str:
    """The object that captions of these scenes call so.

    A "dog" is the dog face where there is no other.

    Raises:
        ValueError: If no object is called so.
    """
    for each in config.objects:
        if name in spoken_names(each, "emoji", config.objects):
            return each
    raise ValueError(f"The scenes must have a {name}. Received: {config.objects}")


def box_mask(picture: np.ndarray, margin: float = 0.06) -> np.ndarray:
    """The square around an object, and a margin.

    Args:
        picture: uint8 `(size, size, 3)`, an object on a plain ground.
        margin: On each side, in parts of the picture's side.

    Returns:
        bool `(size, size)`.
    """
    size, found = len(picture), find_object(picture)
    reach = found.side / 2 + margin
    left, top, right, bottom = (
        round(min(max(edge, 0.0), 1.0) * size)
        for edge in (
            found.x - reach,
            found.y - reach,
            found.x + reach,
            found.y + reach,
        )
    )
    mask = np.zeros((size, size), bool)
    mask[top:bottom, left:right] = True
    return mask
