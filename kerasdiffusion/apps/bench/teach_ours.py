"""This library's trainer, as the benchmark drives it."""

from __future__ import annotations

import types

import keras
import numpy as np

import kerasdiffusion
from kerasdiffusion.apps.bench.teach_worker import (
    CLIP,
    DECAY,
    LEARNING_RATE,
    RANK,
    TeachJob,
)
from kerasdiffusion.compute.precision import policy
from kerasdiffusion.models.diffusion_model import DiffusionModel
from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.training.finetuning.finetuner import Finetuner
from kerasdiffusion.training.finetuning.learned import LoRA
from kerasdiffusion.weights.folders import dataclass_from


class Library:
    """`Finetuner` with a LoRA, on latents and contexts that are computed ahead."""

    def __init__(self, job: TeachJob):
        config = dataclass_from(ModelConfig, job.config, "the job")
        self.job, self.config = job, config
        # As `teach` has it: the networks that are not taught are not in memory.
        network = DiffusionModel(config.diffusion_model, dtype=policy(job.precision))
        model = types.SimpleNamespace(
            config=config, diffusion_model=network, dtype_policy=network.dtype_policy
        )
        self.trainer = Finetuner(
            model, LoRA(rank=RANK), remat=job.remat, reads_tokens=False
        )
        jit_compile = job.jit_compile if job.jit_compile != "openvino" else "auto"
        self.trainer.compile(
            keras.optimizers.AdamW(
                LEARNING_RATE, weight_decay=DECAY, global_clipnorm=CLIP
            ),
            jit_compile=jit_compile,
        )
        self.facts = {
            "version": kerasdiffusion.__version__,
            "backend": f"keras {keras.__version__} on {keras.backend.backend()}",
            "trained": sum(
                int(np.prod(each.shape)) for each in self.trainer.trainable_variables
            ),
        }
        self._random = np.random.default_rng(0)

    def step(self) -> float:
        job, config = self.job, self.config
        pixels = config.autoencoder.downsampling
        tokens = config.tokenizer.context_length
        shapes = {
            "latents": (
                job.height // pixels,
                job.width // pixels,
                config.autoencoder.latent_channels,
            ),
            "context": (tokens, config.diffusion_model.context_width),
        }
        if config.text_encoder_2 is not None:
            shapes["pooled"] = (config.text_encoder_2.projection_width,)
        batch = {
            name: self._random.normal(size=(job.batch_size, *shape)).astype("float32")
            for name, shape in shapes.items()
        }
        return float(self.trainer.train_on_batch(batch))
