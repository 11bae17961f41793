"""Adapters in a whole run, and our files, against diffusers', PEFT's and LyCORIS's."""

import contextlib

import diffusers
import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file

from kerasdiffusion.adapters.combine import joined
from kerasdiffusion.adapters.read import read_adapter
from kerasdiffusion.adapters.write import write_adapter
from kerasdiffusion.sampling.noise import initial_noise
from tests.adapters import files
from tests.peers.networks import channels_first
from tests.tiny import TINY, tiny_model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")
PROMPT, NEGATIVE, SEED = "a red apple on a blue background", "blurry, dark", 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny"
    tiny_model().save_preset(path)
    return path


@pytest.fixture
def pipeline(folder):
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def two(tmp_path):
    return [
        files.save(tmp_path, name, files.kohya(seed=seed, alpha=2.0, rank=4))
        for seed, name in enumerate(("a", "b"))
    ]


def test_a_run_with_two_at_their_weights(pipeline, two):
    for name, path in zip("ab", two, strict=True):
        pipeline.load_lora_weights(path, adapter_name=name)
    pipeline.set_adapters(["a", "b"], [0.7, -0.3])
    kind = diffusers.DDIMScheduler
    pipeline.scheduler = kind(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        set_alpha_to_one=False,
        steps_offset=1,
        clip_sample=False,
    )
    model = tiny_model()
    noise = initial_noise([SEED], model.latent_shape)

    def theirs(**options):
        return pipeline(
            PROMPT,
            negative_prompt=NEGATIVE,
            height=32,
            width=32,
            num_inference_steps=4,
            guidance_scale=7.5,
            latents=channels_first(noise),
            output_type="latent",
            **options,
        ).images

    expected = theirs().permute(0, 2, 3, 1).numpy()
    seen = []
    model.text_to_image(
        PROMPT,
        NEGATIVE,
        num_steps=4,
        unconditional_guidance_scale=7.5,
        sampler="ddim",
        seed=SEED,
        adapters=[(two[0], 0.7), (two[1], -0.3)],
        callback=lambda step: seen.append(np.asarray(step.latents)),
        progress_bar=False,
    )
    size = np.abs(expected).max()
    assert np.abs(seen[-1] - expected).max() <= 1e-3 * size
    pipeline.unload_lora_weights()
    plain = theirs().permute(0, 2, 3, 1).numpy()
    assert np.abs(plain - expected).max() > 0.1 * size


def whole(entry):
    return 1.0


def assert_changed(network, before, adapter, part):
    """A peer's weights are the ones before and our changes, to 1e-5."""
    after = dict(network.state_dict())
    changed = 0
    for entry in adapter.entries:
        if entry.part != part:
            continue
        wanted = before[entry.tensor].numpy() + entry.change.difference({})
        found = after[entry.tensor].detach().numpy()
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max(), entry.tensor
        changed += 1
    assert changed


def copied(network):
    return {key: each.detach().clone() for key, each in network.state_dict().items()}


@pytest.mark.parametrize("format", ["kohya", "diffusers"])
def test_what_is_written_is_the_same_in_diffusers(format, pipeline, two, tmp_path):
    adapter = read_adapter(two[0], TINY)
    path = tmp_path / "out.safetensors"
    write_adapter(path, joined([(adapter, whole)]), format)
    unet, text = copied(pipeline.unet), copied(pipeline.text_encoder)
    pipeline.load_lora_weights(path)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    assert_changed(pipeline.unet, unet, adapter, "diffusion_model")
    with contextlib.suppress(KeyError):  # transformers 5 has other names
        assert_changed(pipeline.text_encoder, text, adapter, "text_encoder")


def test_what_is_written_is_the_same_in_peft(pipeline, two, tmp_path):
    adapter = read_adapter(two[0], TINY)
    write_adapter(tmp_path / "peft", joined([(adapter, whole)]), "peft")
    before = copied(pipeline.unet)
    model = peft.PeftModel.from_pretrained(pipeline.unet, tmp_path / "peft" / "unet")
    assert_changed(model.merge_and_unload(), before, adapter, "diffusion_model")


def test_what_is_written_is_the_same_in_lycoris(pipeline, two, tmp_path):
    """By its own prefix: its kohya reader (4.1.3) makes layers of a U-Net twice."""
    from lycoris import create_lycoris_from_weights

    adapter = read_adapter(two[0], TINY)
    path = tmp_path / "out.safetensors"
    write_adapter(path, joined([(adapter, whole)]))
    tensors = {
        key.replace("lora_unet_", "lycoris_"): each
        for key, each in load_file(path).items()
        if key.startswith("lora_unet_")
    }
    before = copied(pipeline.unet)
    network, _ = create_lycoris_from_weights(
        1.0, None, pipeline.unet, weights_sd=tensors
    )
    network.merge_to(1.0)
    assert_changed(pipeline.unet, before, adapter, "diffusion_model")


def test_files_of_diffusers_in_two_dialects_are_read_whole(pipeline, tmp_path):
    """Its own reader takes the first key's dialect, and loses the other's layers."""
    config = peft.LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["to_q", "ff.net.0.proj", "conv1", "proj_in"],
        init_lora_weights=False,
    )
    pipeline.unet.add_adapter(config)
    state = peft.get_peft_model_state_dict(pipeline.unet)
    diffusers.StableDiffusionPipeline.save_lora_weights(
        tmp_path, unet_lora_layers=state, unet_lora_adapter_metadata=config.to_dict()
    )
    adapter = read_adapter(tmp_path / "pytorch_lora_weights.safetensors", TINY)
    assert not adapter.unused and len(adapter.entries) == len(state) // 2
    assert adapter.alphas == (8.0,)
    torch.manual_seed(0)
    before = {
        key.replace(".base_layer", ""): each.detach().clone()
        for key, each in pipeline.unet.state_dict().items()
    }
    pipeline.unet.fuse_lora()
    merged = {
        key.replace(".base_layer", ""): each
        for key, each in pipeline.unet.state_dict().items()
    }
    for entry in adapter.entries:
        wanted = merged[entry.tensor] - before[entry.tensor]
        np.testing.assert_allclose(
            entry.change.difference({}), wanted.numpy(), atol=1e-5
        )
