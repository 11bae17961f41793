"""Hugging Face's diffusers on PyTorch, as the benchmark drives it."""

from __future__ import annotations

import contextlib

import diffusers
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel

from kerasdiffusion.apps.bench.worker import GUIDANCE_SCALE, Job
from kerasdiffusion.config import ModelConfig
from kerasdiffusion.weights import configs
from kerasdiffusion.weights.folders import dataclass_from
from kerasdiffusion.weights.unet_json import unet_to_json


class Library:
    """`StableDiffusionPipeline` as it is, channels last.

    Its prompts are token ids: tokenizing is the same small work everywhere.
    """

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def __init__(self, job: Job):
        diffusers.utils.logging.set_verbosity_error()
        transformers.utils.logging.set_verbosity_error()
        self.job = job
        self.config = dataclass_from(ModelConfig, job.config, "the job")
        self.dtype = getattr(torch, job.precision.removeprefix("mixed_"))
        mixed = job.precision.startswith("mixed_")
        text_encoder, unet, vae = self._parts(job.folder)
        self.pipeline = StableDiffusionPipeline(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=None,
            unet=unet,
            scheduler=DPMSolverMultistepScheduler.from_config(
                configs.schedule_to_json(self.config.schedule)
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        self.stored = torch.float32 if mixed else self.dtype
        self.pipeline.to(self.device, self.stored)
        self.pipeline.set_progress_bar_config(disable=True)
        for part in (unet, vae):
            part.to(memory_format=torch.channels_last)
        self.autocast = (
            (lambda: torch.autocast(self.device, self.dtype))
            if mixed
            else contextlib.nullcontext
        )
        length = self.config.text_encoder.context_length
        self.tokens = torch.arange(length, device=self.device)[None]
        self.context = self._encoded().to(self.stored)
        self.facts = {
            "version": diffusers.__version__,
            "backend": f"torch {torch.__version__}, eager, channels last",
        }

    def _parts(self, folder: str | None):
        """The three networks, from a folder or with random weights."""
        if folder is not None:
            return (
                CLIPTextModel.from_pretrained(folder, subfolder="text_encoder"),
                UNet2DConditionModel.from_pretrained(folder, subfolder="unet"),
                AutoencoderKL.from_pretrained(folder, subfolder="vae"),
            )
        text_encoder = configs.text_encoder_to_json(self.config.text_encoder)
        return (
            CLIPTextModel(CLIPTextConfig(**text_encoder)).eval(),
            UNet2DConditionModel.from_config(
                unet_to_json(self.config.diffusion_model)
            ).eval(),
            AutoencoderKL.from_config(
                configs.vae_to_json(self.config.autoencoder)
            ).eval(),
        )

    @torch.no_grad()
    def _encoded(self):
        with self.autocast():
            return self.pipeline.text_encoder(self.tokens)[0]

    def picture(self) -> None:
        with self.autocast():
            self.pipeline(
                prompt_embeds=self._encoded().to(self.stored),
                negative_prompt_embeds=self._encoded().to(self.stored),
                num_images_per_prompt=self.job.batch_size,
                num_inference_steps=self.job.steps,
                guidance_scale=GUIDANCE_SCALE,
                height=self.job.height,
                width=self.job.width,
                output_type="np",
            )

    @torch.no_grad()
    def network(self, count: int) -> None:
        latents = self._latents(2 * self.job.batch_size)
        context = self.context.expand(len(latents), -1, -1)
        with self.autocast():
            for _ in range(count):
                prediction = self.pipeline.unet(latents, 500, context).sample
                unconditional, conditional = prediction.chunk(2)
                guided = unconditional + GUIDANCE_SCALE * (conditional - unconditional)
        guided.cpu()

    @torch.no_grad()
    def decode(self, count: int) -> None:
        latents = self._latents(1)
        with self.autocast():
            for _ in range(count):
                picture = self.pipeline.vae.decode(latents).sample
        picture.cpu()

    def encode(self, count: int) -> None:
        for _ in range(count):
            context = self._encoded()
        context.cpu()

    def device_memory(self) -> int | None:
        return torch.cuda.max_memory_allocated() if self.device == "cuda" else None

    def _latents(self, count: int):
        """Noise for `count` pictures."""
        latents = self.config.autoencoder
        shape = (
            count,
            latents.latent_channels,
            self.job.height // latents.downsampling,
            self.job.width // latents.downsampling,
        )
        noise = torch.randn(shape, device=self.device, dtype=self.stored)
        return noise.to(memory_format=torch.channels_last)
