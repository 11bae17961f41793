"""Finetuner: a Stable Diffusion that learns from your own pictures by `fit()`."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
from keras import ops

from kerasdiffusion.adapters.adapter import Adapter
from kerasdiffusion.adapters.namespaces import UNET
from kerasdiffusion.compute import backend
from kerasdiffusion.compute.changed import Changed
from kerasdiffusion.compute.devices import shared
from kerasdiffusion.compute.remat import blocks
from kerasdiffusion.models.embeddings import waves_of
from kerasdiffusion.training import optimizing
from kerasdiffusion.training.finetuning import teaching
from kerasdiffusion.training.finetuning.base import Base, check_words, key_of
from kerasdiffusion.training.finetuning.learned import Learned
from kerasdiffusion.training.finetuning.words import NewWords
from kerasdiffusion.training.noising import Noising
from kerasdiffusion.training.objective import Objective
from kerasdiffusion.training.room import needs_remat
from kerasdiffusion.training.trainer import Trainer


class Finetuner(Trainer):
    """A Stable Diffusion that is taught: an adapter, new words, or its own weights.

    It is a Keras model: `compile` takes any optimizer, `fit` any callback, and custom
    loops call it, for the loss of each picture, and take its `trainable_variables`.
    What is taught is all that it saves as its weights.

    `fit()` takes dicts of arrays, without `y`. `"latents"` are scaled, of shape
    `(batch, height, width, channels)`. Text is `"tokens"` (of SDXL `"tokens_2"` too),
    as `tokenize` gives them, of shape `(batch, tokens)`; or, where no text encoder is
    taught, `"context"`, of shape `(batch, tokens, width)` (and `"pooled"`). There may
    be `"sizes"`, SDXL's six, by default those of the latents, uncropped; `"mask"`,
    what each pixel of the latents counts, of shape `(batch, height, width, 1)`;
    `"weight"`, what each picture counts (prior preservation), of shape `(batch,)`; and
    `"noise"` and `"timestep"`, which are else drawn.

    Args:
        model: A `StableDiffusion`.
        adapter: What is learned: a `LoRA`, `LoHa` or `LoKr`.
        words: A `NewWords`, or several: textual inversion; with an adapter too,
            pivotal tuning. With neither, the U-Net's own weights are taught; else the
            networks stay what they are, and no gradient is computed of them.
        objective: An `Objective`: noise and loss.
        text_encoders: With neither adapter nor words, whether the text encoders'
            weights are taught too; a number is the factor of their learning rate. An
            adapter says it itself.
        remat: Whether what residual blocks and transformers compute is computed again
            for the gradients in place of being kept (gradient checkpointing): less
            memory, about a third more time. `"auto"` does where the rest would take
            more than the machine has to give.
        reads_tokens: Whether batches may have tokens. Where all have contexts, no text
            encoder need be in memory.
        seed: Seed of all draws.

    Raises:
        ValueError: If the model cannot be taught so: its weights have 8 bits, or
            adapters in them; its network sees more than latents and text.

    Example:

    >>> model = StableDiffusion.from_preset("emoji")
    >>> trainer = Finetuner(model, LoRA(rank=4))
    >>> trainer.compile(keras.optimizers.AdamW(1e-4))
    >>> latents = np.zeros((2, *model.latent_shape), "float32")
    >>> data = {"latents": latents, **trainer.tokenize(["a cat", "a dog"])}
    >>> history = trainer.fit(data, verbose=0)

    Reference:
        diffusers `examples/text_to_image/train_text_to_image_lora.py`,
        `examples/dreambooth/train_dreambooth.py` and
        `examples/textual_inversion/textual_inversion.py`.
    """

    def __init__(
        self,
        model,
        adapter: Learned | None = None,
        words: NewWords | Sequence[NewWords] | None = None,
        objective: Objective = Objective(),  # noqa: B008
        *,
        text_encoders: bool | float = False,
        remat: bool | str = "auto",
        reads_tokens: bool = True,
        seed: int = 0,
        name: str = "finetuner",
    ):
        base = Base(model, reads_tokens)
        super().__init__(name=name, dtype=model.dtype_policy, autocast=False)
        words = check_words(words)
        if (adapter is not None or words) and text_encoders:
            raise ValueError(
                "Text encoders' own weights are taught with the U-Net's; of an adapter "
                "LoRA(text_encoders=...) says it. Received: "
                f"text_encoders={text_encoders}, adapter={adapter}, words={words}"
            )
        if not reads_tokens and (words or text_encoders or _teaches_text(adapter)):
            raise ValueError(
                "Words and text encoders are taught by tokens. Received: "
                f"reads_tokens=False, text_encoders={text_encoders}, words={words}, "
                f"adapter={adapter}"
            )
        if remat not in (True, False, "auto"):
            raise ValueError(
                f'`remat` must be True, False or "auto". Received: remat={remat!r}'
            )
        self.base, self.objective, self.adapter = base, objective, adapter
        self.noising, self.remat = Noising(objective, model.config.schedule), remat
        self.taught = teaching.begin(self.base, adapter, words, text_encoders, seed)
        for part, network in self.base.networks.items():
            if self.taught.get(part) is not network:
                self._layers.append(network)  # a part of the state, and not saved
        rate = text_encoders if adapter is None else adapter.text_encoders
        self._text_rate = float(rate)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.evaluation_generator = keras.random.SeedGenerator(seed)
        self._begin = np.array(ops.convert_to_numpy(self.seed_generator.state))
        self.built = True

    @property
    def model(self):
        """The model, which paints with what is taught so far.

        What is learned is merged into the weights while it paints, and out of them
        when it has: they are as they were, to the bit, while training reads them. It
        is an adapter of the model's, called "taught".
        """
        self._settle()
        if not self.teaches_weights:
            self.base.model.wear_taught(self._now)
        return self.base.model

    @property
    def teaches_weights(self) -> bool:
        """Whether it is the networks' own weights that are taught."""
        return UNET in self.taught and self.taught[UNET] is self.base.networks[UNET]

    @property
    def trainable_variables(self):
        """What is taught, and nothing else."""
        return [v for each in self.taught.values() for v in each.trainable_variables]

    @property
    def non_trainable_variables(self):
        """The rest, the base with it."""
        taught = {id(v) for v in self.trainable_variables}
        return [v for v in self.variables if id(v) not in taught]

    @property
    def trainable_weights(self):
        """As `trainable_variables`."""
        return self.trainable_variables

    @property
    def non_trainable_weights(self):
        """As `non_trainable_variables`, without the draws' states."""
        taught = {id(v) for v in self.trainable_variables}
        return [v for v in self.weights if id(v) not in taught]

    def __dir__(self):
        # Where Keras looks for what it saves: `taught` is all.
        return [n for n in super().__dir__() if n not in ("layers", "model")]

    def tokenize(self, captions: Sequence[str]) -> dict[str, np.ndarray]:
        """Captions as `fit()` takes them; new words in them are their vectors.

        Args:
            captions: Texts, of one chunk each: what is beyond it is cut, with a
                warning.

        Returns:
            int32 `"tokens"` of shape `(captions, tokens)`; of SDXL `"tokens_2"` too.
        """
        captions, found = list(captions), {}
        for part in self.base.encoders:
            words = self.taught.get(teaching.words_of(part))
            read = self.base.tokenizer(part) if words is None else words.tokenize
            found[key_of(part)] = np.asarray(read(captions), "int32")
        return found

    def compile(self, *args, **kwargs):
        """As of any Keras model: optimizers, gradient accumulation, EMA are Keras's."""
        if kwargs.get("jit_compile", "auto") == "auto":
            kwargs["jit_compile"] = backend.resolve_jit_compile("auto")
        super().compile(*args, **kwargs)
        if self.optimizer is not None:
            slow = {
                id(v)
                for part in self.base.encoders
                if part in self.taught
                for v in self.taught[part].trainable_variables
            }
            optimizing.prepare(
                self.optimizer, lambda v: self._text_rate if id(v) in slow else 1.0
            )

    def call(self, inputs, training=True):
        """The loss of each picture, float32 of shape `(batch,)`."""
        seed = self.seed_generator if training else self.evaluation_generator
        latents = ops.cast(inputs["latents"], "float32")
        drawn = self.noising.draw(latents, seed, inputs)
        seed = seed if training else None  # nothing is left out in an evaluation
        told = self._told(inputs, latents, seed)
        told["latents"] = drawn.noisy
        told["timestep"] = ops.cast(drawn.timestep, "float32")
        prediction = self._compute(UNET, told, seed)
        mask, weight = inputs.get("mask"), inputs.get("weight")
        return self.noising.loss(prediction, drawn, mask, weight)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **kwargs):
        """The mean over the pictures."""
        return shared(ops.mean(y_pred))

    def evaluate(self, *args, **kwargs):
        """As of any Keras model, at the same noise and timesteps each time."""
        self.evaluation_generator.state.assign(self._begin)
        return super().evaluate(*args, **kwargs)

    def test_on_batch(self, *args, **kwargs):
        """As of any Keras model, at the same noise and timesteps each time."""
        self.evaluation_generator.state.assign(self._begin)
        return super().test_on_batch(*args, **kwargs)

    def save(
        self,
        path: str | os.PathLike,
        metadata: Mapping[str, str] | None = None,
        overwrite: bool = False,
        format: str = "kohya",
    ) -> Path:
        """Writes what was taught, for other programs, `load_adapter`, `load_embedding`.

        Args:
            path: A `.safetensors` file; of a model's own weights as of `save_preset`.
            metadata: Texts for a file's header.
            overwrite: Whether what is there is replaced.
            format: As of `StableDiffusion.save_adapter`; of words there is one.

        Returns:
            The path of the file or folder.

        Raises:
            FileExistsError: If there is something, and `overwrite` is off.
            ValueError: If the path or the format is none.
        """
        model = self.model
        if self.teaches_weights:
            return teaching.save_model(model, path, metadata, overwrite)
        how = metadata, overwrite, format
        return teaching.save(self._now(), path, model.config, *how)

    def _now(self) -> Adapter:
        """What is taught as it is."""
        self._settle()
        return teaching.adapter_of(self.taught, self.base.model.config)

    def _settle(self) -> None:
        """While JAX fits, its state is elsewhere than in the variables."""
        getattr(self, "jax_state_sync", lambda: None)()

    def _told(self, inputs, latents, seed) -> dict:
        """What the U-Net is told beside latents and timestep."""
        dropped = None
        if seed is not None and self.objective.caption_dropout:
            dropped = self.noising.dropped(ops.shape(latents)[0], seed)
        given = self._given if "context" in inputs else self._read
        context, pooled = given(inputs, dropped, seed)
        told = {"crossattn": context}
        if self.base.model.config.diffusion_model.vector_width:
            told["vector"] = self._vector(inputs.get("sizes"), latents, pooled)
        return told

    def _vector(self, sizes, latents, pooled):
        """SDXL's pooled text and sizes in one."""
        config, (batch, *sides) = self.base.model.config, ops.shape(latents)[:3]
        if sizes is None:
            height, width = (config.autoencoder.downsampling * side for side in sides)
            sizes = height, width, 0, 0, height, width
            sizes = ops.stack([ops.cast(each, "float32") for each in sizes])
            sizes = ops.broadcast_to(sizes, (batch, 6))
        waves = waves_of(sizes, config.diffusion_model.vector_id_width)
        waves = ops.reshape(waves, (batch, -1))
        return ops.concatenate([ops.cast(pooled, "float32"), waves], axis=-1)

    def _read(self, inputs, dropped, seed):
        """Context and pooled text of captions' tokens."""
        if "tokens" not in inputs or not self.base.encoders:
            raise ValueError(
                'A batch has "tokens" or, where they are computed ahead, "context"; '
                "without tokens where reads_tokens=False. Received: "
                f"{', '.join(inputs)}"
            )
        contexts, pooled = [], None
        for part in self.base.encoders:
            tokens = ops.cast(inputs[key_of(part)], "int32")
            if dropped is not None:
                tokens = ops.where(dropped, self.base.empty_tokens(part), tokens)
            words = self.taught.get(teaching.words_of(part))
            more = {} if words is None else {"vectors": words.table()}
            context = self._compute(part, tokens, seed, **more)
            if self.base.networks[part].config.projection_width:
                context, pooled = context
            contexts.append(context)
        return ops.concatenate(contexts, axis=-1), pooled

    def _given(self, inputs, dropped, seed):
        """Context and pooled text that were computed ahead."""
        taught = [name for name in self.taught if name != UNET]
        if taught:
            raise ValueError(
                "Text encoders and words that are taught are read in each step: "
                '`fit()` takes "tokens" then, not "context". Received: '
                f"{', '.join(inputs)}, and a trainer of {', '.join(taught)}"
            )
        context, pooled = inputs["context"], inputs.get("pooled")
        if dropped is None:
            return context, pooled
        empty, empty_pooled = self.base.empty_context()
        context = ops.where(dropped[:, :, None], empty, context)
        if pooled is not None:
            pooled = ops.where(dropped, empty_pooled, pooled)
        return context, pooled

    def _compute(self, part: str, inputs, seed, **more):
        """What a network says, with what is taught in it.

        Its variables are as they are: it is their values that are others here, and
        gradients go to the factors alone.
        """
        network, factors = self.base.networks[part], self.taught.get(part)
        with contextlib.ExitStack() as stack:
            if factors is not network:
                changes = () if factors is None else factors.changes(seed)
                stack.enter_context(Changed(network, changes))
            stack.enter_context(blocks(self._remats(part, inputs), self.jit_compile))
            return network(inputs, **more)

    def _remats(self, part: str, inputs) -> bool:
        """Whether a network's blocks are computed again."""
        if self.remat != "auto" or part != UNET:
            return self.remat is True
        shape, network = inputs["latents"].shape, self.base.networks[part]
        if None in shape:
            return False
        optimizer = getattr(self, "optimizer", None)  # in a loop of one's own: none
        held = sum(
            math.prod(v.shape) * np.dtype(v.dtype).itemsize
            for v in (*self.variables, *getattr(optimizer, "variables", ()))
        )
        size = np.dtype(network.compute_dtype).itemsize
        return needs_remat(network.config, shape, size, held)


def _teaches_text(adapter) -> bool:
    return adapter is not None and bool(adapter.text_encoders)
