"""diffusers' networks converted by OpenVINO, as optimum-intel runs them.

`python -m kerasdiffusion.apps.bench.peer_openvino JOB FOLDER` converts them, which is
done once for a model and not measured.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import openvino
import torch

from kerasdiffusion.apps.bench import peer_diffusers
from kerasdiffusion.apps.bench.worker import Job

NETWORKS = ("text_encoder", "unet", "decoder")


class Library(peer_diffusers.Library):
    """diffusers' pipeline around networks that OpenVINO reads, compiles and runs."""

    device = "cpu"

    def __init__(self, job: Job):
        # The pipeline's own numbers are float32.
        self.hint = "bf16" if "bfloat16" in job.precision else "f32"
        super().__init__(dataclasses.replace(job, precision="float32"))
        self.facts["backend"] = (
            f"OpenVINO {openvino.__version__}, {self.hint}; "
            f"diffusers' networks of torch {torch.__version__}"
        )

    def _parts(self, folder: str | None):
        with torch.device("meta"):  # the weights are OpenVINO's
            parts = super()._parts(None)
        core = openvino.Core()
        options = {"INFERENCE_PRECISION_HINT": self.hint, "PERFORMANCE_HINT": "LATENCY"}
        text_encoder, unet, decoder = (
            core.compile_model(Path(self.job.converted, f"{name}.xml"), "CPU", options)
            for name in NETWORKS
        )

        def run(program, *inputs):
            arrays = [each.contiguous().numpy() for each in inputs]
            return Output([torch.from_numpy(program(arrays)[0])])

        def predict(sample, timestep, encoder_hidden_states, **ignored):
            timestep = torch.as_tensor(timestep, dtype=torch.float32)
            return run(unet, sample, timestep.reshape(1), encoder_hidden_states)

        def decode(latents, **ignored):  # one at a time
            return Output([torch.cat([run(decoder, x[None])[0] for x in latents])])

        for part in parts.values():
            part.to_empty(device="cpu")
            part.to = lambda *args, **options: None
        parts["text_encoder"].forward = lambda tokens, **ignored: run(
            text_encoder, tokens
        )
        parts["unet"].forward = predict
        parts["vae"].decode = decode
        return parts


class Output(tuple):
    """A tuple whose first is `sample` too, as diffusers has it."""

    @property
    def sample(self):
        return self[0]


class _Calls(torch.nn.Module):
    """A network by one of its functions, for the tracer."""

    def __init__(self, network: torch.nn.Module, function: Callable):
        super().__init__()
        self.network, self.function = network, function

    def forward(self, *inputs):
        return self.function(*inputs, return_dict=False)[0]


@torch.no_grad()
def convert(job: Job, folder: str) -> None:
    """Writes the networks as OpenVINO's files.

    Args:
        job: What to measure: its geometry is the files', its weights those of its
            folder or random ones.
        folder: Where to; `Job.converted` of the job that measures.
    """
    library = peer_diffusers.Library(dataclasses.replace(job, precision="float32"))
    text_encoder, unet, vae = (
        getattr(library.pipeline, name) for name in ("text_encoder", "unet", "vae")
    )
    latents = library._latents(2 * job.batch_size)
    context = library.conditions(len(latents))["encoder_hidden_states"]
    given = (
        (_Calls(text_encoder, text_encoder), (library.tokens,)),
        (_Calls(unet, unet), (latents, torch.tensor([500.0]), context)),
        (_Calls(vae, vae.decode), (latents[:1],)),
    )

    def small(x):  # the tracer runs what it traces
        return x[:, :, :16, :16] if x.ndim == 4 else x

    for name, (network, inputs) in zip(NETWORKS, given, strict=True):
        shapes = [list(each.shape) for each in inputs]
        examples = tuple(map(small, inputs))
        # As optimum-intel stores them: half the size of float32.
        openvino.save_model(
            openvino.convert_model(network, input=shapes, example_input=examples),
            Path(folder, f"{name}.xml"),
            compress_to_fp16=job.precision != "float32",
        )


if __name__ == "__main__":
    convert(Job(**json.loads(sys.argv[1])), sys.argv[2])
