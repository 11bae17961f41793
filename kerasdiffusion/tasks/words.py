"""Prompts as vectors: what a model gives for a text, and words that it learns."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from kerasdiffusion.adapters.embeddings import read_embeddings
from kerasdiffusion.networks.latent_diffusion import LatentDiffusion
from kerasdiffusion.prompts import encode
from kerasdiffusion.prompts.chunks import LearnedWords
from kerasdiffusion.requests.arguments import check_prompts
from kerasdiffusion.tasks.prompting import (
    check_prompting,
    each_alone,
    encoders_of,
)
from kerasdiffusion.weights.base import WeightsError


class ReadsWords(LatentDiffusion):
    """A `LatentDiffusion` that reads texts; the base of `StableDiffusion`."""

    def encode_text(
        self,
        prompt: str | Sequence[str],
        *,
        clip_skip: int | None = None,
        prompt_weighting: str = "a1111",
    ) -> np.ndarray:
        """Context vectors of prompts, the first half of `text_to_image`.

        Args:
            prompt: A string, or a list of them, without editing and `AND`.
            clip_skip: As in `text_to_image`.
            prompt_weighting: As in `text_to_image`.

        Returns:
            float32 array of shape `(prompts, tokens, width)`, for `generate_image`.
            Prompts of more than one chunk have a multiple of the tokens. The vectors of
            two text encoders are side by side.

        Raises:
            TypeError: If a prompt is no string.
            ValueError: If an option is out of its range, or a prompt says more than
                one thing on the way.
        """
        prompts = check_prompts(prompt)
        encoders = encoders_of(self, clip_skip, prompt_weighting)
        with self._asking():
            each = each_alone(self, prompts, prompt_weighting, clip_skip)
            contexts = [context for context, _ in each]
        padded = encode.same_length(contexts, lambda: encode.empty(encoders))
        return np.concatenate(padded)

    def encode_pooled(
        self, prompt: str | Sequence[str], *, prompt_weighting: str = "a1111"
    ) -> np.ndarray:
        """Pooled text of prompts, for `generate_image` with SDXL.

        Args:
            prompt: As in `encode_text`.
            prompt_weighting: As in `text_to_image`; weights count nothing here.

        Returns:
            float32 array of shape `(prompts, width)`.

        Raises:
            ValueError: If the model takes no pooled text.
        """
        prompts = check_prompts(prompt)
        if not self.config.diffusion_model.vector_width:
            raise ValueError(
                "Pooled text is what SDXL and models of its layout take. "
                f"Received: a model of {self.config.diffusion_model}"
            )
        check_prompting(self.config, None, prompt_weighting)
        with self._asking():  # it is the last text encoder's
            each = each_alone(self, prompts, prompt_weighting, last=True)
            return np.concatenate([pooled for _, pooled in each])

    def load_embedding(
        self, path: str | os.PathLike, name: str | None = None
    ) -> list[str]:
        """Learns words from a file of textual inversion; prompts may then name them.

        Args:
            path: A file of A1111's (`.pt`, `.safetensors`) or diffusers' (`.bin`,
                `.safetensors`). One for SDXL has vectors for both text encoders; one
                that does not know the word reads it as any text.
            name: What prompts call it; by default what a diffusers file says, else the
                file's name without its ending, as in A1111.

        Returns:
            The names that prompts may use now.

        Raises:
            WeightsError: If the file holds no vectors of a text encoder's width.

        Reference:
            Gal et al. 2023, "An Image is Worth One Word: Personalizing Text-to-Image
            Generation using Textual Inversion".
        """
        found, errors = {}, []
        for config in self.config.text_encoders:
            try:
                found[config] = read_embeddings(path, config.width, name)
            except WeightsError as error:
                errors.append(error)
        if not found:
            raise errors[0]
        for config, words in found.items():
            new = LearnedWords(config.vocabulary_size)
            self._learned.setdefault(config, new).vectors.update(words)
        return list(dict.fromkeys(word for words in found.values() for word in words))

    def words_of(self, config) -> LearnedWords | None:
        """The words that prompts of the call under way may use.

        Args:
            config: Of the text encoder that reads them.

        Returns:
            Those of the model, and beside them those of bundles that this call alone
            asks for; `None` where there are none.
        """
        known, own = self._learned.get(config), {}
        for loaded in self._wanted():
            if self._adapters.get(loaded.name) is not loaded:
                for part, words in loaded.adapter.embeddings.items():
                    own |= words if getattr(self.config, part) == config else {}
        if not own:
            return known
        return LearnedWords(
            config.vocabulary_size, {**(known.vectors if known else {}), **own}
        )

    def _check_words(self, loaded) -> None:
        """The words of a bundle must be as wide as the text encoders."""
        for part, words in loaded.adapter.embeddings.items():
            config = getattr(self.config, part)
            if config is None:
                continue
            for word, vectors in words.items():
                if vectors.shape[-1] != config.width:
                    raise WeightsError(
                        f"The words of a bundle must be {config.width} wide. Received: "
                        f"{word!r} of {vectors.shape} in {loaded.adapter.path}"
                    )

    def _learn(self, loaded) -> None:
        """The words of an adapter that is a bundle."""
        self._check_words(loaded)
        for part, words in loaded.adapter.embeddings.items():
            config = getattr(self.config, part)
            if config is None:
                continue
            new = LearnedWords(config.vocabulary_size)
            self._learned.setdefault(config, new).vectors.update(words)

    def _forget_words(self, loaded) -> None:
        """Takes the words of a bundle out of the prompts' language."""
        for part, words in loaded.adapter.embeddings.items():
            config = getattr(self.config, part)
            known = self._learned.get(config)
            for word in words if known else ():
                known.vectors.pop(word, None)
            if known and not known.vectors:
                del self._learned[config]
