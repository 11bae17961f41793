"""Each family's networks, at a small geometry, against transformers' and diffusers'.

The folders are written by the peers. The original files have the names and shapes of
the original code: those of `weights/names.py`, which `tests/weights/test_families.py`
holds to lists of them, and which diffusers' converters read here.
"""

import dataclasses

import keras
import numpy as np
import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import diffusers  # noqa: E402
import torch  # noqa: E402

from kerasdiffusion.tasks.conditioning import embed_guidance, join_vector  # noqa: E402
from kerasdiffusion.weights.load import load_weights, read_config  # noqa: E402
from kerasdiffusion.weights.save import save_file  # noqa: E402
from tests.peers.families import FAMILIES, VOCABULARY  # noqa: E402
from tests.peers.networks import (  # noqa: E402
    Ours,
    assert_same,
    channels_first,
    channels_last,
    write_peers,
)

# Families whose original files diffusers reads.
CONVERTED = ("sd1", "sd1-inpainting", "sd2", "sd2-depth", "sdxl", "sdxl-refiner")
# Whose networks whole pipelines compare (`test_family_pipelines.py`), or which differ
# from those by a number of channels or of blocks.
ELSEWHERE = ("sd1", "sd1-inpainting", "lcm", "sd2", "sd2-depth", "sdxl-refiner")
ELSEWHERE += ("list of blocks",)
# JAX compiles each operation that is not in a program; TensorFlow takes its time to
# trace one.
COMPILED = keras.backend.backend() == "jax"


def marked(name):
    marks = [pytest.mark.full_size] if name in ELSEWHERE else []
    marks += [pytest.mark.every_backend_at_length] if name == "sdxl" else []
    return pytest.param(name, marks=marks)


@pytest.fixture(scope="module", params=map(marked, FAMILIES))
def family(request, tmp_path_factory):
    """The peers' networks of a family, and ours with their weights."""
    folder = tmp_path_factory.mktemp(request.param)
    peers = write_peers(folder, **FAMILIES[request.param])
    return request.param, peers, Ours(folder, compiled=COMPILED), folder


def normal(*shape):
    return np.random.default_rng(2).normal(size=shape).astype("float32")


def test_text_encoders(family):
    name, peers, ours, _ = family
    for part in (part for part in peers if part.startswith("text_encoder")):
        own = part if part in ours.parts else "text_encoder"
        config = getattr(ours.config, own)
        tokens = np.random.default_rng(3).integers(0, VOCABULARY - 1, (2, 9), "int32")
        tokens[0, 5:], tokens[1, 7:8] = VOCABULARY - 1, VOCABULARY - 1
        with torch.no_grad():
            expected = peers[part](
                torch.from_numpy(tokens).long(), output_hidden_states=True
            )
        found = ours(own, tokens)
        if config.projection_width:
            found, pooled = found
            assert_same(pooled, expected.text_embeds.numpy())
        is_xl = ours.config.diffusion_model.vector_width
        context = expected.hidden_states[-2] if is_xl else expected.last_hidden_state
        assert_same(found, context.numpy())


def test_diffusion_model(family):
    name, peers, ours, _ = family
    config = ours.config.diffusion_model
    inputs = {
        "latents": normal(2, 9, 14, config.in_channels),
        "timestep": np.array([981.0, 7.25], "float32"),
        "crossattn": normal(2, 5, config.context_width),
    }
    more = {}
    if config.vector_width:
        pooled = normal(2, ours.config.text_encoders[-1].projection_width)
        ids = np.array([[64, 48, 0, 8, 96, 80], [16, 24, 4, 0, 32, 8]], "float32")
        ids = ids[:, : ours.config.size_ids]
        more["added_cond_kwargs"] = {
            "text_embeds": torch.from_numpy(pooled),
            "time_ids": torch.from_numpy(ids),
        }
        inputs["vector"] = join_vector(pooled, ids, config.vector_id_width)
    if config.guidance_width:
        inputs["guidance"] = embed_guidance([7.5, 3.0], config.guidance_width)
        embed = diffusers.LatentConsistencyModelPipeline.get_guidance_scale_embedding
        scale = torch.tensor([6.5, 2.0])
        more["timestep_cond"] = embed(None, scale, config.guidance_width)
        np.testing.assert_allclose(inputs["guidance"], more["timestep_cond"], atol=2e-4)
        inputs["guidance"] = more["timestep_cond"].numpy()
    if config.noise_levels:
        inputs["noise_level"] = np.array([3, 20], "int32")
        more["class_labels"] = torch.tensor([3, 20])
    with torch.no_grad():
        expected = peers["unet"](
            channels_first(inputs["latents"]),
            torch.from_numpy(inputs["timestep"]),
            torch.from_numpy(inputs["crossattn"]),
            **more,
        ).sample
    assert_same(ours("diffusion_model", inputs), channels_last(expected))
    # Channels that are handed over apart are behind the latents.
    channels = config.in_channels
    if channels > 4:
        latents, inputs["concat"] = np.split(inputs["latents"], [4], axis=-1)
        inputs["latents"] = latents
        assert_same(ours("diffusion_model", inputs), channels_last(expected))


@pytest.mark.parametrize("blocks", [(1, 3, 3, 3), (1, 2)])
def test_a_tiny_autoencoder(blocks, tmp_path):
    """TAESD, at its published depths and at others."""
    vae = {
        "num_encoder_blocks": blocks,
        "num_decoder_blocks": blocks[::-1],
        "encoder_block_out_channels": [12] * len(blocks),
        "decoder_block_out_channels": [12] * len(blocks),
    }
    peers = write_peers(tmp_path, **{**FAMILIES["sd1"], "vae": vae})
    ours = Ours(tmp_path, ("image_encoder", "decoder"), compiled=COMPILED)
    side = ours.config.autoencoder.downsampling
    images = normal(2, 3 * side, 2 * side, 3)
    latents = 3.0 * normal(2, 3, 5, 4)
    with torch.no_grad():
        expected = peers["vae"].encode(channels_first(images)).latents
        assert_same(ours("image_encoder", images), channels_last(expected))
        expected = channels_last(peers["vae"].decode(channels_first(latents)).sample)
        # What varies is little beside the mean, and is what is compared.
        mean = expected.mean(axis=(0, 1, 2))
        assert_same(ours("decoder", latents) - mean, expected - mean)


def test_an_original_file_is_known_by_its_keys(family, tmp_path):
    """Written by the tables of names, without the configuration in its metadata."""
    name, peers, ours, _ = family
    if name == "lcm":
        pytest.skip("its original layout is diffusers'")
    path = tmp_path / "model.safetensors"
    save_file(path, ours.parts, ours.config)
    from safetensors.torch import load_file
    from safetensors.torch import save_file as write

    tensors = load_file(path)
    bare = tmp_path / "bare.safetensors"
    write(tensors, bare)
    found = read_config(bare)
    for part in ("text_encoder", "text_encoder_2", "diffusion_model", "autoencoder"):
        assert without_secrets(getattr(found, part)) == without_secrets(
            getattr(ours.config, part)
        )
    assert found.schedule == ours.config.schedule
    is_open_clip = ours.config.text_encoder.is_open_clip
    assert found.tokenizer.pad_token == ("!" if is_open_clip else "<|endoftext|>")
    if name in CONVERTED:
        assert_diffusers_converts(tensors, peers, name)
    before = {part: weights(net) for part, net in ours.parts.items()}
    for net in ours.parts.values():
        for variable in net.weights:
            variable.assign(np.zeros(variable.shape))
    load_weights(ours.parts, bare)
    for part, net in ours.parts.items():
        for found, expected in zip(weights(net), before[part], strict=True):
            np.testing.assert_array_equal(found, expected)


def assert_diffusers_converts(tensors, peers, name):
    """Diffusers' converters make of the file what its own networks hold."""
    from diffusers.loaders import single_file_utils as converters

    is_xl = name.startswith("sdxl")
    unet = converters.convert_ldm_unet_checkpoint(dict(tensors), peers["unet"].config)
    found = {"unet": unet}
    root = "conditioner.embedders." if is_xl else "cond_stage_model."
    for part, number in (("text_encoder", "0."), ("text_encoder_2", "1.")):
        if part not in peers:
            continue
        number = "0." if name == "sdxl-refiner" else number
        prefix = f"{root}{number if is_xl else ''}"
        if peers[part].config.hidden_act == "gelu":
            found[part] = converters.convert_open_clip_checkpoint(
                peers[part], dict(tensors), f"{prefix}model."
            )
        else:
            found[part] = converters.convert_ldm_clip_checkpoint(dict(tensors))
    for part, converted in found.items():
        wanted = peers[part].state_dict()
        converted = {
            (key if key in wanted else key.removeprefix("text_model.")): value
            for key, value in converted.items()
            if not key.endswith("position_ids")
        }
        assert converted.keys() == wanted.keys() - {"embeddings.position_ids"}
        for key, value in converted.items():
            assert torch.equal(value.reshape(wanted[key].shape), wanted[key]), key


def without_secrets(config):
    """A configuration but for what no shape shows."""
    if config is None:
        return None
    secrets = {"heads", "norm_groups", "vector_id_width", "force_upcast"}
    there = {field.name for field in dataclasses.fields(config)}
    default = type(config)()
    return dataclasses.replace(
        config, **{name: getattr(default, name) for name in secrets & there}
    )


def weights(network):
    return [keras.ops.convert_to_numpy(variable) for variable in network.weights]
