"""The model that a `Finetuner` teaches, and what of it is taught."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kerasdiffusion.adapters.namespaces import PARTS, UNET, namespace
from kerasdiffusion.networks.quantization import check_plain
from kerasdiffusion.training.finetuning.factors import Factors, kernels
from kerasdiffusion.training.finetuning.learned import Learned, check_patterns, chosen
from kerasdiffusion.training.finetuning.words import NewWords, Words


class Base:
    """A model and its networks, out of sight of Keras, which would save them.

    Args:
        model: A `StableDiffusion`.
        reads_tokens: Whether its text encoders are needed.

    Raises:
        ValueError: If it cannot be taught.
    """

    def __init__(self, model, reads_tokens: bool = True):
        _check_model(model.config)
        self.model = model
        self.networks = {
            part: getattr(model, part)
            for part in PARTS
            if part in model.config.parts and (reads_tokens or part == UNET)
        }
        for network in self.networks.values():
            check_plain(network)
        self._empty = None

    @property
    def encoders(self) -> list[str]:
        """The text encoders."""
        return [part for part in self.networks if part != UNET]

    def tokenizer(self, part: str):
        """A text encoder's."""
        model = self.model
        return model.tokenizer_2 if part == "text_encoder_2" else model.tokenizer

    def factors(self, adapter: Learned, seed: int) -> dict[str, Factors]:
        """The factors of each network that an adapter is taught for."""
        known = namespace(self.model.config).modules
        parts = [
            part for part in self.networks if part == UNET or adapter.text_encoders
        ]
        names = {part: list(kernels(self.networks[part])) for part in parts}
        every = [name for own in names.values() for name in own]
        check_patterns(adapter.modules, every)
        found = {}
        for i, part in enumerate(parts):
            own = chosen(part, names[part], adapter.modules)
            shapes = {name: known[part][name].shapes["weight"] for name in own}
            if shapes:
                network = self.networks[part]
                found[part] = Factors(part, network, adapter, shapes, (seed, i))
        return found

    def words(self, words: Sequence[NewWords], seed: int) -> dict[str, Words]:
        """The vectors of new words, for each text encoder."""
        found = {}
        for i, part in enumerate(self.encoders):
            network = self.networks[part]
            known = self.model._learned.get(network.config)
            how = self.tokenizer(part), known, (seed, len(PARTS) + i)
            found[part] = Words(part, network, words, *how)
        return found

    def empty_tokens(self, part: str) -> np.ndarray:
        """Those of the empty prompt, of shape `(1, tokens)`."""
        return self.tokenizer(part)([""])

    def empty_context(self, clip_skip: int | None = None) -> tuple:
        """Context and pooled text of the empty prompt, computed once."""
        if self._empty is None:
            found = self.model.encode_text("", clip_skip=clip_skip), None
            if self.model.config.diffusion_model.vector_width:
                found = found[0], self.model.encode_pooled("")
            self._empty = found
        return self._empty


def key_of(part: str) -> str:
    """What a batch calls the tokens of a text encoder."""
    return "tokens_2" if part == "text_encoder_2" else "tokens"


def check_words(words) -> tuple[NewWords, ...]:
    """New words as a tuple of them.

    Raises:
        TypeError: If they are something else.
        ValueError: If one is there twice.
    """
    words = (words,) if isinstance(words, NewWords) else tuple(words or ())
    for word in words:
        if not isinstance(word, NewWords):
            raise TypeError(
                "`words` must be NewWords, or a list of them: NewWords('<my-dog>', "
                f"begin='dog'). Received: {word!r}"
            )
    names = [word.word for word in words]
    if len(set(names)) < len(names):
        raise ValueError(f"A new word is learned once. Received: {names}")
    return words


def _check_model(config) -> None:
    """Refuses models whose networks see more than is taught here."""
    network, latents = config.diffusion_model, config.autoencoder.latent_channels
    beside: Mapping[str, object] = {
        "a picture beside the latents": network.in_channels != latents,
        "a noise level": network.noise_levels,
        "a guidance scale": network.guidance_width,
        "a score of the picture": network.vector_width and config.size_ids != 6,
    }
    for what, is_there in beside.items():
        if is_there:
            raise ValueError(
                "Models are taught that see latents, a timestep and text, as Stable "
                f"Diffusion 1 and 2 and SDXL do. Received: one that sees {what}"
            )
