"""Adapters, measured: loading, switching, and what a picture then takes."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from kerasdiffusion.adapters.namespaces import namespace
from kerasdiffusion.apps.bench.worker import Job

NAME, RANK, STEPS = "adapters", 32, 4
#: The layers that trainers change by default: attention, perceptrons, projections.
LAYERS = ("attn1.", "attn2.", "ff.net", "proj_in", "proj_out", "self_attn.", "mlp.")
KOHYA = {"diffusion_model": "lora_unet", "text_encoder": "lora_te"}


def write_lora(path: Path, config, seed: int) -> Path:
    """A LoRA of random numbers in float16, as kohya's trainer writes it."""
    from safetensors.numpy import save_file

    random, tensors = np.random.default_rng(seed), {}
    for part, start in KOHYA.items():
        for name, module in namespace(config).modules[part].items():
            shape = module.shapes["weight"]
            if len(shape) < 2 or not any(layer in f"{name}." for layer in LAYERS):
                continue
            stem, sides = f"{start}_{name.replace('.', '_')}", shape[2:]
            up = random.normal(size=(shape[0], RANK, *(1 for _ in sides)))
            down = random.normal(size=(RANK, *shape[1:]))
            tensors[f"{stem}.lora_up.weight"] = (0.01 * up).astype("float16")
            tensors[f"{stem}.lora_down.weight"] = (0.01 * down).astype("float16")
            tensors[f"{stem}.alpha"] = np.array(RANK, "float16")
    save_file(tensors, path)
    return path


def _seconds(call: Callable) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def measure(job: Job, peers) -> list[str]:
    """Lines with medians of seconds, this library's and diffusers' in turn.

    Args:
        job: The model, and how often each is repeated.
        peers: Which of them; diffusers alone is known here.

    Raises:
        ValueError: If the model has two text encoders, or a peer is another.
    """
    from kerasdiffusion.apps.bench import ours

    if set(peers) - {"diffusers"}:
        raise ValueError(
            f"Adapters are measured beside diffusers. Received: {', '.join(peers)}"
        )
    model = ours.Library(job).model
    if model.config.text_encoder_2 is not None:
        raise ValueError(
            "Adapters are measured with one text encoder. Received: a model of two"
        )
    model.build()
    repeats, found = max(job.repeats, 1), {}
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            write_lora(Path(folder, f"{name}.safetensors"), model.config, seed)
            for seed, name in enumerate("abc")
        ]
        runs = {"kerasdiffusion": _ours(model, paths)}
        if peers:
            same = dataclasses.replace(job, **_facts(model))
            runs["diffusers"] = _diffusers(same, paths)
        for _ in range(repeats + 1):  # the first warms up
            for library, calls in runs.items():
                for name, prepare, call in calls:
                    prepare()
                    found.setdefault((name, library), []).append(_seconds(call))
        medians = {key: statistics.median(each[1:]) for key, each in found.items()}
        return [*told(medians), *_pictures(model, paths, repeats)]


def told(medians: Mapping[tuple[str, str], float]) -> list[str]:
    """Lines of seconds by what is done and by whom, ours with their share of the other.

    Example:

    >>> told({("load", "diffusers"): 2.0, ("load", "kerasdiffusion"): 0.5})
    ['load, diffusers: 2.000 s', 'load, kerasdiffusion: 0.500 s (0.250)']
    """
    lines = []
    for (name, library), seconds in sorted(medians.items()):
        line, other = f"{name}, {library}: {seconds:.3f} s", (name, "diffusers")
        if other in medians and library != "diffusers":
            line += f" ({seconds / medians[other]:.3f})"
        lines.append(line)
    return lines


def _facts(model) -> dict:
    return {
        "library": "diffusers",
        "precision": model.precision,
        "config": dataclasses.asdict(model.config),
        "height": model.img_height,
        "width": model.img_width,
        "random_weights": True,
        "folder": None,
    }


def _ours(model, paths):
    """What is done ahead, and what is timed, by name."""

    def both():
        model.remove_adapter()
        model.load_adapter(paths[0], name="a")
        model.load_adapter(paths[1], 0.0, name="b")

    return (
        ("load and apply", model.remove_adapter, lambda: model.load_adapter(paths[0])),
        ("switch to another", both, lambda: model.set_adapters("b")),
    )


def _diffusers(job: Job, paths):
    from kerasdiffusion.apps.bench import peer_diffusers

    pipeline = peer_diffusers.Library(job).pipeline

    def bare():
        pipeline.unfuse_lora() if pipeline.num_fused_loras else None
        pipeline.unload_lora_weights()

    def load():
        pipeline.load_lora_weights(paths[0], adapter_name="a")
        pipeline.fuse_lora(adapter_names=["a"])

    def both():
        bare()
        load()
        pipeline.load_lora_weights(paths[1], adapter_name="b")

    def switch():
        pipeline.unfuse_lora()
        pipeline.set_adapters(["b"])
        pipeline.fuse_lora(adapter_names=["b"])

    return ("load and apply", bare, load), ("switch to another", both, switch)


def _pictures(model, paths, repeats: int) -> list[str]:
    """A picture of a few steps without adapters and with three, in turn."""
    seconds: dict[int, list] = {0: [], 3: []}

    def paint():
        model.text_to_image(
            "an apple", num_steps=STEPS, seed=1, progress_bar=False, batch_size=1
        )

    model.remove_adapter()
    for i, path in enumerate(paths):
        model.load_adapter(path, name=f"{i}")
    for _ in range(repeats + 1):
        for count, own in seconds.items():
            model.set_adapters([f"{i}" for i in range(count)])
            own.append(_seconds(paint))
    plain, three = (statistics.median(own[1:]) for own in seconds.values())
    return [
        f"picture of {STEPS} steps, without adapters: {plain:.3f} s",
        f"picture of {STEPS} steps, with three: {three:.3f} s ({three / plain:.3f})",
    ]
