"""diffusers' U-Net and PEFT's LoRA on PyTorch, as the benchmark teaches them."""

from __future__ import annotations

import diffusers
import peft
import torch
from diffusers import UNet2DConditionModel

from kerasdiffusion.apps.bench.teach_worker import (
    CLIP,
    DECAY,
    LEARNING_RATE,
    RANK,
    TeachJob,
)
from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.weights.folders import dataclass_from
from kerasdiffusion.weights.unet_json import unet_to_json

#: What diffusers' own scripts change.
MODULES = ["to_k", "to_q", "to_v", "to_out.0"]


class Library:
    """The step of diffusers' `train_text_to_image_lora.py`, on cached latents."""

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def __init__(self, job: TeachJob):
        diffusers.utils.logging.set_verbosity_error()
        config = dataclass_from(ModelConfig, job.config, "the job")
        self.job, self.config = job, config
        # It computes with weights in the dtype that they have, and knows no other way.
        computed = {"float16_weights": "float32"}.get(job.precision, job.precision)
        self.dtype = getattr(torch, computed.removeprefix("mixed_"))
        unet = UNet2DConditionModel.from_config(unet_to_json(config.diffusion_model))
        unet.requires_grad_(False)
        unet.to(self.device, self.dtype)
        unet.add_adapter(
            peft.LoraConfig(
                r=RANK,
                lora_alpha=RANK,
                init_lora_weights="gaussian",
                target_modules=MODULES,
            )
        )
        if job.remat:
            unet.enable_gradient_checkpointing()
        self.unet = unet.train()
        self.factors = [each for each in unet.parameters() if each.requires_grad]
        for each in self.factors:
            each.data = each.data.to(torch.float32)
        self.optimizer = torch.optim.AdamW(
            self.factors, lr=LEARNING_RATE, weight_decay=DECAY
        )
        self.facts = {
            "version": f"{diffusers.__version__}, PEFT {peft.__version__}",
            "backend": f"torch {torch.__version__}, eager",
            "trained": sum(each.numel() for each in self.factors),
        }

    def step(self) -> float:
        job, config = self.job, self.config
        pixels = config.autoencoder.downsampling
        sides = job.height // pixels, job.width // pixels
        shape = job.batch_size, config.diffusion_model.out_channels, *sides
        latents = torch.randn(shape, device=self.device)
        noise = torch.randn_like(latents)
        tokens = config.tokenizer.context_length
        context = torch.randn(
            job.batch_size, tokens, config.diffusion_model.context_width
        )
        with torch.autocast(
            self.device, self.dtype, enabled=self.dtype != torch.float32
        ):
            prediction = self.unet(
                (latents + noise).to(self.dtype),
                torch.randint(0, 1000, (job.batch_size,), device=self.device),
                context.to(self.device, self.dtype),
                added_cond_kwargs=self._added(),
                return_dict=False,
            )[0]
        loss = torch.nn.functional.mse_loss(prediction.float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.factors, CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def _added(self) -> dict:
        """What SDXL's network takes beside."""
        pooled = self.config.text_encoder_2
        if pooled is None:
            return {}
        size = [self.job.height, self.job.width]
        sizes = torch.tensor([[*size, 0, 0, *size]] * self.job.batch_size)
        text = torch.randn(self.job.batch_size, pooled.projection_width)
        return {
            "text_embeds": text.to(self.device, self.dtype),
            "time_ids": sizes.to(self.device, self.dtype),
        }
