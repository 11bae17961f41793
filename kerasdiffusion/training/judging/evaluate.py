"""How well a model of scenes paints what the prompt says, beside its ceilings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from kerasdiffusion.datasets import SceneConfig, SceneDataset
from kerasdiffusion.datasets.scenes import Scene
from kerasdiffusion.datasets.sprites import COLORS
from kerasdiffusion.pictures import write
from kerasdiffusion.training.judging.judge import (
    find_object,
    ground_color,
    name_objects,
)


@dataclass(frozen=True)
class Scores:
    """Shares of pictures, from 0 to 1.

    Args:
        objects: Every object is named right, in its place where there are two.
        grounds: The border has the ground's colour, where the caption names it.
        places: A single object is nearest to the place that it should be at.
        all: All of that at once.
    """

    objects: float
    grounds: float
    places: float
    all: float


def grounds_of(images: np.ndarray) -> list[str]:
    """The name of the colour nearest to the median of each picture's border.

    Args:
        images: uint8 `(batch, height, width, 3)`.
    """
    names, values = list(COLORS), np.array(list(COLORS.values()), "float64")
    colors = np.array([ground_color(image) for image in images])
    distance = np.linalg.norm(colors[:, None] - values, axis=-1)
    return [names[i] for i in distance.argmin(axis=-1)]


def place_of(image: np.ndarray, scene: Scene, places: Sequence[str]) -> str | None:
    """Where a picture's object is, among the places that its scene could have had.

    Args:
        image: uint8 `(size, size, 3)`.
        scene: A scene of one object, whose size says how far aside places are.
        places: Some of `PLACES`.
    """
    found = find_object(image)
    if found is None:
        return None

    def distance(place: str) -> float:
        item = dataclasses.replace(scene.items[0], place=place)
        ((_, x, y, _),) = dataclasses.replace(scene, items=(item,)).layout()
        return np.hypot(x - found.x, y - found.y)

    return min(places, key=distance)


def score(
    images: np.ndarray,
    captions: list[str],
    scenes: list[Scene],
    config: SceneConfig,
    classifier: keras.Model,
) -> Scores:
    """What the classifier, the borders and the boxes around objects say of pictures.

    Args:
        images: uint8 `(batch, size, size, 3)`.
        captions: What each was painted from. The ground counts where they name it.
        scenes: What each should show.
        config: The scenes' configuration, which the classifier was trained on.
        classifier: A model from `judge.train_classifier`.
    """
    return scores_of(answers(images, captions, scenes, config, classifier))


def scores_of(answers: Sequence[Sequence[bool | None]]) -> Scores:
    """Shares of pictures of what was said of each.

    Args:
        answers: As `answers` gives them.
    """
    objects, grounds, places = answers
    together = [
        all(part is not False for part in parts)
        for parts in zip(objects, grounds, places, strict=True)
    ]
    return Scores(*map(_share, (objects, grounds, places, together)))


def answers(
    images: np.ndarray,
    captions: list[str],
    scenes: list[Scene],
    config: SceneConfig,
    classifier: keras.Model,
) -> tuple[list, list, list]:
    """Of each picture whether objects, ground and place are right.

    Args:
        images: As of `score`, as all others.

    Returns:
        Three lists of `True`, `False`, or `None` where a picture is not asked.
    """
    named = name_objects(images, scenes, config, classifier)
    objects = [
        names == tuple(item.name for item in scene.items)
        for names, scene in zip(named, scenes, strict=True)
    ]
    grounds = [
        scene.background == color if scene.background in _words(caption) else None
        for caption, scene, color in zip(
            captions, scenes, grounds_of(images), strict=True
        )
    ]
    places = [
        place_of(image, scene, config.places) == scene.items[0].place
        if scene.relation is None and scene.count == 1
        else None
        for image, scene in zip(images, scenes, strict=True)
    ]
    return objects, grounds, places


def _words(caption: str) -> str:
    return caption.replace("gray", "grey").replace("violet", "purple")


def _share(answers: list[bool | None]) -> float:
    """The share of what is true in what can be said."""
    answers = [answer for answer in answers if answer is not None]
    return float(np.mean(answers)) if answers else float("nan")


@dataclass(frozen=True)
class Judged:
    """Pictures of a set of scenes, of the model and beside it, and their scores.

    Args:
        name: What the set is called.
        captions: What the pictures were painted from.
        pictures: uint8 `(count, size, size, 3)`, by whose they are: `"painted"`,
            `"true renders"`, `"through the autoencoder"` and `"looked up"`.
        scores: `Scores` of each.
        decibels: The autoencoder's peak signal-to-noise ratio.
    """

    name: str
    captions: list[str]
    pictures: dict[str, np.ndarray]
    scores: dict[str, Scores]
    decibels: float


def scene_sets(config: SceneConfig) -> dict[str, tuple[SceneConfig, str]]:
    """The sets that a model is judged on: their scenes and their split."""
    single = dataclasses.replace(config, relations=0.0, counts=0.0)
    sets = {"seen": (single, "train"), "held out": (single, "test")}
    if config.relations:
        pairs = dataclasses.replace(config, relations=1.0, styles=())
        sets["held-out pairs"] = (pairs, "test")
    return sets


def evaluate(
    model,
    classifier: keras.Model,
    config: SceneConfig,
    count: int = 200,
    seed: int = 2000,
    memory: int = 20_000,
    batch_size: int = 20,
    report: Callable[[str], None] = print,
) -> list[Judged]:
    """Paints captions of scenes and scores the pictures, beside ceilings and a floor.

    The ceilings are the true renders and these through the model's autoencoder. The
    floor is what a model would give that had learnt nothing but training pictures by
    heart: of `memory` training scenes the one that agrees in most with what is asked.

    Args:
        model: A `StableDiffusion`.
        classifier: A model from `judge.train_classifier`.
        config: The scenes.
        count: Pictures of each set.
        seed: Seed of the scenes and of the pictures.
        memory: Training scenes to look up.
        batch_size: Pictures at once.
        report: Is given a line at a time.

    Returns:
        What was judged, a `Judged` for each of `scene_sets`.
    """
    results = []
    for name, (scenes_config, split) in scene_sets(config).items():
        data = SceneDataset(scenes_config, model.img_height, seed=seed, split=split)
        truth, captions, scenes = data.batch(0, count)
        pictures = {
            "painted": _painted(model, captions, seed, batch_size),
            "through the autoencoder": _rebuilt(model, truth, batch_size),
            "true renders": truth,
            "looked up": look_up(scenes, scenes_config, model.img_height, memory),
        }
        error = pictures["through the autoencoder"].astype("float64") - truth
        decibels = float(10 * np.log10(255**2 / np.mean(error**2)))
        scores = {
            whose: score(each, captions, scenes, scenes_config, classifier)
            for whose, each in pictures.items()
        }
        results.append(Judged(name, captions, pictures, scores, decibels))
        for line in table(results[-1:], header=len(results) == 1):
            report(line)
    return results


def table(results: Sequence[Judged], header: bool = True) -> list[str]:
    """Lines of a Markdown table."""
    lines = []
    if header:
        lines = [
            "| scenes | pictures | object | ground | place | all |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
    for judged in results:
        for whose, scores in judged.scores.items():
            if whose == "through the autoencoder":
                whose = f"{whose} ({judged.decibels:.1f} dB)"
            shares = " | ".join(
                "" if np.isnan(share) else f"{share:.1%}"
                for share in dataclasses.astuple(scores)
            )
            name = f"{judged.name}, {len(judged.captions)}"
            lines.append(f"| {name} | {whose} | {shares} |")
    return lines


def contact_sheet(results: Sequence[Judged], columns: int = 4, rows: int = 8):
    """Pictures side by side: true, through the autoencoder, and painted.

    Args:
        results: From `evaluate`.
        columns: Triples in a row.
        rows: Rows of each set.

    Returns:
        uint8 `(height, width, 3)`, the sets one below the other.
    """
    order = ("true renders", "through the autoencoder", "painted")
    sheets = []
    for judged in results:
        triples = np.stack([judged.pictures[whose] for whose in order], axis=1)
        triples = triples[: columns * rows]
        triples = triples[: len(triples) // columns * columns]
        sheets.append(write.grid(triples.reshape(-1, *triples.shape[2:]), 3 * columns))
    return np.concatenate(sheets)


def look_up(
    scenes: list[Scene], config: SceneConfig, image_size: int, memory: int
) -> np.ndarray:
    """For each scene the training picture that agrees with it in most.

    Args:
        scenes: What is asked for.
        config: The scenes that training drew from.
        image_size: Pixels on a side.
        memory: Training scenes that are remembered.
    """
    data = SceneDataset(config, image_size, split="train")
    known, by_name = [data.scene(i) for i in range(memory)], {}
    for i, scene in enumerate(known):
        for item in scene.items:
            by_name.setdefault(item.name, []).append(i)
    pictures = []
    for scene in scenes:
        candidates = by_name.get(scene.items[0].name, [0])
        best = max(candidates, key=lambda i: len(_facts(known[i]) & _facts(scene)))
        pictures.append(data.sample(best)[0])
    return np.stack(pictures)


def _facts(scene: Scene) -> set:
    """What can be said of a scene; pairs weigh as much as their parts."""
    facts = {scene.background, scene.style, scene.relation, ("count", scene.count)}
    for position, item in enumerate(scene.items):
        facts |= {(position, part) for part in dataclasses.astuple(item)}
    return facts


def _painted(model, captions, seed, batch_size) -> np.ndarray:
    return np.concatenate(
        [
            model.text_to_image(
                captions[start : start + batch_size],
                seed=seed + start,
                progress_bar=False,
            )
            for start in range(0, len(captions), batch_size)
        ]
    )


def _rebuilt(model, truth, batch_size) -> np.ndarray:
    rebuilt = []
    for start in range(0, len(truth), batch_size):
        pixels = truth[start : start + batch_size].astype("float32") / 127.5 - 1.0
        pixels = model.decoder.predict_on_batch(
            model.image_encoder.predict_on_batch(pixels)
        )
        rebuilt.append(np.clip(np.round((pixels + 1.0) * 127.5), 0, 255))
    return np.concatenate(rebuilt).astype("uint8")
