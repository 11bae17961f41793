"""A training step, compiled for TPUs that need not be there: what it will take."""

from __future__ import annotations

import sys
import time
import types
from importlib.metadata import version

from kerasdiffusion.compute import tpu

NAME = "teach"
#: What is taught, by its name: whether an adapter is, whether it is checkpointed, and
#: the precision. (A model's own weights are taught in float32.)
KINDS = {
    "LoRA": (True, False, "bfloat16"),
    "LoRA, checkpointed": (True, True, "bfloat16"),
    "whole, checkpointed": (False, True, "mixed_bfloat16"),
}
RANK = 16


def run(args, config, size, mesh, batches) -> int:
    """Compiles a step of each kind for each batch, and prints the table.

    Args:
        args: The command's.
        config: A `ModelConfig`.
        size: Height and width in pixels.
        mesh: As from `tpu.topology_mesh`.
        batches: Pictures of each chip.
    """
    from kerasdiffusion.apps.bench import compile_for

    names, columns = [], []
    for batch in batches:
        for kind in KINDS:
            print(f"Compiling {kind}, {batch} a chip ...", file=sys.stderr)
            begun = time.perf_counter()
            found = compile_step(config, size, kind, mesh, batch, args.shard_weights)
            seconds = time.perf_counter() - begun
            names.append(f"{kind}: {batch}")
            columns.append(found | {"compile": seconds})
            compile_for.write(
                args.json, names, columns
            )  # some take a quarter of an hour
    chip, shape = args.compile_for
    print(
        f"{args.preset}, a training step by AdamW, {size[1]}x{size[0]}, a LoRA of rank "
        f"{RANK} on attention or the U-Net's own weights, weights "
        f"{'shared out' if args.shard_weights else 'whole on each chip'}\n"
        f"tpu:{chip}:{shape}, {mesh.size} chips; jax {version('jax')}, "
        f"libtpu {version('libtpu')}; figures are of one chip\n"
    )
    print(compile_for.table(tpu.CHIPS[chip], names, columns))
    return 0


def compile_step(config, size, kind: str, mesh, batch: int, shard_weights: bool):
    """Compiles a step of `Finetuner` as `fit()` runs it, without a value.

    Args:
        config: A `ModelConfig`.
        size: Height and width in pixels.
        kind: One of `KINDS`.
        mesh: As from `tpu.topology_mesh`.
        batch: Pictures of each chip.
        shard_weights: As in `tpu.compile_for`.

    Returns:
        What `tpu.compile_training` finds of it.
    """
    import jax
    import keras

    from kerasdiffusion.models.diffusion_model import DiffusionModel
    from kerasdiffusion.training.finetuning.finetuner import Finetuner
    from kerasdiffusion.training.finetuning.learned import LoRA

    adapts, remat, precision = KINDS[kind]
    optimizer = keras.optimizers.AdamW(1e-4, global_clipnorm=1.0)  # has values at once
    with tpu.abstract_weights():
        network = DiffusionModel(config.diffusion_model, dtype=precision)
        model = types.SimpleNamespace(
            config=config, diffusion_model=network, dtype_policy=network.dtype_policy
        )
        adapter = LoRA(rank=RANK) if adapts else None
        trainer = Finetuner(model, adapter, remat=remat, reads_tokens=False)
        trainer.compile(optimizer)
        trainer.optimizer.build(trainer.trainable_variables)
    pixels, count = config.autoencoder.downsampling, batch * mesh.size
    shapes = {
        "latents": (size[0] // pixels, size[1] // pixels, network.config.out_channels),
        "context": (config.tokenizer.context_length, network.config.context_width),
    }
    if config.text_encoder_2 is not None:
        shapes["pooled"] = (config.text_encoder_2.projection_width,)
    batch = {
        key: jax.ShapeDtypeStruct((count, *shape), "float32")
        for key, shape in shapes.items()
    }
    return tpu.compile_training(mesh, trainer, batch, shard_weights)
