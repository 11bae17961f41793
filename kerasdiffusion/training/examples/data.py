"""Batches for `fit()`: pictures as they are rendered, latents from a cache."""

from __future__ import annotations

import keras
import numpy as np


class Batches(keras.utils.PyDataset):
    """Batches that depend on their number alone, epoch by epoch.

    Args:
        steps: Batches an epoch.
        first_epoch: Epoch to begin with, for a run that is resumed.
    """

    def __init__(self, steps: int = 1, first_epoch: int = 0):
        super().__init__(workers=1, use_multiprocessing=False)
        self.steps, self.epoch = steps, first_epoch

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        return (self.batch(self.epoch * self.steps + index),)

    def on_epoch_end(self):
        self.epoch += 1

    def batch(self, number: int):
        """The batch of this number, counted over all epochs."""
        raise NotImplementedError


class PictureBatches(Batches):
    """Pictures of a data set in order, as float32 in [-1, 1].

    Args:
        dataset: Has `batch(start, count) -> (images, captions, ...)`.
        batch_size: Pictures a batch.
        crop: Side of a random crop of each batch; `None` for whole pictures.
    """

    def __init__(self, dataset, batch_size: int, crop: int | None = None, **epochs):
        super().__init__(**epochs)
        self.dataset, self.batch_size, self.crop = dataset, batch_size, crop

    def batch(self, number):
        images = self.dataset.batch(number * self.batch_size, self.batch_size)[0]
        if self.crop is not None:
            room = np.subtract(images.shape[1:3], self.crop) + 1
            top, left = np.random.default_rng(number).integers(room)
            images = images[:, top : top + self.crop, left : left + self.crop]
        return images.astype("float32") / 127.5 - 1.0


class LatentBatches(Batches):
    """Cached latents and tokens, shuffled anew in every pass over them.

    Args:
        latents: Scaled latents, `(samples, height, width, channels)`.
        tokens: Their captions' tokens, `(samples, context_length)`.
        batch_size: Samples a batch.
        seed: Seed of the order.
    """

    def __init__(self, latents, tokens, batch_size: int, seed: int = 0, **epochs):
        super().__init__(**epochs)
        self.latents, self.tokens = latents, tokens
        self.batch_size, self.seed = batch_size, seed
        self._pass, self._order = -1, None

    def batch(self, number):
        in_pass = len(self.latents) // self.batch_size
        if number // in_pass != self._pass:
            self._pass = number // in_pass
            rng = np.random.default_rng((self.seed, self._pass))
            self._order = rng.permutation(len(self.latents))
        start = number % in_pass * self.batch_size
        rows = np.sort(self._order[start : start + self.batch_size])
        return {
            "latents": self.latents[rows].astype("float32"),
            "tokens": self.tokens[rows],
        }


def encode_dataset(image_encoder, tokenizer, dataset, count: int, batch_size=64):
    """Latents and tokens of a data set's first samples.

    Args:
        image_encoder: An `ImageEncoder`; its scale factor is applied.
        tokenizer: A `Tokenizer`.
        dataset: Has `batch(start, count) -> (images, captions, ...)`.
        count: How many samples.
        batch_size: Pictures a call of the encoder.

    Returns:
        float16 latents `(count, height, width, channels)` and int32 tokens
        `(count, context_length)`.
    """
    latents, tokens = [], []
    for start in range(0, count, batch_size):
        images, captions = dataset.batch(start, min(batch_size, count - start))[:2]
        images = images.astype("float32") / 127.5 - 1.0
        latents.append(image_encoder.predict_on_batch(images).astype("float16"))
        tokens.append(tokenizer(captions))
    return np.concatenate(latents), np.concatenate(tokens)
