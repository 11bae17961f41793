"""From prompts to what the U-Net is told."""

from __future__ import annotations

import os
from collections.abc import Sequence

import keras
import numpy as np

from kerasdiffusion.adapters.embeddings import read_embeddings
from kerasdiffusion.adapters.sources import by_name, folder
from kerasdiffusion.adapters.tags import tag_weights
from kerasdiffusion.compute import backend
from kerasdiffusion.networks.latent_diffusion import LatentDiffusion
from kerasdiffusion.prompts import encode
from kerasdiffusion.prompts.branches import Branches, make_branches, one_text
from kerasdiffusion.prompts.chunks import LearnedWords
from kerasdiffusion.prompts.tags import (
    take_remarks,
    take_tags,
    warn_of_remarks,
    warn_of_tags,
)
from kerasdiffusion.requests.arguments import (
    check_clip_skip,
    check_negatives,
    check_prompt_weighting,
    check_prompts,
    check_second,
)
from kerasdiffusion.requests.options import Options
from kerasdiffusion.sampling.table import COLUMNS
from kerasdiffusion.tasks.conditioning import told_beside
from kerasdiffusion.weights.base import WeightsError


class Prompting(LatentDiffusion):
    """A `LatentDiffusion` that reads prompts; the base of `StableDiffusion`."""

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
            clip_skip: As in `Options`.
            prompt_weighting: As in `Options`.

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
        encoders = self._encoders(clip_skip, prompt_weighting)
        with self._asking():
            contexts = [
                context
                for context, _ in self._each(prompts, encoders, prompt_weighting)
            ]
        padded = encode.same_length(contexts, lambda: encode.empty(encoders))
        return np.concatenate(padded)

    def encode_pooled(
        self, prompt: str | Sequence[str], *, prompt_weighting: str = "a1111"
    ) -> np.ndarray:
        """Pooled text of prompts, for `generate_image` with SDXL.

        Args:
            prompt: As in `encode_text`.
            prompt_weighting: As in `Options`; weights count nothing here.

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
        # It is the last text encoder's.
        encoders = self._encoders(None, prompt_weighting)[-1:]
        with self._asking():
            each = self._each(prompts, encoders, prompt_weighting)
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

    def _learn(self, loaded) -> None:
        """The words of an adapter that is a bundle."""
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

    def _check_prompting(self, clip_skip, weighting) -> None:
        """Before anything is built."""
        check_prompt_weighting(weighting)
        depth = min(config.depth for config in self.config.text_encoders)
        check_clip_skip(clip_skip, depth)

    def _encoders(self, clip_skip, weighting) -> list[encode.Encoder]:
        """The text encoders as prompts see them, checked before they are built."""
        self._check_prompting(clip_skip, weighting)
        configs = self.config.text_encoders
        names = ("encode", "encode_2")[: len(configs)]
        tokenizers = (self.tokenizer, self.tokenizer_2)[: len(configs)]
        return [
            self._encoder(program, tokenizer, config, clip_skip, weighting)
            for program, tokenizer, config in zip(
                names, tokenizers, configs, strict=True
            )
        ]

    def _encoder(self, name, tokenizer, config, clip_skip, weighting):
        how, learned = {}, self._learned.get(config)
        if clip_skip is not None:
            how["layers"] = np.int32(config.depth + 1 - clip_skip)
        if learned is not None:
            how["vectors"] = learned.table()

        def run(tokens, seen):
            more = {} if seen is None else {"seen": seen}
            outputs = self.program(name)(tokens, {**how, **more})
            outputs = keras.tree.map_structure(backend.to_numpy, outputs)
            return tuple(outputs) if config.projection_width else outputs

        return encode.Encoder(tokenizer, run, weighting, learned)

    def _texts(self, prompts, second, name) -> list:
        """Prompts, beside those of a second text encoder where there are such."""
        if second is None:
            return prompts
        if self.config.text_encoder_2 is None:
            raise ValueError(
                "The model has one text encoder and takes no second prompt. "
                f"Received: {name}={second!r}"
            )
        return check_second(second, prompts, name)

    def _negatives(self, negative_prompt, count: int, options: Options) -> list:
        """The negative prompt of each prompt; `None` for vectors of zeros."""
        second = options.negative_prompt_2
        none = negative_prompt is None and second is None
        if none and self.config.generation.zero_negative:
            return [None] * count
        negatives = check_negatives(negative_prompt, count, self.config.text_width)
        negatives = negatives * (count // len(negatives))
        self._need_pooled(negatives, "negative_prompt")
        return self._texts(negatives, second, "negative_prompt_2")

    def _need_pooled(self, prompts, name) -> None:
        """A context alone is not all that SDXL is told."""
        if self.config.diffusion_model.vector_width and not all(
            isinstance(prompt, str) for prompt in prompts
        ):
            raise ValueError(
                f"The model takes pooled text beside a context: `{name}` must be text; "
                "`generate_image` takes both. Received: a context"
            )

    def _branches(self, prompts, negatives, run, guided=None):
        """What `denoiser` takes for prompts, and the run whose rows choose from it.

        Args:
            prompts: One for each picture, see `prompts.branches.Prompt`.
            negatives: As many, or as many as divide them.
            run: The `Run`.
            guided: Whether there is a branch of the negatives; by default if the
                guidance scale asks for it.
        """
        if guided is None:
            guided = run.guidance_scale != 1.0 and not self._is_told_guidance
        table, options = run.table, run.options

        def read():
            return self._read(prompts, negatives, run, guided)

        if run.between is None:
            found = read()
        else:
            reader = self, len(table), run.before is None
            found = run.between.texts(reader, read)
        size = self.img_height, self.img_width
        told = told_beside(self.config, options, size, found, run.guidance_scale)
        branches = [
            {"crossattn": context, **beside}
            for context, beside in zip(found.contexts, told, strict=True)
        ]
        table = table.with_column(COLUMNS.variant, found.variants)
        return branches, found.shares, run._replace(table=table)

    def _read(self, prompts, negatives, run, guided: bool) -> Branches:
        """The branches of prompts, encoded."""
        table, options = run.table, run.options
        encoders = self._encoders(options.clip_skip, options.prompt_weighting)
        literal = options.prompt_weighting == "none"
        if not literal:
            warn_of_remarks([*prompts, *negatives])
            prompts, negatives = self._without_tags(prompts), take_remarks(negatives)

        def encode_all(texts):
            rows = [x if isinstance(x, tuple) else (x,) * len(encoders) for x in texts]
            return encode.encode(encoders, list(zip(*rows, strict=True)))

        return make_branches(
            prompts,
            [each for each in negatives for _ in range(len(prompts) // len(negatives))],
            guided,
            table.steps,
            table.num_steps,
            encode_all,
            lambda: encode.empty(encoders),
            literal=literal,
            calls_before=0 if run.before is None else len(run.before),
        )

    def _without_tags(self, prompts: Sequence) -> list:
        """Prompts without tags and remarks; those of adapters are followed.

        Reference:
            AUTOMATIC1111/stable-diffusion-webui 1.10, `extensions-builtin/Lora/
            extra_networks_lora.py`: the first number is the text encoders'.
        """
        texts, tags = take_tags(prompts)
        found = [tag for each in tags for tag in each]
        known = [tag for tag in found if tag.kind in ("lora", "lyco")]
        if not known or not (
            folder() or all(tag.name in self._adapters for tag in known)
        ):
            warn_of_tags(found)
            return texts
        if len({tuple(sorted(each)) for each in tags}) > 1:
            raise ValueError(
                "Prompts that are painted together must ask for the same adapters: "
                "weights are a model's. Received: "
                f"{', '.join(dict.fromkeys(map(str, known)))}"
            )
        warn_of_tags(tag for tag in tags[0] if tag.kind not in ("lora", "lyco"))
        for tag in tags[0]:
            if tag.kind in ("lora", "lyco"):
                text, unet = tag_weights(tag)
                self._ask(tag.name, unet, text, by_name)
        return texts

    @property
    def _is_told_guidance(self) -> bool:
        """Whether the U-Net itself takes the guidance scale."""
        return self.config.diffusion_model.guidance_width > 0

    def _each(self, prompts, encoders, weighting):
        """Context and pooled text of each prompt alone."""
        if weighting != "none":
            warn_of_remarks(prompts)
            prompts = [one_text(prompt) for prompt in self._without_tags(prompts)]
        for prompt in prompts:
            yield encode.encode(encoders, [[prompt]] * len(encoders))
