"""From nothing to a preset, by a recipe."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import keras
import numpy as np

from kerasdiffusion import backend
from kerasdiffusion.datasets import SceneDataset, caption_corpus
from kerasdiffusion.datasets.workers import Workers
from kerasdiffusion.models.autoencoder import Decoder, ImageEncoder
from kerasdiffusion.models.diffusion_model import DiffusionModel
from kerasdiffusion.models.text_encoder import TextEncoder
from kerasdiffusion.tokenizer import Tokenizer
from kerasdiffusion.training.autoencoder import AutoencoderTrainer
from kerasdiffusion.training.data import (
    Batches,
    LatentBatches,
    PictureBatches,
    encode_dataset,
)
from kerasdiffusion.training.diffusion import DiffusionTrainer
from kerasdiffusion.training.model_card import write_card
from kerasdiffusion.training.recipes import EMOJI, Recipe, Stage
from kerasdiffusion.training.sheets import Sheets
from kerasdiffusion.weights.save import save_folder


def train(
    folder: Path, recipe: Recipe = EMOJI, workers: int = 1, sheets: int = 0
) -> Path:
    """From nothing to a preset; a run that was killed goes on where it stopped.

    Args:
        folder: Where checkpoints, logs, sheets and the preset go.
        recipe: What to train, and how long.
        workers: Processes that render.
        sheets: How often on the way the model so far is written and paints a sheet.

    Returns:
        The preset's folder, for `StableDiffusion.from_preset`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with Workers(_dataset(recipe, recipe.crowd), workers) as crowd:
        image_encoder, decoder = train_autoencoder(recipe, folder, crowd)
    with Workers(_dataset(recipe, recipe.scenes), workers) as data:

        def save_as(path, diffusion_model, text_encoder, tokenizer):
            parts = {
                "text_encoder": text_encoder,
                "diffusion_model": diffusion_model,
                "image_encoder": image_encoder,
                "decoder": decoder,
            }
            save(recipe, path, parts, tokenizer)

        networks = train_diffusion(
            recipe, folder, image_encoder, data, sheets and save_as, sheets
        )
    save_as(folder / "preset", *networks)
    return folder / "preset"


def save(recipe: Recipe, path: Path, parts: dict, tokenizer: Tokenizer) -> None:
    """Writes networks as a preset, in float16, with its recipe and its card."""
    config = recipe.config.replace(
        text_encoder=parts["text_encoder"].config, autoencoder=parts["decoder"].config
    )
    save_folder(path, parts, config, tokenizer, dtype="float16", overwrite=True)
    write_card(path, recipe, parts)


def train_autoencoder(
    recipe: Recipe, folder: Path, data=None
) -> tuple[ImageEncoder, Decoder]:
    """The first stage. Sets the scale factor so that latents have deviation 1."""
    config = recipe.config.autoencoder
    data = data or _dataset(recipe, recipe.crowd)
    trainer = AutoencoderTrainer(
        ImageEncoder(config, dtype=recipe.precision),
        Decoder(config, dtype=recipe.precision),
        seed=recipe.seed,
    )
    for stage, crop, name in (
        (recipe.strokes, recipe.crop, "strokes"),
        (recipe.autoencoder, None, "autoencoder"),
    ):
        batches = PictureBatches(data, stage.batch_size, crop)
        _fit(trainer, stage, batches, folder / name)
    sample = data.batch(0, 256)[0].astype("float32") / 127.5 - 1.0
    latents = trainer.image_encoder.predict(sample, verbose=0)
    scale_factor = float(config.scale_factor / np.std(latents.astype("float32")))
    config = dataclasses.replace(config, scale_factor=scale_factor)
    trainer.image_encoder.config = trainer.decoder.config = config
    return trainer.image_encoder, trainer.decoder


def train_diffusion(
    recipe: Recipe,
    folder: Path,
    image_encoder: ImageEncoder,
    data=None,
    save_as=None,
    sheets: int = 0,
) -> tuple[DiffusionModel, TextEncoder, Tokenizer]:
    """The second stage: the U-Net and the text encoder, on cached latents."""
    tokenizer = Tokenizer(recipe.config.tokenizer)
    tokenizer = tokenizer.subset(caption_corpus(recipe.scenes))
    text_encoder = TextEncoder(
        dataclasses.replace(
            recipe.config.text_encoder, vocabulary_size=tokenizer.vocabulary_size
        ),
        dtype=recipe.precision,
    )
    diffusion_model = DiffusionModel(
        recipe.config.diffusion_model, dtype=recipe.precision
    )
    trainer = DiffusionTrainer(
        diffusion_model,
        text_encoder,
        recipe.config.schedule,
        tokenizer("")[0],
        noise_bias=recipe.noise_bias,
        seed=recipe.seed,
    )
    networks = diffusion_model, text_encoder, tokenizer
    latents, tokens = _cached(
        recipe,
        folder / "latents.npz",
        image_encoder,
        tokenizer,
        data or _dataset(recipe, recipe.scenes),
    )
    batches = LatentBatches(latents, tokens, recipe.diffusion.batch_size, recipe.seed)
    painter = []
    if sheets:
        captions = _dataset(recipe, recipe.scenes, "test").batch(0, 36)[1]
        every = max(1, recipe.diffusion.epochs // sheets)
        painter = [Sheets(folder, every, captions, lambda to: save_as(to, *networks))]
    _fit(trainer, recipe.diffusion, batches, folder / "diffusion", painter)
    return networks


def _dataset(recipe: Recipe, scenes, split: str = "train") -> SceneDataset:
    size = recipe.config.generation.height
    return SceneDataset(scenes, image_size=size, seed=recipe.seed, split=split)


def _cached(recipe, path, image_encoder, tokenizer, data):
    """Latents and tokens, from the file when an earlier run left it."""
    if not path.exists():
        latents, tokens = encode_dataset(
            image_encoder, tokenizer, data, recipe.cached_samples
        )
        np.savez(path.with_suffix(".part.npz"), latents=latents, tokens=tokens)
        path.with_suffix(".part.npz").rename(path)
    with np.load(path) as cache:
        return cache["latents"], cache["tokens"]


def _fit(trainer, stage: Stage, data: Batches, folder: Path, callbacks=()) -> None:
    """`fit()` that goes on where a killed run stopped, and logs as it goes."""
    folder.mkdir(parents=True, exist_ok=True)
    trainer.compile(
        optimizer=stage.optimizer(), jit_compile=backend.resolve_jit_compile("auto")
    )
    progress = folder / "progress.json"
    state = json.loads(progress.read_text()) if progress.exists() else {"epoch": 0}
    done = state["epoch"]
    data.steps, data.epoch = stage.steps, done
    trainer.build()
    trainer.optimizer.build(trainer.trainable_variables)
    if done:
        trainer.load_weights(folder / "checkpoint.weights.h5")
        trainer.seed_generator.state.assign(state["random"])
    trainer.fit(
        data,
        epochs=stage.epochs,
        initial_epoch=done,
        shuffle=False,  # by Keras' own draw, which a resumed run would not repeat
        verbose=2,
        callbacks=[
            keras.callbacks.CSVLogger(folder / "log.csv", append=True),
            Checkpoint(folder),
            *callbacks,
        ],
    )


class Checkpoint(keras.callbacks.Callback):
    """After each epoch: weights and optimizer in one file, the rest in another.

    Keras does not save the state of a model's own seed generator.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def on_epoch_end(self, epoch, logs=None):
        part = self.folder / "part.weights.h5"
        self.model.save_weights(part)
        part.rename(self.folder / "checkpoint.weights.h5")
        state = {
            "epoch": epoch + 1,
            "random": backend.to_numpy(self.model.seed_generator.state).tolist(),
            "time": time.time(),
            **(logs or {}),
        }
        (self.folder / "progress.json").write_text(json.dumps(state))
