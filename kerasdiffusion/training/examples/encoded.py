"""Pictures and texts, encoded once: in memory, or in a folder that the next run finds.

What is kept is named by all that it depends on: the picture's bytes, how it is brought
to its bucket, the weights of the network. So nothing stale is ever taken.
"""

from __future__ import annotations

import functools
import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from kerasdiffusion.networks.fingerprint import NUMERICS, of_part
from kerasdiffusion.pictures.read import to_unit
from kerasdiffusion.prompts.chunks import in_chunks
from kerasdiffusion.storage.reading import open_regular
from kerasdiffusion.storage.whole import whole_file
from kerasdiffusion.tasks.prompting import encoders_of
from kerasdiffusion.training.examples.buckets import Fit, brought
from kerasdiffusion.training.examples.folders import Picture, read_pixels
from kerasdiffusion.weights.fingerprint import of_file


class Kept:
    """Arrays by the hash of all that they depend on.

    Args:
        folder: Where they are written, a file each; `None` keeps them in memory.

    Example:

    >>> kept = Kept()
    >>> kept.get(("a", 1), lambda: np.zeros(3)).shape
    (3,)
    """

    def __init__(self, folder: str | os.PathLike | None = None):
        self.folder = None if folder is None else Path(folder)
        self._arrays: dict[str, np.ndarray] = {}
        #: How many were made, and not found.
        self.made = 0

    def get(self, facts: Sequence, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The array of these facts, made where it is not there, or not whole.

        Args:
            facts: Texts and numbers.
            make: Makes it.
        """
        name = hashlib.sha256(repr(tuple(facts)).encode()).hexdigest()
        if name in self._arrays:
            return self._arrays[name]
        found = None if self.folder is None else _read(self.folder / f"{name}.npy")
        if found is None:
            found, self.made = np.asarray(make()), self.made + 1
            if self.folder is None:
                self._arrays[name] = found
            else:
                self.folder.mkdir(parents=True, exist_ok=True)
                with (
                    whole_file(self.folder / f"{name}.npy", overwrite=True) as part,
                    open(part, "xb") as file,
                ):
                    np.save(file, found, allow_pickle=False)
        return found


def _read(path: Path) -> np.ndarray | None:
    """What is in a file, if there is one and it is whole."""
    try:
        with open_regular(path) as file:
            array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.dtype == np.float32 and np.isfinite(array).all() else None


class EncodedPictures:
    """Latents of pictures in their buckets.

    Args:
        model: A `StableDiffusion`; with `low_memory` its image encoder is given up
            once another network is used.
        kept: Where latents are kept.
    """

    def __init__(self, model, kept: Kept):
        self.model, self.kept = model, kept
        self._network = None

    def __call__(self, picture: Picture, fit: Fit) -> np.ndarray:
        """The scaled latents of a picture, float32 `(height / 8, width / 8, 4)`."""
        if self._network is None:
            self._network = (
                NUMERICS,
                repr(self.model.config.autoencoder),
                self.model.precision,
                of_part(self.model, "image_encoder"),
            )
        facts = ("latents", of_file(picture.path), *fit, *self._network)
        return self.kept.get(facts, lambda: self._encoded(picture, fit))

    def _encoded(self, picture: Picture, fit: Fit) -> np.ndarray:
        pixels, _ = read_pixels(picture)
        latents = self.model.encode_picture(to_unit([brought(pixels, fit)]))
        return np.asarray(latents[0], "float32")


def tokens_of(model, texts: Sequence[str], chunks: int = 1) -> dict[str, np.ndarray]:
    """Texts as the text encoders of a model take them, as they stand.

    Args:
        model: A `StableDiffusion`.
        texts: Texts.
        chunks: How often what a text encoder reads at once they are long. What is
            beyond is cut, with a warning.

    Returns:
        int32 `"tokens"` of shape `(texts, chunks * length)`, and `"tokens_2"` where
        there are two text encoders.
    """
    tokenizers = {"tokens": model.tokenizer}
    if model.tokenizer_2 is not None:
        tokenizers["tokens_2"] = model.tokenizer_2
    found = {}
    for name, tokenizer in tokenizers.items():
        rows = [in_chunks(text, tokenizer, count=chunks) for text in texts]
        for text, (_, is_cut) in zip(texts, rows, strict=True):
            if is_cut:
                warnings.warn(f"longer than is read: {text[:60]!r}", stacklevel=2)
        found[name] = np.stack([tokens for tokens, _ in rows])
    return found


class Tokens:
    """Texts as tokens, for text encoders that learn and so run in each step.

    Args:
        tokenize: Gives the tokens of several texts, as `Finetuner.tokenize`.
    """

    def __init__(self, tokenize: Callable):
        self._tokenize = tokenize
        #: Texts that were longer than is read.
        self.cut: set[str] = set()

    def __call__(self, text: str) -> dict[str, np.ndarray]:
        """`"tokens"`, and `"tokens_2"` of a second text encoder: int32 `(length,)`."""
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = {name: each[0] for name, each in self._tokenize([text]).items()}
        if any("longer than" in str(each.message) for each in told):
            self.cut.add(text)
        return found


class EncodedTexts:
    """Texts as the U-Net sees them, for text encoders that do not learn.

    As trainers do it, captions are read as they stand: brackets weigh nothing.

    Args:
        model: A `StableDiffusion`.
        kept: Where they are kept.
        clip_skip: As in `text_to_image`.
        chunks: How often what the text encoder reads at once they are long; what is
            beyond is not read.
    """

    def __init__(
        self, model, kept: Kept, clip_skip: int | None = None, chunks: int = 1
    ):
        self.model, self.kept, self.clip_skip = model, kept, clip_skip
        self._tokens = Tokens(functools.partial(tokens_of, model, chunks=chunks))
        self._networks, self._encoders = None, None

    @property
    def cut(self) -> set[str]:
        """Texts that were longer than is read."""
        return self._tokens.cut

    def __call__(self, text: str) -> dict[str, np.ndarray]:
        """`"context"` `(length, width)`, and `"pooled"` `(width,)` where it is told."""
        tokens = self._tokens(text)
        config = self.model.config
        is_nothing = not text and config.generation.zero_negative
        if self._networks is None:
            parts = [part for part in config.parts if part.startswith("text_encoder")]
            networks = tuple(of_part(self.model, part) for part in parts)
            told = repr(config.text_encoders), self.model.precision, self.clip_skip
            self._networks = (NUMERICS, *told, *networks)
        facts = (*(each.tobytes() for each in tokens.values()), *self._networks)
        rows = {}
        found = self.kept.get(("context", *facts), lambda: self._run(tokens, rows)[0])
        told = {"context": found}
        if config.diffusion_model.vector_width:
            told["pooled"] = self.kept.get(
                ("pooled", *facts), lambda: self._run(tokens, rows)[1]
            )
        if is_nothing:  # as these models are told of nothing when they paint
            return {name: np.zeros_like(each) for name, each in told.items()}
        return told

    def _run(self, tokens, rows: dict) -> tuple[np.ndarray, np.ndarray | None]:
        """Context and pooled text, computed once for both."""
        if not rows:
            if self._encoders is None:
                self._encoders = encoders_of(self.model, self.clip_skip, "none")
            contexts, pooled = [], None
            for encoder, each in zip(self._encoders, tokens.values(), strict=True):
                chunks = each.reshape(-1, encoder.tokenizer.config.context_length)
                found = [encoder.run(chunk[None], None) for chunk in chunks]
                if isinstance(found[0], tuple):
                    pooled = found[0][1]  # of the first chunk
                    found = [context for context, _ in found]
                contexts.append(np.concatenate([context[0] for context in found]))
            rows["context"] = np.concatenate(contexts, axis=-1).astype("float32")
            rows["pooled"] = None if pooled is None else pooled[0].astype("float32")
        return rows["context"], rows["pooled"]
