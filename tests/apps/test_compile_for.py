"""`kerasdiffusion bench --compile-for`: what a step takes on chips elsewhere."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kerasdiffusion.apps.bench import compile_for
from kerasdiffusion.apps.cli import main
from kerasdiffusion.compute import tpu

NEEDS_LIBTPU = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("jax", "libtpu")),
    reason="libtpu is not installed",
)


def facts(**changes):
    found = {
        "arguments": 2 * 2**30,
        "temporaries": 2**30,
        "outputs": 2**29,
        "flops": 197e9,
        "bytes": 8.19e9,
        "compile": 12.3,
        **dict.fromkeys(tpu.COLLECTIVES, 0),
    }
    return found | changes


def test_the_table_reads_the_roofline():
    columns = [facts(), facts(**{"flops": 19.7e12, "all-gather": 7})]
    text = compile_for.table(tpu.CHIPS["v5e"], [1, 8], columns)
    lines = text.splitlines()
    rows = {line[:20].strip(): line.split()[-2:] for line in lines}
    assert rows["pictures a chip"] == ["1", "8"]
    assert rows["arguments, GiB"] == ["2.00", "2.00"]
    assert rows["memory used, %"] == ["23", "23"]  # 3.5 GiB of 16 GB
    assert rows["arithmetic, ms"] == ["1.0", "100.0"]
    assert rows["traffic, ms"] == ["10.0", "10.0"]
    assert rows["roofline, ms a step"] == ["10.0", "100.0"]
    assert rows["all-gather"] == ["0", "7"]


@pytest.mark.parametrize("text", ["v5e:2x2", "tpu:v4:2x2", "tpu:v5e", "tpu:v5e:2by2"])
def test_a_topology_is_checked(text, capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--compile-for", text])
    error = capsys.readouterr().err
    assert "a topology is tpu:CHIP:AxB with a chip of v5e, v6e" in error
    assert f"Received: {text!r}" in error


def compiled_for(preset, *options, tmp_path, chip="v5e"):
    """The facts by batch, from a process whose JAX has seen no other device."""
    file = tmp_path / "facts.json"
    command = [*("bench", "--preset", preset, "--json", str(file)), *options]
    child = subprocess.run(
        [sys.executable, "-m", "kerasdiffusion", *command]
        + ["--compile-for", f"tpu:{chip}:2x2"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={k: v for k, v in os.environ.items() if k != "XLA_FLAGS"},
    )
    assert child.returncode == 0, child.stderr
    return child.stdout, json.loads(file.read_text("utf-8"))


@NEEDS_LIBTPU
def test_a_step_is_compiled_for_chips_that_are_not_here(assets, tmp_path):
    preset, options = str(assets / "emoji"), ("--chip-batch", "2")
    text, whole = compiled_for(preset, *options, tmp_path=tmp_path)
    assert "tpu:v5e:2x2, 4 chips" in text and "weights whole on each chip" in text
    _, shared = compiled_for(preset, *options, "--shard-weights", tmp_path=tmp_path)
    whole, shared = whole["2"], shared["2"]
    assert shared["arguments"] < 0.6 * whole["arguments"]
    assert whole["flops"] > 1e6 and whole["bytes"] > 1e5 and whole["temporaries"] > 0
    # Each chip has all branches of its pictures: nothing passes between them.
    assert not any(whole[name] for name in tpu.COLLECTIVES)
    assert sum(shared[name] for name in tpu.COLLECTIVES) > 0


@pytest.mark.heavy
@NEEDS_LIBTPU
def test_a_training_step_is_compiled_for_chips_that_are_not_here(assets, tmp_path):
    preset = str(assets / "emoji")
    text, found = compiled_for(preset, "--only", "teach", tmp_path=tmp_path)
    assert "a training step by AdamW" in text
    plain, checkpointed, whole = (
        found[f"{kind}: 1"]
        for kind in ("LoRA", "LoRA, checkpointed", "whole, checkpointed")
    )
    assert checkpointed["flops"] > 1.1 * plain["flops"]
    # The weights, in float32, and two moments of each.
    assert whole["arguments"] > 5 * plain["arguments"]
    # The new state has the old one's memory.
    assert whole["outputs"] < 0.1 * whole["arguments"]
    assert whole["all-reduce"] > 0


@NEEDS_LIBTPU
@pytest.mark.full_size
@pytest.mark.timeout(7200)
def test_stable_diffusion_fits_a_v5e(tmp_path):
    batches = ["--chip-batch=1", "--chip-batch=4", "--chip-batch=8"]
    _, found = compiled_for("sd1.5", *batches, tmp_path=tmp_path)
    assert set(found) == {"1", "4", "8"}
    for each in found.values():
        assert 1.5 * 2**30 < compile_for.memory(each) < tpu.CHIPS["v5e"].memory
    assert found["8"]["bytes"] < 81.9e9 / 2  # KerasCV's U-Net, halved
