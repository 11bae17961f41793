"""One denoising step, compiled for TPUs that need not be there: what it will take."""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version

from kerasdiffusion.apps import options
from kerasdiffusion.apps.bench import compile_teaching
from kerasdiffusion.compute import tpu

GIB = 2**30


def topology(text: str) -> tuple[str, str]:
    """`tpu:v5e:2x2` as `("v5e", "2x2")`, for argparse."""
    kind, _, rest = text.partition(":")
    chip, _, shape = rest.partition(":")
    sides = shape.split("x")
    if kind != "tpu" or chip not in tpu.CHIPS or not all(map(str.isdigit, sides)):
        raise argparse.ArgumentTypeError(
            "a topology is tpu:CHIP:AxB with a chip of "
            f"{', '.join(tpu.CHIPS)}, as tpu:v5e:2x2. Received: {text!r}"
        )
    return chip, shape


def run(args: argparse.Namespace) -> int:
    """Compiles a step for each batch, and prints the table."""
    from kerasdiffusion.presets.named import find_preset

    if args.backend not in (None, "jax"):
        raise ValueError(
            f"`--compile-for` runs on JAX. Received: --backend {args.backend}"
        )
    options.set_backend("jax")
    tpu.prepare_environment(*args.compile_for)  # before anything imports JAX
    source, config = find_preset(args.preset)
    if config is None:
        from kerasdiffusion.weights.load import read_config

        config = read_config(source)
    generation = config.generation
    height, width = args.size or (generation.height, generation.width)
    precision = "bfloat16" if args.precision == "auto" else args.precision
    mesh = tpu.topology_mesh(*args.compile_for)
    batches = args.chip_batch or [1]
    if args.only == (compile_teaching.NAME,):
        return compile_teaching.run(args, config, (height, width), mesh, batches)
    columns = []
    for batch in batches:
        print(f"Compiling a step of {batch} a chip ...", file=sys.stderr)
        begun = time.perf_counter()
        found = compile_step(
            config, (height, width), precision, mesh, batch, args.shard_weights
        )
        seconds = time.perf_counter() - begun
        columns.append(found | {"compile": seconds})
    chip, shape = args.compile_for
    print(
        f"{args.preset}, one guided step, {width}x{height}, {precision}, weights "
        f"{'shared out' if args.shard_weights else 'whole on each chip'}\n"
        f"tpu:{chip}:{shape}, {mesh.size} chips; jax {version('jax')}, "
        f"libtpu {version('libtpu')}; figures are of one chip\n"
    )
    print(table(tpu.CHIPS[chip], batches, columns))
    write(args.json, batches, columns)
    return 0


def write(path, names: Sequence, columns: Sequence[dict]) -> None:
    """Writes the figures as JSON, where a file is named."""
    if path is not None:
        rows = dict(zip(map(str, names), columns, strict=True))
        path.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")


def compile_step(config, size, precision, mesh, batch: int, shard_weights: bool):
    """Compiles a guided step of the U-Net, as `sampling.loop` has it, without a value.

    Args:
        config: A `ModelConfig`.
        size: Height and width in pixels.
        precision: The name of a dtype policy.
        mesh: As from `tpu.topology_mesh`.
        batch: Pictures of each chip.
        shard_weights: As in `tpu.compile_for`.

    Returns:
        What `tpu.compile_for` finds of it.
    """
    import jax

    from kerasdiffusion.models.diffusion_model import DiffusionModel
    from kerasdiffusion.sampling import loop
    from kerasdiffusion.sampling.denoiser import VARYING, denoiser
    from kerasdiffusion.sampling.table import HISTORY, NUM_COLUMNS

    net = config.diffusion_model
    with tpu.abstract_weights():
        network = DiffusionModel(net, dtype=precision)

    def step(branches, scale, x, anchor, history, row, noise):
        denoise = denoiser(network, branches, scale)
        return tuple(loop.step(denoise, loop.Carry(x, anchor, history), row, noise)[:3])

    shape_of = functools.partial(jax.ShapeDtypeStruct, dtype="float32")
    count = batch * mesh.size
    pixels = config.autoencoder.downsampling
    latents = (count, size[0] // pixels, size[1] // pixels, net.out_channels)
    branch = {
        key: (count, *shape)
        for key, shape in network.input_shapes().items()
        if key not in ("latents", "timestep")
    }
    branch["crossattn"] = count, config.tokenizer.context_length, net.context_width
    if net.in_channels > net.out_channels:
        branch["concat"] = (*latents[:3], net.in_channels - net.out_channels)
    # What varies from row to row has its variants first, of which there is one here.
    axes = {key: int(key in VARYING) for key in branch}
    branch = {key: (1,) * axes[key] + shape for key, shape in branch.items()}
    shapes = [[branch] * 2, (), latents, latents, (HISTORY, *latents)]
    shapes += [(NUM_COLUMNS,), latents]
    args = jax.tree.map(shape_of, shapes, is_leaf=lambda x: type(x) is tuple)
    return tpu.compile_for(
        mesh, step, [network], args, [[axes] * 2, -1, 0, 0, 1, -1, 0], shard_weights
    )


def table(chip: tpu.Chip, batches: Sequence[int], columns: Sequence[dict]) -> str:
    """The figures of all batches side by side.

    Args:
        chip: What it was compiled for.
        batches: Pictures of each chip.
        columns: What `tpu.compile_for` found of each, and seconds of `"compile"`.

    Returns:
        Lines of text, without a last line break.
    """
    rows = [["pictures a chip", *map(str, batches)]]

    def add(label, value, digits):
        rows.append([label, *(f"{value(each):.{digits}f}" for each in columns)])

    for name in ("arguments", "temporaries", "outputs"):
        add(f"{name}, GiB", lambda each, name=name: each[name] / GIB, 2)
    add("memory used, %", lambda each: 100 * memory(each) / chip.memory, 0)
    add("TFLOP a step", lambda each: each["flops"] / 1e12, 2)
    add("GB a step", lambda each: each["bytes"] / 1e9, 1)
    add("  arithmetic, ms", lambda each: 1e3 * each["flops"] / chip.flops, 1)
    add("  traffic, ms", lambda each: 1e3 * each["bytes"] / chip.bandwidth, 1)
    add("roofline, ms a step", lambda each: 1e3 * roofline(each, chip), 1)
    for name in tpu.COLLECTIVES:
        add(name, lambda each, name=name: each[name], 0)
    add("compiled in, s", lambda each: each["compile"], 0)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0])]
            + [x.rjust(n) for x, n in zip(row[1:], widths[1:], strict=True)]
        )
        for row in rows
    )


def memory(facts: dict) -> float:
    """Bytes of a chip's memory that a program takes."""
    return facts["arguments"] + facts["temporaries"] + facts["outputs"]


def roofline(facts: dict, chip: tpu.Chip) -> float:
    """Seconds that a program takes at least."""
    return max(facts["flops"] / chip.flops, facts["bytes"] / chip.bandwidth)
