"""The original configuration beside a single file."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from kerasdiffusion.weights import WeightsError, names
from kerasdiffusion.weights.layout import FIELDS
from kerasdiffusion.weights.load import read_config
from tests.weights.geometries import NARROW

V2 = """
model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    parameterization: "v"
    linear_start: 0.00085
    linear_end: 0.0120
    timesteps: 1000
    scale_factor: 0.18215
    unet_config:
      target: os.system
      params: {num_head_channels: 4, legacy: False}
"""


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    path = tmp_path_factory.mktemp("single") / "model.safetensors"
    tensors = {
        tensor.original: np.zeros(tensor.original_shape, "float16")
        for part, field in FIELDS.items()
        if part in NARROW.parts
        for tensor in names.tensors(part, getattr(NARROW, field))
    }
    save_file(tensors, path)
    return path


@pytest.fixture
def beside(single):
    path = single.with_suffix(".yaml")
    yield path
    path.unlink(missing_ok=True)


def test_says_what_shapes_do_not_show(single, beside):
    plain = read_config(single)
    beside.write_text(V2)
    found = read_config(single)
    assert found.schedule.prediction_type == "v_prediction"
    widths = found.diffusion_model.block_widths
    assert found.diffusion_model.heads == tuple(width // 4 for width in widths)
    beside.write_text("model: {params: {parameterization: eps, scale_factor: 0.2}}")
    found = read_config(single)
    assert found.schedule == plain.schedule
    assert found.autoencoder.scale_factor == 0.2
    assert found.diffusion_model == plain.diffusion_model


def test_that_of_generative_models(single, beside):
    beside.write_text(
        "model: {params: {denoiser_config: {params: {scaling_config: {target: "
        "sgm.modules.diffusionmodules.denoiser_scaling.VScaling}}}}}"
    )
    assert read_config(single).schedule.prediction_type == "v_prediction"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [", "must be YAML"),
        ("model: !!python/name:os.system", "must be YAML"),
        ("[]", "must have `model.params`"),
        ("model: {params: {parameterization: w}}", "'parameterization'"),
        ("model: {params: {parameterization: []}}", "'parameterization'"),
        ("model: {params: {scale_factor: .nan}}", "'scale_factor'"),
        ("model: {params: {scale_factor: 0}}", "'scale_factor'"),
        ("model: {params: {timesteps: 1000000000}}", "at most 100000 training steps"),
        ("model: {params: {linear_start: 0.5, linear_end: 0.1}}", "'linear_start'"),
        (
            "model: {params: {unet_config: {params: {num_heads: 1000000000}}}}",
            "at most 65536 channels",
        ),
        ("a" * (2**18 + 1), "must be YAML .*at most 262144 bytes"),
        ("[" * 10_000, "must be YAML"),
    ],
)
def test_what_is_refused(single, beside, text, message):
    beside.write_text(text)
    with pytest.raises(WeightsError, match=f"{message}.*Received: .*model.yaml"):
        read_config(single)
