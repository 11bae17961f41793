"""SDXL's U-Net as large as it is, in bfloat16, against diffusers' own."""

import gc

import numpy as np
import pytest

pytest.importorskip("diffusers")

import diffusers  # noqa: E402
import keras  # noqa: E402
import torch  # noqa: E402

from kerasdiffusion.compute import backend  # noqa: E402
from kerasdiffusion.models.diffusion_model import DiffusionModel  # noqa: E402
from kerasdiffusion.presets.families import SDXL  # noqa: E402
from kerasdiffusion.tasks.conditioning import join_vector  # noqa: E402
from kerasdiffusion.weights.load import load_weights  # noqa: E402
from kerasdiffusion.weights.unet_json import unet_to_json  # noqa: E402

pytestmark = [pytest.mark.full_size, pytest.mark.timeout(3600)]


def test_one_call(tmp_path):
    """Weights of 5.1 GB pass through a file; in float32 the peer takes 10.3."""
    random = np.random.default_rng(0)
    shapes = {
        "latents": (1, 32, 32, 4),
        "crossattn": (1, 77, 2048),
        "vector": (1, 2816),
    }
    inputs = {name: random.normal(size=shape) for name, shape in shapes.items()}
    pooled, ids = inputs["vector"][:, :1280], [[1024, 1024, 0, 0, 1024, 1024]]
    tensors = {name: torch.tensor(each).bfloat16() for name, each in inputs.items()}

    def call(network):
        """The peer's prediction, in the dtype of its weights."""
        given = {name: each.to(network.dtype) for name, each in tensors.items()}
        prediction = network(
            given["latents"].permute(0, 3, 1, 2),
            torch.tensor([500.0]),
            given["crossattn"],
            added_cond_kwargs={
                "text_embeds": given["vector"][:, :1280],
                "time_ids": torch.tensor(ids, dtype=network.dtype),
            },
        ).sample
        return prediction.permute(0, 2, 3, 1).float().numpy()

    torch.manual_seed(0)
    with torch.device("meta"):
        peer = diffusers.UNet2DConditionModel.from_config(
            unet_to_json(SDXL.diffusion_model)
        )
    peer = peer.to(torch.bfloat16).to_empty(device="cpu")
    with torch.no_grad():
        for name, each in peer.named_parameters():
            if "norm" in name:
                each.fill_(1.0 if name.endswith("weight") else 0.0)
            elif each.ndim == 1:
                each.zero_()
            else:
                each.normal_(std=each[0].numel() ** -0.5)
        expected = call(peer)
    assert sum(each.numel() for each in peer.parameters()) == 2_567_463_684
    peer.save_pretrained(tmp_path / "unet")
    with torch.no_grad():
        exact = call(peer.float())
    del peer
    gc.collect()

    with backend.empty_weights():
        ours = DiffusionModel(SDXL.diffusion_model, dtype="bfloat16")
    assert ours.count_params() == 2_567_463_684
    load_weights({"diffusion_model": ours}, tmp_path / "unet")
    inputs["vector"] = join_vector(pooled, ids)
    given = {name: keras.ops.cast(each, "bfloat16") for name, each in inputs.items()}
    given["timestep"] = keras.ops.convert_to_tensor(np.array([500.0], "float32"))
    program = backend.Program(lambda given: ours(given), [ours], False)
    found = backend.to_numpy(keras.ops.cast(program(given), "float32"))
    ours_away, theirs_away = away(found, exact), away(expected, exact)
    print(f"from float32: ours {ours_away:.4f}, diffusers' {theirs_away:.4f}")
    assert np.isfinite(found).all() and found.shape == expected.shape
    # bfloat16 has 8 bits: ours may round in other places, but not worse.
    assert 0.0 < ours_away < 1.2 * theirs_away < 0.05


def away(found, exact) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
