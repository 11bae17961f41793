"""`kerasdiffusion adapter` and `show` on files, without a framework."""

import subprocess
import sys

import numpy as np
import pytest

from kerasdiffusion.adapters.combine import extracted
from kerasdiffusion.adapters.namespaces import namespace
from kerasdiffusion.adapters.read import read_adapter
from kerasdiffusion.apps.adapter import split_weight
from kerasdiffusion.apps.cli import main
from kerasdiffusion.presets.families import SD1
from tests.adapters import files
from tests.tiny import TINY

Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


def sd1(folder, name, seed=0, rank=4):
    """A LoRA of one layer of Stable Diffusion 1."""
    up, down = files.lora(np.random.default_rng(seed), (320, 320), rank)
    stem = f"lora_unet_{Q.replace('.', '_')}"
    tensors = {f"{stem}.lora_up.weight": up, f"{stem}.lora_down.weight": down}
    return files.save(folder, name, tensors)


def difference(path):
    (entry,) = read_adapter(path, SD1).entries
    return entry.change.difference({})


@pytest.mark.parametrize("text, parts", [
    ("a.safetensors:0.7", ("a.safetensors", 0.7)),
    ("a.safetensors", ("a.safetensors", 1.0)),
    ("a:-1", ("a", -1.0)),
    ("hf://owner/name", ("hf://owner/name", 1.0)),
])  # fmt: skip
def test_files_with_weights(text, parts):
    assert split_weight(text) == parts


def test_convert_merge_and_resize(tmp_path, capsys):
    one, two = sd1(tmp_path, "a"), sd1(tmp_path, "b", 1, 6)
    out = tmp_path / "out.safetensors"
    arguments = [
        "adapter",
        "convert",
        str(one),
        "-o",
        str(out),
        "--format",
        "diffusers",
    ]
    assert main(arguments) == 0
    np.testing.assert_allclose(difference(out), difference(one), atol=1e-6)
    assert main(arguments) == 1 and "written over" in capsys.readouterr().err
    more = ["--overwrite", "--dtype", "float16"]
    names = [f"{one}:0.7", f"{two}:-0.3"]
    assert main(["adapter", "merge", *names, "-o", str(out), *more]) == 0
    wanted = 0.7 * difference(one) - 0.3 * difference(two)
    np.testing.assert_allclose(difference(out), wanted, atol=2e-3)
    assert (
        main(["adapter", "resize", str(two), "--rank", "2", "-o", str(out), *more]) == 0
    )
    assert np.linalg.matrix_rank(difference(out), tol=1e-2) == 2
    assert main(["show", str(out)]) == 0
    told = capsys.readouterr().out
    assert "kind: LoRA" in told and "rank: 2" in told and "Stable Diffusion 1" in told


def test_wrong_ranks_and_files_are_one_line(tmp_path, capsys):
    one = sd1(tmp_path, "a")
    for arguments, match in (
        (["resize", str(one), "--rank", "0"], "--rank must be 1 or more"),
        (["merge", "nothing:1"], "no such adapter"),
        (["convert", str(one), "--format", "peft"], ""),
    ):
        code = main(["adapter", *arguments, "-o", str(tmp_path / "x")])
        assert code == (1 if match else 0)
        assert match in capsys.readouterr().err


def test_the_difference_of_two_models():
    random = np.random.default_rng(0)
    base, other = {}, {}
    for part, modules in namespace(TINY).modules.items():
        for name, module in modules.items():
            for leaf, shape in module.shapes.items():
                base[part, f"{name}.{leaf}"] = random.normal(size=shape)
    other = dict(base)
    small = random.normal(size=(32, 2)) @ random.normal(size=(2, 32))
    other["diffusion_model", f"{Q}.weight"] = (
        base["diffusion_model", f"{Q}.weight"] + small
    )
    other["diffusion_model", "conv_in.bias"] = (
        base["diffusion_model", "conv_in.bias"] + 1
    )
    found = extracted(
        lambda part, name: base[part, name],
        lambda part, name: other[part, name],
        TINY,
        2,
    )
    keys = {("diffusion_model", Q, "weight"), ("diffusion_model", "conv_in", "bias")}
    assert set(found) == keys
    low = found["diffusion_model", Q, "weight"]
    np.testing.assert_allclose(low.difference({}), small, atol=1e-4)


def test_no_framework_is_loaded(tmp_path):
    one = sd1(tmp_path, "a")
    script = (
        "import sys; from kerasdiffusion.apps.cli import main; "
        f"main(['show', {str(one)!r}]); "
        f"main(['adapter', 'resize', {str(one)!r}, '--rank', '2', '-o', "
        f"{str(tmp_path / 'b.safetensors')!r}]); "
        "print(sorted({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)))"
    )
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert child.stdout.strip().endswith("[]"), child.stdout + child.stderr
