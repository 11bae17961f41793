"""Batches of a folder's pictures, each a function of its number alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from kerasdiffusion.training.examples.buckets import Fit, brought, shrunk
from kerasdiffusion.training.examples.captions import Captions
from kerasdiffusion.training.examples.data import Batches
from kerasdiffusion.training.examples.folders import Picture, read_pixels


class Sample(NamedTuple):
    """A picture in its bucket."""

    picture: Picture
    fit: Fit


def mirrored(sample: Sample) -> Sample:
    """The sample, left to right."""
    return sample._replace(fit=sample.fit._replace(mirrored=True))


class FolderBatches(Batches):
    """What `Finetuner.fit()` takes: latents and texts of pictures, bucket by bucket.

    An epoch shows every picture once (as often as its folder says), in an order of its
    own. A batch is of one bucket. Where a bucket's pictures do not fill its last batch,
    that is filled up with some of weight 0: nothing is left out or counted twice, and
    no program is made for another size. With class pictures, an epoch has as many of
    these as of the others, and goes through them in turn.

    Args:
        samples: The pictures in their buckets.
        latents: Gives the latents of a picture and a fit, `EncodedPictures`.
        texts: Gives what the networks are told of a text, `Tokens` or `EncodedTexts`.
        batch_size: Pictures a batch.
        captions: How captions change.
        prior_weight: The weight of class pictures in the loss, 0 or more.
        size_ids: Whether batches have SDXL's `"sizes"`.
        shrink: Pixels on a side of a latent, for masks.
        flip: Whether a sample in two is mirrored, left to right.
        seed: Seed of the order.
        **epochs: As `Batches`; `steps` is by default the batches of the first epoch.

    Raises:
        ValueError: If there are no pictures but class pictures, or a number is out of
            its range.

    Reference:
        Ruiz et al. 2023, "DreamBooth", section 3.3, for class pictures; kohya-ss
        sd-scripts `library/train_util.py`, `DreamBoothDataset`, for how they are mixed.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        latents: Callable[[Picture, Fit], np.ndarray],
        texts: Callable[[str], dict[str, np.ndarray]],
        batch_size: int = 1,
        captions: Captions | None = None,
        prior_weight: float = 1.0,
        *,
        size_ids: bool = False,
        shrink: int = 8,
        flip: bool = False,
        seed: int = 0,
        **epochs,
    ):
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be 1 or more. Received: {batch_size}")
        if not prior_weight >= 0.0:
            raise ValueError(
                f"`prior_weight` must be 0 or more. Received: {prior_weight}"
            )
        self.samples, self.latents, self.texts = list(samples), latents, texts
        self.batch_size, self.captions = batch_size, captions or Captions(seed=seed)
        self.prior_weight, self.size_ids = prior_weight, size_ids
        self.shrink, self.flip, self.seed = shrink, flip, seed
        numbers = range(len(self.samples))
        self._own = [
            i
            for i in numbers
            for _ in range(self.samples[i].picture.repeats)
            if not self.samples[i].picture.is_class
        ]
        self._class = [i for i in numbers if self.samples[i].picture.is_class]
        if not self._own:
            raise ValueError(
                "There must be pictures to teach beside class pictures. Received: "
                f"{len(self._class)} class pictures"
            )
        self._starts = [0]
        self._masked = any(each.picture.mask is not None for each in self.samples)
        self._weighted = bool(self._class) or any(
            len(each) % batch_size for each in self._buckets(self._own).values()
        )
        self._mask = functools.lru_cache(maxsize=4096)(self._read_mask)
        self._epoch = functools.lru_cache(maxsize=2)(self.epoch_of)
        super().__init__(**{"steps": len(self.epoch_of(0)), **epochs})

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The buckets that there are, in pixels."""
        return sorted({each.fit.bucket for each in self.samples})

    def batch(self, number: int) -> dict[str, np.ndarray]:
        """The batch of this number, counted over all epochs.

        Returns:
            `"latents"`, what `texts` gives, and where it is needed `"sizes"`, `"mask"`
            and `"weight"`; float32 but for tokens.
        """
        return self.of_rows(self.rows(number), number)

    def of_rows(self, rows: Sequence[int], number: int) -> dict[str, np.ndarray]:
        """The batch of these pictures, with the captions of this number."""
        samples = [self.samples[i] for i in rows]
        samples += samples[:1] * (self.batch_size - len(rows))
        first = number * self.batch_size
        samples = [self._turned(each, first + i) for i, each in enumerate(samples)]
        found = {"latents": np.stack([self.latents(*each) for each in samples])}
        told = [
            self.texts(self.captions.of(each.picture.caption, first + i))
            for i, each in enumerate(samples)
        ]
        for name in told[0]:
            found[name] = np.stack([each[name] for each in told])
        if self.size_ids:
            ids = [each.fit.size_ids for each in samples]
            found["sizes"] = np.asarray(ids, "float32")
        if self._masked:
            found["mask"] = np.stack([self._mask(each) for each in samples])
        if self._weighted:
            # The loss is a mean over all rows, which those of weight 0 must not lower.
            share = self.batch_size / len(rows)
            weight = [
                share * (self.prior_weight if each.picture.is_class else 1.0)
                for each in samples[: len(rows)]
            ]
            weight += [0.0] * (self.batch_size - len(rows))
            found["weight"] = np.asarray(weight, "float32")
        return found

    def rows(self, number: int) -> list[int]:
        """The numbers of a batch's pictures; fewer than its size where it is filled."""
        epoch = self.epoch_at(number)
        return self._epoch(epoch)[number - self._starts[epoch]]

    def epoch_at(self, number: int) -> int:
        """The epoch that a batch is of."""
        while self._starts[-1] <= number:
            last = len(self._starts) - 1
            self._starts.append(self._starts[-1] + len(self._epoch(last)))
        return int(np.searchsorted(self._starts, number, side="right")) - 1

    def epoch_of(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch, the numbers of pictures each."""
        chosen = [*self._own, *self._chosen_of_class(epoch)]
        dice = np.random.default_rng((self.seed, 3, epoch))
        batches = []
        for rows in self._buckets(chosen).values():
            order = [rows[i] for i in dice.permutation(len(rows))]
            batches += [
                order[start : start + self.batch_size]
                for start in range(0, len(order), self.batch_size)
            ]
        return self._led([batches[i] for i in dice.permutation(len(batches))])

    def _buckets(self, rows: Sequence[int]) -> dict[tuple[int, int], list[int]]:
        found: dict[tuple[int, int], list[int]] = {}
        for i in rows:
            found.setdefault(self.samples[i].fit.bucket, []).append(i)
        return dict(sorted(found.items()))

    def _chosen_of_class(self, epoch: int) -> list[int]:
        """The next of the class pictures, as many as there are others."""
        count, chosen = len(self._own), []
        if not self._class:
            return chosen
        for turn in range(epoch * count, (epoch + 1) * count):
            again, place = divmod(turn, len(self._class))
            order = _order(len(self._class), self.seed, again)
            chosen.append(self._class[order[place]])
        return chosen

    def _led(self, batches: list[list[int]]) -> list[list[int]]:
        """Two batches ahead that differ in what differs at all.

        Keras on TensorFlow takes the sides that two first batches share for all.
        """
        sizes = [self.samples[rows[0]].fit.bucket for rows in batches]
        vary = [len({size[axis] for size in sizes}) > 1 for axis in (0, 1)]
        for i, one in enumerate(sizes if any(vary) else ()):
            for j, other in enumerate(sizes):
                if all(one[a] != other[a] for a in (0, 1) if vary[a]):
                    rest = [b for k, b in enumerate(batches) if k not in (i, j)]
                    return [batches[i], batches[j], *rest]
        return batches

    def _turned(self, sample: Sample, number: int) -> Sample:
        """The sample of this number, mirrored or as it is."""
        if (
            not self.flip
            or np.random.default_rng((self.seed, 7, number)).random() < 0.5
        ):
            return sample
        return mirrored(sample)

    def _read_mask(self, sample: Sample) -> np.ndarray:
        if sample.picture.mask is None:
            height, width = sample.fit.bucket
            return np.ones((height // self.shrink, width // self.shrink, 1), "float32")
        _, mask = read_pixels(sample.picture)
        return shrunk(brought(mask, sample.fit), self.shrink)


@functools.lru_cache(maxsize=64)
def _order(count: int, seed: int, turn: int) -> list[int]:
    return np.random.default_rng((seed, 4, turn)).permutation(count).tolist()
