"""From nothing to a preset, by a recipe."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np

from kerasdiffusion.compute import backend
from kerasdiffusion.datasets import SceneDataset, caption_corpus
from kerasdiffusion.datasets.workers import Workers
from kerasdiffusion.models.autoencoder import Decoder, ImageEncoder
from kerasdiffusion.models.diffusion_model import DiffusionModel
from kerasdiffusion.models.text_encoder import TextEncoder
from kerasdiffusion.prompts.tokenizer import Tokenizer
from kerasdiffusion.storage.locks import locked
from kerasdiffusion.storage.whole import clear_leftovers, whole_file
from kerasdiffusion.tasks.stable_diffusion import StableDiffusion
from kerasdiffusion.training.bundled import model_card
from kerasdiffusion.training.bundled.autoencoder import AutoencoderTrainer
from kerasdiffusion.training.bundled.diffusion import DiffusionTrainer
from kerasdiffusion.training.bundled.recipes import EMOJI, Recipe, Stage
from kerasdiffusion.training.bundled.text import TextTrainer
from kerasdiffusion.training.checkpoints import LOG, Checkpoint, claim, resume
from kerasdiffusion.training.examples.data import (
    Batches,
    LatentBatches,
    PictureBatches,
    encode_dataset,
)
from kerasdiffusion.training.lessons.sheets import Sheets
from kerasdiffusion.weights.save import save_folder


def train(
    folder: Path,
    recipe: Recipe = EMOJI,
    workers: int = 1,
    sheets: int = 0,
    start: str | Path | None = None,
) -> Path:
    """From nothing to a preset; a run that was killed goes on where it stopped.

    Args:
        folder: Where checkpoints, logs, sheets and the preset go.
        recipe: What to train, and how long.
        workers: Processes that render.
        sheets: How often on the way the model so far is written and paints a sheet.
        start: A preset to begin with, of the recipe's geometry, in place of nothing:
            its encoder is kept, so that latents stay what they are; all else learns on.

    Returns:
        The preset's folder, for `StableDiffusion.from_preset`.

    Raises:
        BlockingIOError: If another run is at work in the folder.
        ValueError: If `start` is of another geometry, or the folder has the run of
            another recipe or seed, or of another `start`.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"A run needs a folder. Received: {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "A training run"):
        clear_leftovers(folder)
        claim(
            folder,
            {"recipe": dataclasses.asdict(recipe), "start": start and str(start)},
        )
        return _train(folder, recipe, workers, sheets, start)


def _train(folder, recipe, workers, sheets, start) -> Path:
    with Workers(_dataset(recipe, recipe.crowd), workers) as crowd:
        if start is None:
            image_encoder, decoder = train_autoencoder(recipe, folder, crowd)
            networks = make_networks(recipe)
        else:
            image_encoder, decoder, *networks = read_networks(recipe, start)
            train_decoder(recipe, folder, image_encoder, decoder, crowd)
    with Workers(_dataset(recipe, recipe.scenes), workers) as data:

        def save_as(path):
            diffusion_model, text_encoder, tokenizer = networks
            parts = {
                "text_encoder": text_encoder,
                "diffusion_model": diffusion_model,
                "image_encoder": image_encoder,
                "decoder": decoder,
            }
            save(recipe, path, parts, tokenizer, start)

        painter = []
        if sheets:
            captions = _dataset(recipe, recipe.scenes, "test").batch(0, 36)[1]
            every = max(1, recipe.diffusion.epochs // sheets)
            painter = [Sheets(folder, every, captions, save_as)]
        first = recipe.text if start is None else None
        train_diffusion(recipe, folder, image_encoder, networks, data, first, painter)
    save_as(folder / "preset")
    return folder / "preset"


def save(
    recipe: Recipe,
    path: Path,
    parts: dict,
    tokenizer: Tokenizer,
    start: str | Path | None = None,
) -> None:
    """Writes networks as a preset, in float16, with its recipe and its card."""
    config = recipe.config.replace(
        text_encoder=parts["text_encoder"].config, autoencoder=parts["decoder"].config
    )
    texts = model_card.texts(recipe, parts, start)
    save_folder(
        *(path, parts, config, tokenizer),
        dtype="float16",
        overwrite=True,
        texts=texts,
    )


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


def train_decoder(
    recipe: Recipe, folder: Path, image_encoder: ImageEncoder, decoder: Decoder, data
) -> None:
    """The decoder learns on, of latents that stay what they are."""
    if recipe.decoder is None:
        return
    image_encoder.trainable = False
    trainer = AutoencoderTrainer(image_encoder, decoder, seed=recipe.seed)
    batches = PictureBatches(data, recipe.decoder.batch_size)
    _fit(trainer, recipe.decoder, batches, folder / "decoder")


def make_networks(recipe: Recipe) -> tuple[DiffusionModel, TextEncoder, Tokenizer]:
    """A U-Net and a text encoder that know nothing, and the captions' vocabulary."""
    tokenizer = Tokenizer(recipe.config.tokenizer)
    tokenizer = tokenizer.subset(caption_corpus(recipe.scenes))
    text_config = dataclasses.replace(
        recipe.config.text_encoder, vocabulary_size=tokenizer.vocabulary_size
    )
    return (
        DiffusionModel(recipe.config.diffusion_model, dtype=recipe.precision),
        TextEncoder(text_config, dtype=recipe.precision),
        tokenizer,
    )


def read_networks(recipe: Recipe, preset: str | Path) -> tuple:
    """Encoder, decoder, U-Net, text encoder and tokenizer of a preset, to learn on."""
    model = StableDiffusion.from_preset(str(preset), precision=recipe.precision)
    theirs, ours = model.config.diffusion_model, recipe.config.diffusion_model
    if theirs != ours:
        raise ValueError(
            "A run goes on from a preset of its recipe's geometry. Received: "
            f"{preset} with {theirs}, not {ours}"
        )
    return (
        model.image_encoder,
        model.decoder,
        model.diffusion_model,
        model.text_encoder,
        model.tokenizer,
    )


def train_diffusion(
    recipe: Recipe,
    folder: Path,
    image_encoder: ImageEncoder,
    networks: tuple[DiffusionModel, TextEncoder, Tokenizer],
    data=None,
    first: Stage | None = None,
    callbacks=(),
) -> None:
    """The second stage: the U-Net and the text encoder, on cached latents.

    Args:
        recipe: What to train, and how long.
        folder: Where checkpoints and logs go.
        image_encoder: Makes the latents.
        networks: What learns, and its tokenizer.
        data: The pictures; those of the recipe by default.
        first: How long the text encoder learns by itself, ahead of the U-Net.
        callbacks: Keras callbacks of the U-Net's training.
    """
    diffusion_model, text_encoder, tokenizer = networks
    latents, tokens = _cached(
        recipe,
        folder / "latents.npz",
        image_encoder,
        tokenizer,
        data or _dataset(recipe, recipe.scenes),
    )

    def batches(stage):
        return LatentBatches(latents, tokens, stage.batch_size, recipe.seed)

    if first is not None:
        trainer = TextTrainer(text_encoder, latents.shape[1:])
        _fit(trainer, first, batches(first), folder / "text")
    trainer = DiffusionTrainer(
        diffusion_model,
        text_encoder,
        recipe.config.schedule,
        tokenizer("")[0],
        noise_bias=recipe.noise_bias,
        seed=recipe.seed,
    )
    _fit(
        trainer,
        recipe.diffusion,
        batches(recipe.diffusion),
        folder / "diffusion",
        callbacks,
    )


def _dataset(recipe: Recipe, scenes, split: str = "train") -> SceneDataset:
    size = recipe.config.generation.height
    return SceneDataset(scenes, image_size=size, seed=recipe.seed, split=split)


def _cached(recipe, path, image_encoder, tokenizer, data):
    """Latents and tokens, from the file when an earlier run left it."""
    if not path.exists():
        latents, tokens = encode_dataset(
            image_encoder, tokenizer, data, recipe.cached_samples
        )
        with whole_file(path, overwrite=True, ending=".npz") as part:
            np.savez(part, latents=latents, tokens=tokens)
    with np.load(path) as cache:
        return cache["latents"], cache["tokens"]


def _fit(trainer, stage: Stage, data: Batches, folder: Path, callbacks=()) -> None:
    """`fit()` that goes on where a killed run stopped, and logs as it goes."""
    folder.mkdir(parents=True, exist_ok=True)
    trainer.compile(
        optimizer=stage.optimizer(), jit_compile=backend.resolve_jit_compile("auto")
    )
    trainer.build()
    trainer.optimizer.build(trainer.trainable_variables)
    done = resume(trainer, folder)
    data.steps, data.epoch = stage.steps, done
    trainer.fit(
        data,
        epochs=stage.epochs,
        initial_epoch=done,
        shuffle=False,  # by Keras' own draw, which a resumed run would not repeat
        verbose=2,
        callbacks=[
            # Its row is there before the epoch counts as done.
            keras.callbacks.CSVLogger(folder / LOG, append=True),
            Checkpoint(folder),
            *callbacks,
        ],
    )
