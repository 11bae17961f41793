"""A small classifier of the scenes' objects: the judge of what a model paints."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from kerasdiffusion.datasets import SceneConfig, SceneDataset
from kerasdiffusion.training.data import Batches


def class_names(config: SceneConfig) -> list[str]:
    """What the classifier tells apart: the objects, then the shapes."""
    return [*config.objects, *config.shapes]


def build_classifier(classes: int, image_size: int, width: int = 16) -> keras.Model:
    """A plain convolutional network from pictures in [-1, 1] to logits.

    Args:
        classes: Number of classes.
        image_size: Pixels on a side, a multiple of 16.
        width: Channels of the first level; each of the four doubles them.
    """
    inputs = keras.Input((image_size, image_size, 3))
    x = inputs
    for level in range(4):
        x = layers.Conv2D(width * 2**level, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(width * 8, 3, padding="same", activation="relu")(x)
    x = layers.GlobalMaxPooling2D()(x)
    x = layers.Dropout(0.2)(x)
    return keras.Model(inputs, layers.Dense(classes)(x), name="classifier")


class LabelledBatches(Batches):
    """Rendered scenes and the number of their object, for the classifier.

    Half of the pictures are softened and all are made a little noisy, so that it judges
    the object and not the sharpness of its edges.
    """

    def __init__(self, dataset: SceneDataset, batch_size: int, **epochs):
        super().__init__(**epochs)
        self.dataset, self.batch_size = dataset, batch_size
        self.index = {name: i for i, name in enumerate(class_names(dataset.config))}

    def __getitem__(self, index):
        return self.batch(self.epoch * self.steps + index)

    def batch(self, number):
        images, _, scenes = self.dataset.batch(
            number * self.batch_size, self.batch_size
        )
        rng = np.random.default_rng(number)
        images = images.astype("float32") / 127.5 - 1.0
        half = len(images) // 2
        images[:half] = soften(images[:half])
        images += rng.normal(scale=0.05, size=images.shape).astype("float32")
        labels = [self.index[scene.items[0].name] for scene in scenes]
        return images, np.array(labels, "int32")


def soften(images: np.ndarray) -> np.ndarray:
    """Each pixel averaged with its neighbours (1, 2, 1 in both directions)."""
    for axis in (1, 2):
        before, after = np.roll(images, 1, axis), np.roll(images, -1, axis)
        images = 0.25 * before + 0.5 * images + 0.25 * after
    return images


def train_classifier(
    config: SceneConfig,
    image_size: int,
    epochs: int = 6,
    steps: int = 200,
    batch_size: int = 64,
    seed: int = 1000,
    verbose: int = 2,
) -> keras.Model:
    """A classifier of the scenes, from nothing.

    Args:
        config: The scenes.
        image_size: Pixels on a side.
        epochs: Epochs.
        steps: Steps an epoch.
        batch_size: Pictures a step.
        seed: Seed of the scenes and of the weights; not that of a model it judges.
        verbose: As in `fit()`.
    """
    keras.utils.set_random_seed(seed)
    dataset = SceneDataset(config, image_size, seed=seed, split="all")
    classifier = build_classifier(len(class_names(config)), image_size)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * steps)
    classifier.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    data = LabelledBatches(dataset, batch_size, steps=steps)
    classifier.fit(data, epochs=epochs, verbose=verbose)
    return classifier
