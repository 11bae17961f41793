"""The peers as the benchmark drives them."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.apps.bench.worker import Job
from tests.tiny import TINY, TINY_SDXL, tiny_model

JOB = Job(
    library="",
    preset="tiny",
    random_weights=True,
    height=32,
    width=64,
    batch_size=2,
    steps=2,
    precision="float32",
    jit_compile=False,
    repeats=1,
    config=dataclasses.asdict(TINY),
)


def drive(library):
    """Calls everything that the worker calls."""
    library.picture()
    library.network(2)
    library.decode(2)
    library.encode(2)
    assert library.facts["version"] and library.facts["backend"]
    assert library.device_memory() is None or library.device_memory() > 0


@pytest.mark.parametrize("precision", ["bfloat16", "mixed_bfloat16"])
def test_diffusers_runs_at_our_geometry(precision):
    peer_diffusers = pytest.importorskip("kerasdiffusion.apps.bench.peer_diffusers")
    job = dataclasses.replace(JOB, precision=precision)
    library = peer_diffusers.Library(job)
    drive(library)
    stored = "float32" if precision.startswith("mixed") else precision
    assert str(library.pipeline.unet.dtype) == f"torch.{stored}"
    assert library.pipeline.unet.config.block_out_channels == [32, 64]


def test_diffusers_runs_sdxl(tmp_path):
    """From our folder: SDXL's pipeline, which gives its U-Net what ours is given."""
    peer_diffusers = pytest.importorskip("kerasdiffusion.apps.bench.peer_diffusers")
    model = tiny_model(config=TINY_SDXL)
    model.save_preset(tmp_path / "sdxl")
    config = dataclasses.asdict(TINY_SDXL)
    job = dataclasses.replace(JOB, config=config, folder=str(tmp_path / "sdxl"))
    library = peer_diffusers.Library(job)
    assert type(library.pipeline).__name__ == "StableDiffusionXLPipeline"
    drive(library)
    given = library.conditions(2)
    context, pooled = model.encode_tokens(*2 * [library.tokens.numpy()])
    added = given["added_cond_kwargs"]
    np.testing.assert_allclose(added["text_embeds"][:1], pooled, atol=1e-4)
    np.testing.assert_allclose(given["encoder_hidden_states"][:1], context, atol=1e-4)
    assert (added["time_ids"].numpy() == [32, 64, 0, 0, 32, 64]).all()
    drive(peer_diffusers.Library(dataclasses.replace(job, folder=None)))


def test_compiled_diffusers_freezes_its_weights(monkeypatch):
    module = pytest.importorskip("kerasdiffusion.apps.bench.peer_diffusers_compiled")
    import torch

    compiled = []

    def compile(function, **options):  # the real one takes minutes
        compiled.append((function.__qualname__, options))
        return function

    monkeypatch.setattr(torch, "compile", compile)
    drive(module.Library(JOB))
    if not torch.cuda.is_available():
        assert torch._inductor.config.freezing
        names = "UNet2DConditionModel.forward", "AutoencoderKL.decode"
        assert compiled == [(name, {"dynamic": False}) for name in names]


@pytest.mark.heavy
def test_openvino_has_diffusers_numbers(tmp_path):
    """The same weights give the same prediction, by what was converted."""
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    import torch

    peer = pytest.importorskip("kerasdiffusion.apps.bench.peer_openvino")
    torch.manual_seed(0)
    peer.convert(JOB, str(tmp_path))
    torch.manual_seed(0)
    plain = peer.peer_diffusers.Library(JOB)
    library = peer.Library(dataclasses.replace(JOB, converted=str(tmp_path)))
    drive(library)
    names = sorted(path.name for path in tmp_path.glob("*.xml"))
    assert names == ["decoder.xml", "text_encoder.xml", "unet.xml"]
    latents = torch.randn(4, 4, 16, 32)
    context = plain.conditions(4)["encoder_hidden_states"]
    with torch.no_grad():
        expected = plain.pipeline.unet(latents, 300, context).sample
        found = library.pipeline.unet(latents, 300, context).sample
    assert found.numpy() == pytest.approx(expected.numpy(), abs=1e-4)
    assert expected.abs().max() > 0.1


def test_keras_cv_runs_its_own_loop(monkeypatch):
    """With small networks in place of its own, which have one size."""
    peer_keras_cv = pytest.importorskip("kerasdiffusion.apps.bench.peer_keras_cv")
    monkeypatch.setattr(peer_keras_cv, "TextEncoder", small_text_encoder)
    monkeypatch.setattr(peer_keras_cv, "DiffusionModel", small_diffusion_model)
    monkeypatch.setattr(peer_keras_cv, "Decoder", small_decoder)
    policy = keras.config.dtype_policy()
    try:
        library = peer_keras_cv.Library(dataclasses.replace(JOB, height=128, width=128))
        drive(library)
    finally:
        keras.config.set_dtype_policy(policy)


def small_text_encoder(length, download_weights):
    assert not download_weights
    tokens = keras.Input((length,), dtype="int32", name="tokens")
    positions = keras.Input((length,), dtype="int32", name="positions")
    context = keras.layers.Dense(768)(
        ops.cast(tokens + positions, "float32")[..., None]
    )
    return keras.Model({"tokens": tokens, "positions": positions}, context)


def small_diffusion_model(height, width, length, download_weights):
    assert not download_weights
    inputs = {
        "latent": keras.Input((height // 8, width // 8, 4), name="latent"),
        "timestep_embedding": keras.Input((320,), name="timestep_embedding"),
        "context": keras.Input((length, 768), name="context"),
    }
    words = ops.mean(inputs["context"], axis=1)
    summed = keras.layers.Dense(4)(words) + keras.layers.Dense(4)(
        inputs["timestep_embedding"]
    )
    return keras.Model(inputs, inputs["latent"] + summed[:, None, None, :])


def small_decoder(height, width, download_weights):
    assert not download_weights
    latents = keras.Input((height // 8, width // 8, 4))
    picture = keras.layers.UpSampling2D(8)(keras.layers.Dense(3)(latents))
    return keras.Model(latents, picture)
