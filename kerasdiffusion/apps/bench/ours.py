"""This library, as the benchmark drives it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from kerasdiffusion import __version__
from kerasdiffusion.apps.bench.spans import SPANS as SPANS
from kerasdiffusion.apps.bench.worker import GUIDANCE_SCALE, PROMPT, Job
from kerasdiffusion.compute import backend, devices
from kerasdiffusion.networks.parts import read_tokenizer
from kerasdiffusion.presets.named import find_preset
from kerasdiffusion.requests.request import Request
from kerasdiffusion.sampling import loop
from kerasdiffusion.sampling.driver import CAPACITY, cut_window
from kerasdiffusion.sampling.samplers import make_table
from kerasdiffusion.tasks.stable_diffusion import StableDiffusion
from kerasdiffusion.weights import WeightsError, hub, load


class Library:
    """`StableDiffusion` with the programs that it compiles for itself."""

    def __init__(self, job: Job):
        self.job = job
        by_openvino = job.library.endswith("openvino")
        options = {
            "img_height": job.height,
            "img_width": job.width,
            "jit_compile": "openvino" if by_openvino else job.jit_compile,
            "precision": job.precision,
        }
        source, known = find_preset(job.preset)
        if by_openvino and job.folder:  # what another process of this library has read
            source, known = job.folder, None
        folder = None if job.random_weights else on_disk(source, known)
        if folder is None:
            config = known or load.read_config(source)
            options |= {"weights": None, "config": config}
            if not known:
                options["tokenizer"] = read_tokenizer([source], config)
            self.model = StableDiffusion(**options)
            with backend.empty_weights():
                self.model.build()
            fill(self.model.variables)
        else:
            # As a newcomer's first picture: weights are read when it is made.
            self.model = StableDiffusion(weights=source, **options)
        is_folder = folder is not None and (folder / "model_index.json").is_file()
        self.facts = {
            "version": __version__,
            "backend": self._backend(),
            "accelerator": backend.has_accelerator(),
            "precision": self.model.precision,
            "jit_compile": self.model.compiler,
            "height": self.model.img_height,
            "width": self.model.img_width,
            "random_weights": folder is None,
            "folder": str(folder) if is_folder else None,
            "config": dataclasses.asdict(self.model.config),
        }

    def _backend(self) -> str:
        """What computes, in words."""
        name = keras.backend.backend()
        words = [f"{name} {version(name)}", f"keras {keras.__version__}"]
        if self.model.compiler == "openvino":
            words.append(f"OpenVINO {version('openvino')}")
        return ", ".join(words)

    def picture(self) -> None:
        self.model.text_to_image(
            PROMPT,
            None,
            self.job.batch_size,
            self.job.steps,
            GUIDANCE_SCALE,
            0,
            progress_bar=False,
        )

    def network(self, count: int) -> None:
        program = self.model.program("denoise")
        carry = program(*self._denoising, np.int32(0), np.int32(count), ())
        backend.to_numpy(carry.x)

    def decode(self, count: int) -> None:
        program = self.model.program("decode")
        for _ in range(count):
            pictures = program(self._latents[:1])
        backend.to_numpy(pictures)

    def encode(self, count: int) -> None:
        for _ in range(count):
            self.model.encode_text(PROMPT)

    def device_memory(self) -> int | None:
        return devices.peak_device_memory()

    @cached_property
    def _latents(self) -> np.ndarray:
        shape = (self.job.batch_size, *self.model.latent_shape)
        return np.random.default_rng(0).standard_normal(shape, "float32")

    @cached_property
    def _denoising(self) -> tuple:
        """What the denoising program takes, but for the first and the last row."""
        table = make_table(self.model.config.schedule, "euler", CAPACITY)
        no_noise = np.zeros((0, *self._latents.shape), "float32")
        rows, noise = cut_window(table, no_noise, 0)
        count = self.job.batch_size
        request = Request(
            task="text_to_image",
            prompt=[PROMPT] * count,
            negative_prompt=PROMPT,
            unconditional_guidance_scale=GUIDANCE_SCALE,
            seed=0,
        )
        *_, branches, shares = next(self.model.plan(request).paint(None))
        carry = loop.start(self._latents * np.float32(table.initial_scale))
        scale = np.float32(GUIDANCE_SCALE)
        return branches, scale, shares, {}, [], carry, rows, noise


def fill(variables: Iterable[keras.Variable]) -> None:
    """Random weights by numpy: JAX compiles a program for each shape of Keras's own."""
    noise = np.random.default_rng(0).standard_normal(2**20, "float32")
    for variable in variables:
        if len(variable.shape) > 1:  # what begins as ones or zeros stays so
            fan_in = math.prod(variable.shape[:-1])
            variable.assign(np.resize(noise / math.sqrt(fan_in), variable.shape))


def on_disk(source, known) -> Path | None:
    """Where the weights are; `None` for a preset of the hub that is not here."""
    try:
        return hub.resolve(source)
    except WeightsError:
        if known is None:
            raise
        return None
