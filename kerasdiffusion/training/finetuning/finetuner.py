"""Finetuner: a Stable Diffusion that learns from your own pictures by `fit()`."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
from keras import ops

from kerasdiffusion.adapters.adapter import Adapter
from kerasdiffusion.adapters.namespaces import CONTROL, UNET
from kerasdiffusion.compute import backend
from kerasdiffusion.compute.changed import Changed
from kerasdiffusion.compute.devices import shared
from kerasdiffusion.compute.remat import blocks
from kerasdiffusion.models.controlnet import ControlNet
from kerasdiffusion.prompts.chunks import chunks as in_full
from kerasdiffusion.prompts.chunks import in_chunks
from kerasdiffusion.prompts.syntax import Span
from kerasdiffusion.tasks.prompting import check_prompting
from kerasdiffusion.training import optimizing
from kerasdiffusion.training.finetuning import teaching, texts
from kerasdiffusion.training.finetuning.base import Base, check_words, key_of
from kerasdiffusion.training.finetuning.learned import Learned
from kerasdiffusion.training.finetuning.words import NewWords
from kerasdiffusion.training.noising import Noising
from kerasdiffusion.training.objective import Objective
from kerasdiffusion.training.room import held_bytes, needs_remat
from kerasdiffusion.training.trainer import Trainer
from kerasdiffusion.weights.save_control import save_control


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
        adapter: What is learned: a `LoRA`, `LoHa` or `LoKr`; or a `ControlNet`, see
            `begin_control`, whose batches have `"picture"` too: what is followed, from
            0 to 1, of shape `(batch, height, width, channels)` in pixels.
        words: A `NewWords`, or several: textual inversion; with an adapter too,
            pivotal tuning. With neither, the U-Net's own weights are taught; else the
            networks stay what they are, and no gradient is computed of them.
        objective: An `Objective`: noise and loss.
        text_encoders: With neither adapter nor words, whether the text encoders'
            weights are taught too; a number is the factor of their learning rate. An
            adapter says it itself.
        clip_skip: As in `text_to_image`; what is painted later wants the same.
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
        adapter: Learned | ControlNet | None = None,
        words: NewWords | Sequence[NewWords] | None = None,
        objective: Objective = Objective(),  # noqa: B008
        *,
        text_encoders: bool | float = False,
        clip_skip: int | None = None,
        remat: bool | str = "auto",
        reads_tokens: bool = True,
        seed: int = 0,
        name: str = "finetuner",
    ):
        base = Base(model, reads_tokens)
        super().__init__(name=name, dtype=model.dtype_policy, autocast=False)
        words = check_words(words)
        check_prompting(model.config, clip_skip, "none")
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
        self.clip_skip = clip_skip
        self.taught = teaching.begin(self.base, adapter, words, text_encoders, seed)
        for part, network in self.base.networks.items():
            if self.taught.get(part) is not network:
                self._layers.append(network)  # a part of the state, and not saved
        rate = text_encoders if adapter is None else _teaches_text(adapter)
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
        if not self.teaches_weights and CONTROL not in self.taught:
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

    def tokenize(
        self, captions: Sequence[str], chunks: int = 1
    ) -> dict[str, np.ndarray]:
        """Captions as `fit()` takes them; new words in them are their vectors.

        Args:
            captions: Texts, whose brackets weigh nothing.
            chunks: How often what the text encoder reads at once they may be long, 1
                or more; what is beyond is cut, with a warning. All become as long.

        Returns:
            int32 `"tokens"` of shape `(captions, chunks * tokens)`; of SDXL
            `"tokens_2"` too.
        """
        captions, found = list(captions), {}
        for part in self.base.encoders:
            rows = [
                in_chunks(caption, *self._reading(part), chunks) for caption in captions
            ]
            for caption, (_, is_cut) in zip(captions, rows, strict=True):
                if is_cut:
                    warnings.warn(
                        f"A caption is longer than is read ({chunks} chunks): its end "
                        f"is cut. Received: {caption[:60]!r}...",
                        stacklevel=2,
                    )
            found[key_of(part)] = np.stack([tokens for tokens, _ in rows])
        return found

    def chunks_of(self, captions: Iterable[str]) -> int:
        """How often what the text encoders read at once the longest caption is long."""
        models = self.base.model.config.text_encoders
        parts = ("text_encoder", "text_encoder_2")[: len(models)]
        return max(
            len(in_full([Span(caption, 1.0)], *self._reading(part)))
            for caption in {"", *captions}
            for part in parts
        )

    def _reading(self, part: str) -> tuple:
        """A text encoder's tokenizer, and the words that are taught."""
        words = self.taught.get(teaching.words_of(part))
        return self.base.tokenizer(part), None if words is None else words.learned

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
        if CONTROL in self.taught:
            picture = inputs["picture"]
            told["control"] = self.taught[CONTROL]({**told, "picture": picture})
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
            path: A `.safetensors` file; of a model's own weights as of `save_preset`;
                of a ControlNet a folder, which `Control` takes.
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
        if CONTROL in self.taught:
            return save_control(self.taught[CONTROL], path, overwrite)
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
        if "context" in inputs:
            how = self.base, self.taught, self.clip_skip
            context, pooled = texts.given(inputs, dropped, *how)
        else:
            context, pooled = self._read(inputs, dropped, seed)
        told, config = {"crossattn": context}, self.base.model.config
        if config.diffusion_model.vector_width:
            sizes = inputs.get("sizes")
            told["vector"] = texts.with_sizes(config, pooled, sizes, latents)
        return told

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
            config, length = self.base.networks[part].config, tokens.shape[1]
            count = texts.check_chunks(length, config.context_length)
            if dropped is not None:
                empty = np.tile(self.base.empty_tokens(part), (1, count))
                tokens = ops.where(dropped, empty, tokens)
            words = self.taught.get(teaching.words_of(part))
            more = {} if words is None else {"vectors": words.table()}
            if self.clip_skip is not None:
                layers = config.depth + 1 - self.clip_skip
                more["layers"] = ops.convert_to_tensor(layers, "int32")
            tokens = ops.reshape(tokens, (-1, config.context_length))
            context = self._compute(part, tokens, seed, **more)
            if config.projection_width:
                context, pooled = context
                pooled = pooled[::count]  # of the first chunks
            contexts.append(ops.reshape(context, (-1, length, config.width)))
        return ops.concatenate(contexts, axis=-1), pooled

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
        size = np.dtype(network.compute_dtype).itemsize
        return needs_remat(network.config, shape, size, self.held())

    def held(self) -> int:
        """Bytes of all weights, of the optimizer's too."""
        optimizer = getattr(self, "optimizer", None)  # in a loop of one's own: none
        return held_bytes((*self.variables, *getattr(optimizer, "variables", ())))

    def remats(self, shape: Sequence[int]) -> bool:
        """Whether the U-Net's blocks are computed again, of latents of this shape."""
        return self._remats(UNET, {"latents": np.empty(shape, "float32")})


def _teaches_text(adapter) -> bool | float:
    return getattr(adapter, "text_encoders", False)
