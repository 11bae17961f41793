"""The judge of painted scenes: where the object is, and which one."""

from __future__ import annotations

from typing import NamedTuple

import keras
import numpy as np
from keras import layers
from PIL import Image

from kerasdiffusion.datasets import SceneConfig, SceneDataset
from kerasdiffusion.datasets.scenes import RELATIONS, Scene
from kerasdiffusion.training.examples.data import Batches
from kerasdiffusion.training.muon import Muon

#: Pixels on a side of what the classifier sees, and the part that an object fills.
WINDOW = 64
FILL = 0.8
#: How far a channel must be from the ground's to belong to the object.
CONTRAST = 40
WHOLE = (0.0, 0.0, 1.0, 1.0)


class Found(NamedTuple):
    """An object: its centre and its longer side, in parts of the picture's side."""

    x: float
    y: float
    side: float


def ground_color(picture: np.ndarray) -> np.ndarray:
    """The median of the border, RGB from 0 to 255."""
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    return np.median(border.astype("float64"), axis=0)


def find_object(picture: np.ndarray, region=WHOLE) -> Found | None:
    """What is not ground, in a part of a picture.

    Args:
        picture: uint8 `(size, size, 3)`.
        region: Left, top, right and bottom of the part, in parts of the side.

    Returns:
        The box around all but the outermost hundredth of it, or `None` if all is
        ground.
    """
    size = len(picture)
    left, top, right, bottom = (round(edge * size) for edge in region)
    part = picture[top:bottom, left:right].astype("float64")
    other = np.abs(part - ground_color(picture)).max(axis=-1) > CONTRAST
    if not other.any():
        return None
    (x0, x1), (y0, y1) = (_extent(other.sum(axis=axis)) for axis in (0, 1))
    side = max(x1 - x0, y1 - y0)
    return Found(
        (left + (x0 + x1) / 2) / size, (top + (y0 + y1) / 2) / size, side / size
    )


def _extent(mass: np.ndarray) -> tuple[int, int]:
    """First and last of what holds 99 parts in 100, as a half-open range."""
    share = np.cumsum(mass) / mass.sum()
    first, last = np.searchsorted(share, [0.005, 0.995])
    return int(first), int(last) + 1


def window(picture: np.ndarray, found: Found | None) -> np.ndarray:
    """The square around an object, as the classifier sees it.

    Args:
        picture: uint8 `(size, size, 3)`.
        found: Where the object is; without, the whole picture is taken.

    Returns:
        uint8 `(WINDOW, WINDOW, 3)`; beyond the picture there is more ground.
    """
    size = len(picture)
    x, y, side = found or Found(0.5, 0.5, FILL)
    side = max(side, 4 / size) * size / FILL
    ground = tuple(int(channel) for channel in ground_color(picture))
    canvas = Image.new("RGB", (3 * size, 3 * size), ground)
    canvas.paste(Image.fromarray(picture), (size, size))
    left, top = size + x * size - side / 2, size + y * size - side / 2
    box = (max(left, 0), max(top, 0), left + side, top + side)
    box = tuple(min(edge, 3 * size) for edge in box)
    resized = canvas.resize((WINDOW, WINDOW), Image.Resampling.BICUBIC, box=box)
    return np.asarray(resized)


def regions(scene: Scene) -> list[tuple[float, float, float, float]]:
    """The part of the picture in which each of a scene's kinds of object stands."""
    if scene.count > 1:  # the first of them
        (_, x, y, _), *_ = scene.layout()
        return [(x - 0.23, y - 0.23, x + 0.23, y + 0.23)]
    if scene.relation is None:
        return [WHOLE]
    right, down = RELATIONS[scene.relation]
    halves = [(0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)]
    if down:
        halves = [(0.0, 0.0, 1.0, 0.5), (0.0, 0.5, 1.0, 1.0)]
    return halves if right + down < 0 else halves[::-1]


def class_names(config: SceneConfig) -> list[str]:
    """What the classifier tells apart: the objects, then the shapes."""
    return [*config.objects, *config.shapes]


def build_classifier(classes: int, width: int = 16) -> keras.Model:
    """A small residual network from windows in [-1, 1] to logits.

    Args:
        classes: Number of classes.
        width: Channels of the first level; each of the three next doubles them.

    Reference:
        He et al. 2016, "Identity Mappings in Deep Residual Networks".
    """
    inputs = keras.Input((WINDOW, WINDOW, 3))
    x = layers.Conv2D(width, 4, strides=2, padding="same", name="stem")(inputs)
    for level in range(4):
        if level:
            x = layers.Conv2D(width * 2**level, 2, strides=2)(x)
        h = x
        for _ in range(2):
            h = layers.Activation("relu")(layers.BatchNormalization()(h))
            h = layers.Conv2D(width * 2**level, 3, padding="same", use_bias=False)(h)
        x = layers.Add()([x, h])
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.Dropout(0.2)(layers.Flatten()(x))
    logits = layers.Dense(classes, name="logits")(x)
    return keras.Model(inputs, logits, name="classifier")


class WindowBatches(Batches):
    """Windows of rendered scenes, and the number of their object.

    They are moved and scaled a little, half of them softened, and all a little noisy:
    the classifier shall judge the object, not its place or the sharpness of its edges.
    """

    def __init__(self, dataset: SceneDataset, batch_size: int, **epochs):
        super().__init__(**epochs)
        self.dataset, self.batch_size = dataset, batch_size
        self.index = {name: i for i, name in enumerate(class_names(dataset.config))}

    def __getitem__(self, index):
        return self.batch(self.epoch * self.steps + index)

    def batch(self, number):
        rng = np.random.default_rng(number)
        images, _, scenes = self.dataset.batch(
            number * self.batch_size, self.batch_size
        )
        windows, labels = [], []
        for image, scene in zip(images, scenes, strict=True):
            turn = rng.integers(len(scene.items))
            found = find_object(image, regions(scene)[turn])
            if found is not None:
                dx, dy = rng.uniform(-0.05, 0.05, 2) * found.side
                side = found.side * rng.uniform(0.92, 1.08)
                found = Found(found.x + dx, found.y + dy, side)
            windows.append(window(image, found))
            labels.append(self.index[scene.items[turn].name])
        windows = to_unit(windows)
        half = len(windows) // 2
        windows[:half] = soften(windows[:half])
        windows += rng.normal(scale=0.05, size=windows.shape).astype("float32")
        return windows, np.array(labels, "int32")


def to_unit(windows) -> np.ndarray:
    """uint8 pictures as float32 in [-1, 1]."""
    return np.asarray(windows, "float32") / 127.5 - 1.0


def soften(images: np.ndarray) -> np.ndarray:
    """Each pixel averaged with its neighbours (1, 2, 1 in both directions)."""
    for axis in (1, 2):
        before, after = np.roll(images, 1, axis), np.roll(images, -1, axis)
        images = 0.25 * before + 0.5 * images + 0.25 * after
    return images


def train_classifier(
    config: SceneConfig,
    image_size: int,
    epochs: int | None = None,
    steps: int = 200,
    batch_size: int = 64,
    width: int = 16,
    seed: int = 1000,
    verbose: int = 2,
) -> keras.Model:
    """A classifier of the scenes' objects, from nothing.

    Args:
        config: The scenes.
        image_size: Pixels on a side of the pictures that it will judge.
        epochs: Epochs; by default one for each 150 classes, and five at least.
        steps: Steps an epoch.
        batch_size: Pictures a step.
        width: See `build_classifier`.
        seed: Seed of the scenes and of the weights; not that of a model it judges.
        verbose: As in `fit()`.
    """
    keras.utils.set_random_seed(seed)
    dataset = SceneDataset(config, image_size, seed=seed, split="all")
    classes = len(class_names(config))
    epochs = max(5, classes // 150) if epochs is None else epochs
    classifier = build_classifier(classes, width)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * steps)
    classifier.compile(
        Muon(rate, exclude_layers=["stem", "logits"]),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    data = WindowBatches(dataset, batch_size, steps=steps)
    classifier.fit(data, epochs=epochs, verbose=verbose, shuffle=False)
    return classifier


def object_logits(
    images: np.ndarray, scenes: list[Scene], classifier: keras.Model
) -> list[np.ndarray]:
    """What the classifier says of the objects of pictures.

    Args:
        images: uint8 `(batch, size, size, 3)`.
        scenes: What each should show: says in which parts to look.
        classifier: A model from `train_classifier`.

    Returns:
        For each picture the logits of its objects, `(objects, classes)`, in the order
        of the scene.
    """
    parts = [regions(scene) for scene in scenes]
    windows = [
        window(image, find_object(image, part))
        for image, each in zip(images, parts, strict=True)
        for part in each
    ]
    logits = classifier.predict(to_unit(windows), batch_size=64, verbose=0)
    return np.split(logits, np.cumsum([len(each) for each in parts])[:-1])


def name_objects(
    images: np.ndarray,
    scenes: list[Scene],
    config: SceneConfig,
    classifier: keras.Model,
) -> list[tuple[str, ...]]:
    """What the classifier calls the objects of pictures, in their scenes' order.

    The arguments are those of `object_logits`; `config` are the scenes that the
    classifier was trained on.
    """
    names = class_names(config)
    return [
        tuple(names[i] for i in logits.argmax(axis=-1))
        for logits in object_logits(images, scenes, classifier)
    ]
