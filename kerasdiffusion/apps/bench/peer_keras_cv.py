"""KerasCV, as the benchmark drives it: its own classes, at the one size they have."""

from __future__ import annotations

import contextlib
import os
from importlib.metadata import version

import keras
import keras_cv
import numpy as np
from keras_cv.src.models.stable_diffusion.decoder import Decoder
from keras_cv.src.models.stable_diffusion.diffusion_model import DiffusionModel
from keras_cv.src.models.stable_diffusion.text_encoder import TextEncoder

from kerasdiffusion.apps.bench.worker import GUIDANCE_SCALE, Job
from kerasdiffusion.compute import devices

PROMPT_LENGTH = 77


class Library:
    """`keras_cv.models.StableDiffusion` with random weights.

    Its prompts are token ids: its tokenizer would have to be downloaded.
    """

    def __init__(self, job: Job):
        self.job = job
        keras.config.set_dtype_policy(job.precision)
        by_xla = job.jit_compile is True
        with _no_output():  # a notice about published weights
            self.model = keras_cv.models.StableDiffusion(
                job.height, job.width, jit_compile=by_xla
            )
        size = (job.height, job.width)
        parts = {
            "_text_encoder": TextEncoder(PROMPT_LENGTH, download_weights=False),
            "_diffusion_model": DiffusionModel(
                *size, PROMPT_LENGTH, download_weights=False
            ),
            "_decoder": Decoder(*size, download_weights=False),
        }
        for name, part in parts.items():
            part.compile(jit_compile=by_xla)
            setattr(self.model, name, part)
        tokens = np.arange(PROMPT_LENGTH, dtype="int32")[None]
        self.prompt = {"tokens": tokens, "positions": self.model._get_pos_ids()}
        name = keras.backend.backend()
        self.facts = {
            "version": keras_cv.__version__,
            "backend": f"{name} {version(name)}, keras {keras.__version__}",
        }

    def picture(self) -> None:
        with _no_output():
            self.model.generate_image(
                self._encoded(),
                batch_size=self.job.batch_size,
                num_steps=self.job.steps,
                unconditional_guidance_scale=GUIDANCE_SCALE,
                seed=0,
            )

    def network(self, count: int) -> None:
        batch_size = self.job.batch_size
        inputs = {
            "latent": self._latents(batch_size),
            "timestep_embedding": self.model._get_timestep_embedding(500, batch_size),
            "context": np.zeros((batch_size, PROMPT_LENGTH, 768), "float32"),
        }
        for _ in range(count):
            # KerasCV's guidance calls the U-Net twice.
            unconditional = self.model.diffusion_model.predict_on_batch(inputs)
            conditional = self.model.diffusion_model.predict_on_batch(inputs)
            guided = unconditional + GUIDANCE_SCALE * (conditional - unconditional)
        np.asarray(guided)

    def decode(self, count: int) -> None:
        latents = self._latents(1)
        for _ in range(count):
            self.model.decoder.predict_on_batch(latents)

    def encode(self, count: int) -> None:
        for _ in range(count):
            self._encoded()

    def device_memory(self) -> int | None:
        return devices.peak_device_memory()

    def _encoded(self) -> np.ndarray:
        return self.model.text_encoder.predict_on_batch(self.prompt)

    def _latents(self, count: int) -> np.ndarray:
        shape = (count, self.job.height // 8, self.job.width // 8, 4)
        return np.random.default_rng(0).standard_normal(shape, "float32")


@contextlib.contextmanager
def _no_output():
    """Nothing on stdout: KerasCV has no way to silence its progress bar."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
