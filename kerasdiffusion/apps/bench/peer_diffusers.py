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
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from kerasdiffusion.apps.bench.worker import GUIDANCE_SCALE, Job
from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.weights import configs
from kerasdiffusion.weights.folders import dataclass_from
from kerasdiffusion.weights.schedule_json import schedule_to_json
from kerasdiffusion.weights.unet_json import unet_to_json


class Library:
    """`StableDiffusionPipeline`, or SDXL's, as it is, channels last.

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
        parts = self._parts(job.folder)
        scheduler = DPMSolverMultistepScheduler.from_config(
            schedule_to_json(self.config.schedule)
        )
        if "text_encoder_2" in parts:
            self.pipeline = StableDiffusionXLPipeline(
                **parts,
                tokenizer=None,
                tokenizer_2=None,
                scheduler=scheduler,
                add_watermarker=False,
            )
        else:
            self.pipeline = StableDiffusionPipeline(
                **parts,
                tokenizer=None,
                scheduler=scheduler,
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            )
        self.stored = torch.float32 if mixed else self.dtype
        self.pipeline.to(self.device, self.stored)
        self.pipeline.set_progress_bar_config(disable=True)
        for part in ("unet", "vae"):
            parts[part].to(memory_format=torch.channels_last)
        self.autocast = (
            (lambda: torch.autocast(self.device, self.dtype))
            if mixed
            else contextlib.nullcontext
        )
        length = self.config.text_encoder.context_length
        self.tokens = torch.arange(length, device=self.device)[None]
        # A prompt ends with the token at which the pooled text is taken.
        last = parts.get("text_encoder_2", parts["text_encoder"]).config
        self.tokens[0, -1] = last.eos_token_id
        self.texts = self._encoded()
        self.facts = {
            "version": diffusers.__version__,
            "backend": f"torch {torch.__version__}, eager, channels last",
        }

    def _parts(self, folder: str | None) -> dict:
        """The networks by their names, from a folder or with random weights."""
        kinds = {
            "text_encoder": CLIPTextModel,
            "text_encoder_2": CLIPTextModelWithProjection,
            "unet": UNet2DConditionModel,
            "vae": AutoencoderKL,
        }
        if self.config.text_encoder_2 is None:
            del kinds["text_encoder_2"]
        if folder is not None:
            return {
                name: kind.from_pretrained(folder, subfolder=name)
                for name, kind in kinds.items()
            }
        values = {
            "unet": unet_to_json(self.config.diffusion_model),
            "vae": configs.vae_to_json(self.config.autoencoder),
        }
        for name in kinds.keys() - values.keys():
            text = configs.text_encoder_to_json(getattr(self.config, name))
            values[name] = CLIPTextConfig(**text)
        return {
            name: getattr(kind, "from_config", kind)(values[name]).eval()
            for name, kind in kinds.items()
        }

    @torch.no_grad()
    def _encoded(self) -> dict:
        """What the pipeline takes of a prompt: context and SDXL's pooled text."""
        pipeline = self.pipeline
        with self.autocast():
            if isinstance(pipeline, StableDiffusionPipeline):
                return {
                    "prompt_embeds": pipeline.text_encoder(self.tokens)[0].to(
                        self.stored
                    )
                }
            first, second = (
                encoder(self.tokens, output_hidden_states=True)
                for encoder in (pipeline.text_encoder, pipeline.text_encoder_2)
            )
        context = [each.hidden_states[-2] for each in (first, second)]
        return {
            "prompt_embeds": torch.cat(context, -1).to(self.stored),
            "pooled_prompt_embeds": second.text_embeds.to(self.stored),
        }

    def picture(self) -> None:
        negative = self._encoded()
        with self.autocast():
            self.pipeline(
                **self._encoded(),
                **{f"negative_{name}": text for name, text in negative.items()},
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
        conditions = self.conditions(len(latents))
        with self.autocast():
            for _ in range(count):
                prediction = self.pipeline.unet(latents, 500, **conditions).sample
                unconditional, conditional = prediction.chunk(2)
                guided = unconditional + GUIDANCE_SCALE * (conditional - unconditional)
        guided.cpu()

    def conditions(self, count: int) -> dict:
        """What the U-Net takes beside latents and timestep, for `count` of them."""
        context, *pooled = self.texts.values()
        found = {"encoder_hidden_states": context.expand(count, -1, -1)}
        if pooled:
            size = self.job.height, self.job.width
            sizes = torch.tensor([[*size, 0, 0, *size]], device=self.device)
            found["added_cond_kwargs"] = {
                "text_embeds": pooled[0].expand(count, -1),
                "time_ids": sizes.expand(count, -1).to(self.stored),
            }
        return found

    @torch.no_grad()
    def decode(self, count: int) -> None:
        latents = self._latents(1)
        with self.autocast():
            for _ in range(count):
                picture = self.pipeline.vae.decode(latents).sample
        picture.cpu()

    def encode(self, count: int) -> None:
        for _ in range(count):
            texts = self._encoded()
        texts["prompt_embeds"].cpu()

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
