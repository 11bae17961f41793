"""What other readers fall into, see the table in docs/adapters.md.

The rest of its cases stand beside what they are of: `test_read.py`, `test_wild.py`,
`tests/peers/test_adapters_*.py`.
"""

import ml_dtypes
import numpy as np
import pytest

from kerasdiffusion.adapters.read import read_adapter
from kerasdiffusion.weights.base import WeightsError
from tests.adapters import files
from tests.tiny import TINY

Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
STEM = f"lora_unet_{Q.replace('.', '_')}"
RANDOM = np.random.default_rng(0)
UP, DOWN = files.lora(RANDOM, (32, 32))


def normal(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def change(folder, tensors):
    (entry,) = read_adapter(files.save(folder, "x", tensors), TINY).entries
    return entry.change


@pytest.mark.parametrize("alpha, scale", [
    (None, 1.0),
    (np.asarray(2, "float32"), 0.5),
    (np.full(1, 2, "float16"), 0.5),
    (np.asarray(2, ml_dtypes.bfloat16), 0.5),
    (np.asarray(2, "int64"), 0.5),
])  # fmt: skip
@pytest.mark.parametrize("names", [
    ("lora_up.weight", "lora_down.weight", "alpha"),
    ("lora_B.weight", "lora_A.weight", "alpha"),  # diffusers raises
    ("lora_B.weight", "lora_A.weight", "lora_alpha"),  # and passes over these
    ("lora.up.weight", "lora.down.weight", "lora.alpha"),
    ("lora_linear_layer.up.weight", "lora_linear_layer.down.weight",
     "lora_linear_layer.alpha"),
])  # fmt: skip
def test_alpha_counts_under_every_name_and_of_every_dtype(
    names, alpha, scale, tmp_path
):
    keys = [f"unet.{Q}.{name}" for name in names]
    tensors = {keys[0]: UP, keys[1]: DOWN}
    if alpha is not None:
        tensors[keys[2]] = alpha
    found = change(tmp_path, tensors)
    np.testing.assert_allclose(found.difference({}), scale * UP @ DOWN, atol=1e-6)


def test_the_strength_of_dora_is_a_part_of_its_way(tmp_path):
    """LyCORIS at multiplier 0 still has the difference; diffusers reads plain LoRA."""
    magnitude, base = normal(32, 1), {"weight": normal(32, 32)}
    tensors = {
        f"{STEM}.lora_up.weight": UP,
        f"{STEM}.lora_down.weight": DOWN,
        f"{STEM}.dora_scale": magnitude,
    }
    found = change(tmp_path, tensors)
    changed = base["weight"] + UP @ DOWN
    changed *= magnitude / np.linalg.norm(changed, axis=1, keepdims=True)
    whole = found.difference(base)
    np.testing.assert_allclose(whole, changed - base["weight"], atol=1e-5)
    assert not found.difference(base, 0.0).any()
    np.testing.assert_allclose(found.difference(base, 0.3), 0.3 * whole, atol=1e-5)


@pytest.mark.parametrize("strength", [1.0, 0.5, -0.3])
def test_kohyas_oft_turns_once_and_within_its_constraint(strength, tmp_path):
    """ComfyUI applies the strength twice, and the constraint without the width."""
    blocks, alpha, base = 0.3 * normal(4, 8, 8), 0.02, {"weight": normal(32, 32)}
    tensors = {
        f"oft_unet_{Q.replace('.', '_')}.oft_blocks": blocks,
        f"oft_unet_{Q.replace('.', '_')}.alpha": np.asarray(alpha, "float32"),
    }
    skew = (blocks - blocks.swapaxes(1, 2)).astype("float64")
    assert np.linalg.norm(skew) > alpha * 32
    skew *= alpha * 32 / np.linalg.norm(skew)
    eye = np.eye(8)
    turns = strength * (eye + skew) @ np.linalg.inv(eye - skew) + (1 - strength) * eye
    weight = base["weight"].reshape(4, 8, 32)
    wanted = np.einsum("knm,knc->kmc", turns, weight).reshape(32, 32) - base["weight"]
    found = change(tmp_path, tensors).difference(base, strength)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


HADA = {"w1_a": (32, 4), "w1_b": (4, 32), "w2_a": (32, 4), "w2_b": (4, 32)}


@pytest.mark.parametrize("changed, match", [
    # stable-diffusion.cpp crashed at such files.
    ({"w1_b": (3, 32)}, "ranks of LoHa's factor 1 differ"),
    ({"w2_a": (31, 4)}, "factors differ in size"),
    ({"w2_b": None}, "LoHa has .* without hada_w2_b"),
    ({"w1_a": (32,)}, "must be matrices"),
    ({"t1": (4, 4, 3, 3)}, "two cores or none"),
    ({"w1_a": (64, 4), "w2_a": (64, 4)}, "does not fit"),
])  # fmt: skip
def test_broken_loha_is_one_error(changed, match, tmp_path):
    shapes = {**HADA, **changed}
    tensors = {f"{STEM}.hada_{k}": normal(*v) for k, v in shapes.items() if v}
    with pytest.raises(WeightsError, match=match):
        change(tmp_path, tensors)


@pytest.mark.parametrize("shapes, match", [
    ({"w1": (4, 4)}, "factor 2 must be whole"),
    ({"w1": (4, 4), "w2_a": (8, 2)}, "factor 2 must be whole"),
    ({"w1": (4, 4), "w2": (8, 7)}, "does not fit"),
    ({"w1": (4,), "w2": (8, 8)}, "must be a matrix"),
    ({"w1": (0, 4), "w2": (8, 8)}, "does not fit"),
])  # fmt: skip
def test_broken_lokr_is_one_error(shapes, match, tmp_path):
    tensors = {f"{STEM}.lokr_{k}": normal(*v) for k, v in shapes.items()}
    with pytest.raises(WeightsError, match=match):
        change(tmp_path, tensors)
