"""diffusers under `torch.compile`, as the benchmark drives it."""

from __future__ import annotations

import torch
from torch._inductor import config

from kerasdiffusion.apps.bench import peer_diffusers
from kerasdiffusion.apps.bench.worker import Job


class Library(peer_diffusers.Library):
    """The pipeline whose U-Net and decoder are compiled, channels last.

    On a CPU their weights are frozen into the program, on a GPU kernels are chosen by
    trying them out: each its fastest way.

    Reference:
        huggingface.co/docs/diffusers/optimization/fp16, "torch.compile";
        pytorch.org/docs, `torch._inductor.config.freezing`.
    """

    def __init__(self, job: Job):
        super().__init__(job)
        on_gpu = self.device == "cuda"
        options = {"mode": "max-autotune"} if on_gpu else {}
        if not on_gpu:
            config.freezing = True
        unet, vae = self.pipeline.unet, self.pipeline.vae
        unet.forward = torch.compile(unet.forward, dynamic=False, **options)
        vae.decode = torch.compile(vae.decode, dynamic=False, **options)
        how = "max-autotune" if on_gpu else "frozen"
        self.facts["backend"] = (
            f"torch {torch.__version__}, torch.compile, {how}, channels last"
        )
