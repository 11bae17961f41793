"""The recipe of the bundled model: from nothing to the preset "emoji"."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from kerasdiffusion import backend
from kerasdiffusion.config import (
    AutoencoderConfig,
    DiffusionModelConfig,
    GenerationConfig,
    ModelConfig,
    ScheduleConfig,
    TextEncoderConfig,
    TokenizerConfig,
)
from kerasdiffusion.datasets import SceneConfig, SceneDataset, caption_corpus
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
from kerasdiffusion.training.muon import Muon
from kerasdiffusion.training.schedules import WarmUpCosine
from kerasdiffusion.weights.save import save_folder

GEOMETRY = ModelConfig(
    tokenizer=TokenizerConfig(context_length=24),
    text_encoder=TextEncoderConfig(
        context_length=24, width=128, depth=2, heads=4, mlp_width=512
    ),
    diffusion_model=DiffusionModelConfig(
        block_widths=(48, 96, 144),
        blocks_per_level=1,
        transformer_depths=(0, 1, 1),
        heads=(1, 3, 3),
        context_width=128,
        norm_groups=16,
    ),
    autoencoder=AutoencoderConfig(
        block_widths=(16, 32, 64), blocks_per_level=1, norm_groups=8, scale_factor=1.0
    ),
    # DDPM's own betas: at 16x16 latents, SD's leave the ground's colour in the noise.
    schedule=ScheduleConfig(
        beta_schedule="linear",
        beta_start=0.0001,
        beta_end=0.02,
        prediction_type="v_prediction",
        final_alpha_one=True,
    ),
    generation=GenerationConfig(
        height=64,
        width=64,
        sampler="dpmpp_2m_karras",
        num_steps=25,
        guidance_scale=3.0,
    ),
)


@dataclass(frozen=True)
class Stage:
    """How long and how fast one network learns.

    Args:
        epochs: Epochs; a checkpoint is written after each.
        steps: Steps an epoch.
        batch_size: Samples a step.
        learning_rate: Peak of a warm-up and cosine decay to a twentieth.
        ema_momentum: Momentum of the weights' moving average.
        muon: Whether the optimizer is `Muon`, not AdamW.
    """

    epochs: int
    steps: int
    batch_size: int
    learning_rate: float
    ema_momentum: float = 0.999
    muon: bool = False

    def optimizer(self) -> keras.optimizers.Optimizer:
        """The optimizer with this stage's schedule, clipping and moving average."""
        total = self.epochs * self.steps
        options = {
            "learning_rate": WarmUpCosine(
                self.learning_rate, total, min(200, total // 10)
            ),
            "weight_decay": 0.01,
            "global_clipnorm": 1.0,
            "use_ema": True,
            "ema_momentum": self.ema_momentum,
        }
        if self.muon:
            # The first and the last layer are no matrices between hidden units.
            ends = ["conv_in", "conv_out"]
            return Muon(
                adam_weight_decay=0.01, adam_beta_2=0.99, exclude_layers=ends, **options
            )
        return keras.optimizers.AdamW(beta_2=0.99, **options)


@dataclass(frozen=True)
class Recipe:
    """Everything that makes a run.

    Args:
        config: The networks' sizes.
        scenes: What the pictures show.
        crop: Side of the random crops that the autoencoder learns its strokes on.
        strokes: The autoencoder's first stage, on crops.
        autoencoder: Its second stage, on whole pictures.
        cached_samples: Pictures that are encoded once for the last stage.
        diffusion: The U-Net and the text encoder.
        seed: Seed of the scenes, the weights and the draws.
    """

    config: ModelConfig = GEOMETRY
    scenes: SceneConfig = SceneConfig()
    crop: int = 32
    strokes: Stage = Stage(13, 200, 16, 2e-3, 0.995)
    autoencoder: Stage = Stage(2, 200, 16, 4e-4, 0.99)
    cached_samples: int = 60_000
    diffusion: Stage = Stage(50, 100, 64, 1.5e-3, 0.998, muon=True)
    seed: int = 0


#: A run of a minute that goes through everything and learns nothing.
TOY = Recipe(
    config=GEOMETRY.replace(
        text_encoder=TextEncoderConfig(
            context_length=24, width=16, depth=1, heads=2, mlp_width=32
        ),
        diffusion_model=DiffusionModelConfig(
            block_widths=(16, 16),
            blocks_per_level=1,
            transformer_depths=(0, 1),
            heads=(1, 2),
            context_width=16,
            norm_groups=4,
        ),
        autoencoder=AutoencoderConfig(
            block_widths=(8, 8, 8), blocks_per_level=1, norm_groups=4
        ),
    ),
    scenes=SceneConfig(objects=("red apple", "dog face"), shapes=("circle",)),
    strokes=Stage(2, 10, 4, 3e-3, 0.9),
    autoencoder=Stage(1, 2, 4, 1e-3),
    cached_samples=16,
    diffusion=Stage(2, 2, 4, 1e-3),
)


def train(folder: Path, recipe: Recipe = Recipe()) -> Path:
    """From nothing to a preset; a run that was killed goes on where it stopped.

    Args:
        folder: Where checkpoints, logs and the preset go.
        recipe: What to train, and how long.

    Returns:
        The preset's folder, for `StableDiffusion.from_preset`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    image_encoder, decoder = train_autoencoder(recipe, folder)
    networks = train_diffusion(recipe, folder, image_encoder)
    return save(recipe, folder / "preset", image_encoder, decoder, *networks)


def save(
    recipe, path, image_encoder, decoder, text_encoder, diffusion_model, tokenizer
) -> Path:
    """Writes the networks as a preset, in float16."""
    parts = {
        "text_encoder": text_encoder,
        "diffusion_model": diffusion_model,
        "image_encoder": image_encoder,
        "decoder": decoder,
    }
    config = recipe.config.replace(
        text_encoder=text_encoder.config, autoencoder=decoder.config
    )
    save_folder(path, parts, config, tokenizer, dtype="float16", overwrite=True)
    return path


def train_autoencoder(recipe: Recipe, folder: Path) -> tuple[ImageEncoder, Decoder]:
    """The first stage. Sets the scale factor so that latents have deviation 1."""
    config = recipe.config.autoencoder
    trainer = AutoencoderTrainer(
        ImageEncoder(config), Decoder(config), seed=recipe.seed
    )
    for stage, crop, name in (
        (recipe.strokes, recipe.crop, "strokes"),
        (recipe.autoencoder, None, "autoencoder"),
    ):
        data = PictureBatches(_dataset(recipe), stage.batch_size, crop)
        _fit(trainer, stage, data, folder / name)
    sample = _dataset(recipe).batch(0, 256)[0].astype("float32") / 127.5 - 1.0
    deviation = np.std(trainer.image_encoder.predict(sample, verbose=0))
    scale_factor = float(config.scale_factor / deviation)
    config = dataclasses.replace(config, scale_factor=scale_factor)
    trainer.image_encoder.config = trainer.decoder.config = config
    return trainer.image_encoder, trainer.decoder


def train_diffusion(
    recipe: Recipe, folder: Path, image_encoder: ImageEncoder
) -> tuple[TextEncoder, DiffusionModel, Tokenizer]:
    """The second stage: the U-Net and the text encoder, on cached latents."""
    tokenizer = Tokenizer(recipe.config.tokenizer)
    tokenizer = tokenizer.subset(caption_corpus(recipe.scenes))
    text_encoder = TextEncoder(
        dataclasses.replace(
            recipe.config.text_encoder, vocabulary_size=tokenizer.vocabulary_size
        )
    )
    trainer = DiffusionTrainer(
        DiffusionModel(recipe.config.diffusion_model),
        text_encoder,
        recipe.config.schedule,
        tokenizer("")[0],
        seed=recipe.seed,
    )
    latents, tokens = _cached(recipe, folder / "latents.npz", image_encoder, tokenizer)
    data = LatentBatches(latents, tokens, recipe.diffusion.batch_size, recipe.seed)
    _fit(trainer, recipe.diffusion, data, folder / "diffusion")
    return text_encoder, trainer.diffusion_model, tokenizer


def _dataset(recipe: Recipe) -> SceneDataset:
    return SceneDataset(
        recipe.scenes,
        image_size=recipe.config.generation.height,
        seed=recipe.seed,
        split="train",
    )


def _cached(recipe, path, image_encoder, tokenizer):
    """Latents and tokens, from the file when an earlier run left it."""
    if not path.exists():
        latents, tokens = encode_dataset(
            image_encoder, tokenizer, _dataset(recipe), recipe.cached_samples
        )
        np.savez(path.with_suffix(".part.npz"), latents=latents, tokens=tokens)
        path.with_suffix(".part.npz").rename(path)
    with np.load(path) as cache:
        return cache["latents"], cache["tokens"]


def _fit(trainer, stage: Stage, data: Batches, folder: Path) -> None:
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
