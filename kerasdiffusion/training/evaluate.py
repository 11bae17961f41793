"""How well a model of scenes paints what the prompt says, beside its ceilings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from kerasdiffusion.datasets import SceneConfig, SceneDataset
from kerasdiffusion.datasets.scenes import BACKGROUNDS, Item, Scene, render
from kerasdiffusion.datasets.sprites import COLORS
from kerasdiffusion.training.classifier import class_names


@dataclass(frozen=True)
class Scores:
    """Shares of pictures, from 0 to 1.

    Args:
        objects: The classifier names the object right.
        backgrounds: The border has the ground's colour.
    """

    objects: float
    backgrounds: float


def border_colors(images: np.ndarray) -> list[str]:
    """The name of the colour nearest to the median of each picture's border.

    Args:
        images: uint8 `(batch, height, width, 3)`.
    """
    border = np.concatenate(
        [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1
    )
    median = np.median(border, axis=1)
    names, values = list(COLORS), np.array(list(COLORS.values()), "float64")
    distance = np.linalg.norm(median[:, None] - values, axis=-1)
    return [names[i] for i in distance.argmin(axis=-1)]


def score(
    images: np.ndarray,
    captions: list[str],
    scenes: list,
    config: SceneConfig,
    classifier: keras.Model,
) -> Scores:
    """What the classifier and the border say of pictures.

    Args:
        images: uint8 `(batch, size, size, 3)`.
        captions: What each was painted from. The ground counts where they name it.
        scenes: What each should show.
        config: The scenes' configuration, which the classifier was trained on.
        classifier: A model from `train_classifier`.
    """
    names = class_names(config)
    logits = classifier.predict(images.astype("float32") / 127.5 - 1.0, verbose=0)
    named = [names[i] for i in logits.argmax(axis=-1)]
    right = [
        scene.items[0].name == name for scene, name in zip(scenes, named, strict=True)
    ]
    colors = zip(captions, scenes, border_colors(images), strict=True)
    grounds = [
        scene.background == color
        for caption, scene, color in colors
        if scene.background in caption
    ]
    return Scores(float(np.mean(right)), float(np.mean(grounds)))


def evaluate(
    model,
    classifier: keras.Model,
    config: SceneConfig,
    count: int = 200,
    seed: int = 2000,
    split: str = "all",
    batch_size: int = 20,
    report: Callable[[str], None] = print,
) -> tuple[dict[str, Scores], np.ndarray, list[str]]:
    """Paints captions of scenes and scores them, with two ceilings.

    Args:
        model: A `StableDiffusion`.
        classifier: A model from `train_classifier`.
        config: The scenes.
        count: Pictures.
        seed: Seed of the scenes and of the pictures.
        split: `"train"`, `"test"` or `"all"` scenes.
        batch_size: Pictures at once.
        report: Is given a line at a time.

    Returns:
        The scores of the model's pictures, of the true renders and of the renders
        through the autoencoder, by name; the pictures; and their captions.
    """
    data = SceneDataset(config, model.img_height, seed=seed, split=split)
    truth, captions, scenes = data.batch(0, count)
    painted, rebuilt = [], []
    for start in range(0, count, batch_size):
        part = slice(start, min(start + batch_size, count))
        painted.append(
            model.text_to_image(captions[part], seed=seed + start, progress_bar=False)
        )
        pixels = truth[part].astype("float32") / 127.5 - 1.0
        latents = model.image_encoder.predict_on_batch(pixels)
        pixels = model.decoder.predict_on_batch(latents)
        rebuilt.append(np.clip(np.round((pixels + 1.0) * 127.5), 0, 255))
    pictures = {
        "painted": np.concatenate(painted),
        "true renders": truth,
        "through the autoencoder": np.concatenate(rebuilt).astype("uint8"),
    }
    error = pictures["through the autoencoder"].astype("float64") - truth
    report(f"{count} scenes, split {split}, seed {seed}")
    report(f"autoencoder: {10 * np.log10(255**2 / np.mean(error**2)):.1f} dB")
    scores = {}
    for name, images in pictures.items():
        scores[name] = score(images, captions, scenes, config, classifier)
        report(
            f"{name:24s} object {scores[name].objects:6.1%}  "
            f"background {scores[name].backgrounds:6.1%}"
        )
    return scores, pictures["painted"], captions


def evaluate_inpainting(
    model,
    classifier: keras.Model,
    config: SceneConfig,
    count: int = 50,
    seed: int = 2000,
    painted: str = "dog face",
    over: str = "red apple",
    prompt: str = "a dog",
    batch_size: int = 10,
    report: Callable[[str], None] = print,
) -> tuple[float, float, np.ndarray]:
    """Paints one object over another's region, on grounds of all colours.

    The region is the box around the object and four pixels more.

    Args:
        model: A `StableDiffusion`.
        classifier: A model from `train_classifier`.
        config: The scenes, which the classifier was trained on.
        count: Pictures.
        seed: Seed of the first picture.
        painted: The class that should be seen afterwards.
        over: The object that is there at first.
        prompt: What is asked for; it says nothing of the ground.
        batch_size: Pictures at once.
        report: Is given a line at a time.

    Returns:
        The share of pictures in which the classifier sees the new object; the share of
        the pixels outside of the regions that are the input's own; and the pictures.
    """
    names, size = class_names(config), model.img_height
    grounds = [BACKGROUNDS[i % len(BACKGROUNDS)] for i in range(count)]
    before = np.stack(
        [render(Scene(ground, (Item(over),)), size) for ground in grounds]
    )
    masks = np.stack([box_mask(picture, margin=4) for picture in before])
    after = np.concatenate(
        [
            model.inpaint(
                list(before[start : start + batch_size]),
                list(masks[start : start + batch_size]),
                [prompt] * len(before[start : start + batch_size]),
                seed=seed + start,
                progress_bar=False,
            )
            for start in range(0, count, batch_size)
        ]
    )
    logits = classifier.predict(after.astype("float32") / 127.5 - 1.0, verbose=0)
    seen = float(np.mean(logits.argmax(axis=-1) == names.index(painted)))
    kept = float(np.mean((after == before).all(axis=-1)[~masks]))
    report(f"{count} times {prompt!r} over a {over}, seed {seed}")
    report(f"{painted} seen {seen:6.1%}  pixels outside the mask kept {kept:6.1%}")
    return seen, kept, after


def box_mask(picture: np.ndarray, margin: int) -> np.ndarray:
    """The box around what is not the ground's colour, and a margin.

    Args:
        picture: uint8 `(height, width, 3)`, an object on a plain ground.
        margin: Pixels on each side.

    Returns:
        bool `(height, width)`.
    """
    object_ = np.abs(picture.astype(int) - picture[0, 0]).max(axis=-1) > 24
    mask = np.zeros(object_.shape, bool)
    rows, columns = (np.flatnonzero(object_.any(axis=axis)) for axis in (1, 0))
    mask[
        max(0, rows[0] - margin) : rows[-1] + 1 + margin,
        max(0, columns[0] - margin) : columns[-1] + 1 + margin,
    ] = True
    return mask
