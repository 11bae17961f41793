"""Files that diffusers and transformers write, and ours as they read them."""

import shutil

import numpy as np
import pytest

from kerasdiffusion.prompts.tokenizer import Tokenizer
from kerasdiffusion.weights import names
from kerasdiffusion.weights.configs import text_encoder_to_json
from kerasdiffusion.weights.folders import write_configs
from kerasdiffusion.weights.load import load_weights, read_config
from kerasdiffusion.weights.save import save_file, save_folder
from tests.weights.geometries import NARROW, WIDE, assert_equal, fill, networks, values

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.every_backend_at_length
GEOMETRIES = {"wide": WIDE, "narrow": NARROW}


@pytest.fixture(scope="module", params=GEOMETRIES)
def config(request):
    """One of two odd geometries, with the smallest vocabulary."""
    return GEOMETRIES[request.param]


@pytest.fixture(scope="module")
def tokenizer(config):
    tokenizer = Tokenizer(config.tokenizer).subset([])
    assert tokenizer.vocabulary_size == config.text_encoder.vocabulary_size
    return tokenizer


@pytest.fixture(scope="module")
def pipeline(config, tokenizer, tmp_path_factory):
    """Diffusers' own pipeline of the geometry, with random weights."""
    folder = tmp_path_factory.mktemp("configs")
    write_configs(folder, config)
    tokenizer.save(folder / "tokenizer")
    torch.manual_seed(0)

    def network(kind, name):
        return kind.from_config(kind.load_config(folder / name))

    text_config = transformers.CLIPTextConfig(
        **text_encoder_to_json(config.text_encoder)
    )
    pipeline = diffusers.StableDiffusionPipeline(
        unet=network(diffusers.UNet2DConditionModel, "unet"),
        vae=network(diffusers.AutoencoderKL, "vae"),
        scheduler=network(diffusers.DDIMScheduler, "scheduler"),
        text_encoder=transformers.CLIPTextModel(text_config),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        for tensor in part.parameters():
            torch.nn.init.normal_(tensor, std=0.2)
    return pipeline


@pytest.fixture(scope="module")
def folder(pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("diffusers")
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def parts(config):
    return networks(config)


@pytest.fixture(scope="module")
def loaded(parts, folder):
    """Every weight as it comes from the plain folder."""
    load_weights(parts, folder)
    return values(parts)


def difference(found, expected):
    """Largest difference relative to the largest value."""
    import keras

    found, expected = keras.ops.convert_to_numpy(found), expected.detach().numpy()
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def channels_first(array):
    return torch.from_numpy(np.moveaxis(array, -1, 1).copy())


def test_computes_what_diffusers_computes(config, pipeline, parts, loaded, folder):
    assert read_config(folder).diffusion_model == config.diffusion_model
    random = np.random.default_rng(1)
    size = 4 * 2 ** len(config.diffusion_model.block_widths)
    channels = config.diffusion_model.in_channels
    latents = random.normal(size=(2, size, size, channels)).astype("float32")
    length, width = config.tokenizer.context_length, config.text_encoder.width
    context = random.normal(size=(2, length, width)).astype("float32")
    timestep = np.array([1.0, 801.0], "float32")
    expected = pipeline.unet(
        channels_first(latents), torch.tensor(timestep), torch.tensor(context)
    ).sample.permute(0, 2, 3, 1)
    inputs = {"latents": latents, "timestep": timestep, "crossattn": context}
    assert difference(parts["diffusion_model"](inputs), expected) < 1e-4

    scale = config.autoencoder.scale_factor
    decoded = pipeline.vae.decode(channels_first(latents) / scale).sample
    expected = decoded.permute(0, 2, 3, 1)
    assert difference(parts["decoder"](latents), expected) < 1e-4

    images = random.uniform(-1, 1, (2, 16, 24, 3)).astype("float32")
    mean = pipeline.vae.encode(channels_first(images)).latent_dist.mean
    expected = mean.permute(0, 2, 3, 1) * scale
    assert difference(parts["image_encoder"](images), expected) < 1e-4

    tokens = random.integers(0, 514, (2, length))
    expected = pipeline.text_encoder(torch.tensor(tokens)).last_hidden_state
    assert difference(parts["text_encoder"](tokens.astype("int32")), expected) < 1e-4


def save_bin(pipeline, folder, suffix="", dtype=None):
    """The pickled files that diffusers and transformers wrote by default once."""
    for part, stem in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "pytorch_model"),
    ):
        tensors = getattr(pipeline, part).state_dict()
        tensors = {name: value.to(dtype) for name, value in tensors.items()}
        if part == "text_encoder":
            tensors = {f"text_model.{name}": value for name, value in tensors.items()}
            ids = torch.arange(pipeline.tokenizer.model_max_length)
            tensors["text_model.embeddings.position_ids"] = ids.expand(1, -1)
        for old in (folder / part).glob("*.safetensors"):
            old.unlink()
        torch.save(tensors, folder / part / f"{stem}{suffix}.bin")


def rounded(arrays, dtype="float16"):
    return {
        name: array.astype(dtype).astype("float32") for name, array in arrays.items()
    }


def test_reads_pickled_files(pipeline, folder, parts, loaded, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    save_bin(pipeline, copy)
    fill(parts, seed=9)
    load_weights(parts, copy)
    assert_equal(values(parts), loaded)
    save_bin(pipeline, copy, ".fp16", torch.float16)
    load_weights(parts, copy, variant="fp16")
    assert_equal(values(parts), rounded(loaded))


def test_reads_half_precision_and_shards(pipeline, parts, loaded, tmp_path):
    pipeline.save_pretrained(tmp_path / "shards", max_shard_size="40KB")
    assert list((tmp_path / "shards" / "unet").glob("*-of-*.safetensors"))
    fill(parts, seed=9)
    load_weights(parts, tmp_path / "shards")
    assert_equal(values(parts), loaded)
    half = tmp_path / "half"
    pipeline.save_pretrained(half)  # for the configurations
    for part in ("unet", "vae", "text_encoder"):
        for old in (half / part).glob("*.safetensors"):
            old.unlink()
        network = getattr(pipeline, part)
        half_network = (
            type(network)(network.config)
            if part == "text_encoder"
            else (type(network).from_config(network.config))
        )
        half_network.load_state_dict(network.state_dict())
        half_network.half().save_pretrained(half / part, variant="fp16")
    load_weights(parts, half)
    assert_equal(values(parts), rounded(loaded))


def test_reads_the_attention_names_of_old_diffusers(folder, parts, loaded, tmp_path):
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(folder, tmp_path / "copy")
    path = copy / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = {
        (names.aliases(name) or [name])[0]: value
        for name, value in load_file(path).items()
    }
    assert "encoder.mid_block.attentions.0.proj_attn.weight" in tensors
    save_file(tensors, path)
    # Diffusers itself still reads them so.
    diffusers.AutoencoderKL.from_pretrained(copy / "vae")
    fill(parts, seed=9)
    load_weights(parts, copy)
    assert_equal(values(parts), loaded)


def assert_same_pipeline(found, expected):
    for part in ("unet", "vae", "text_encoder"):
        there, wanted = (getattr(p, part).state_dict() for p in (found, expected))
        assert there.keys() == wanted.keys()
        for name, value in wanted.items():
            assert torch.equal(there[name], value), name


@pytest.mark.parametrize("max_shard_size", [10**9, 40_000])
def test_diffusers_opens_what_is_saved(
    config, tokenizer, pipeline, parts, loaded, folder, tmp_path, max_shard_size
):
    load_weights(parts, folder)
    path = tmp_path / "saved"
    save_folder(path, parts, config, tokenizer, max_shard_size=max_shard_size)
    found = diffusers.StableDiffusionPipeline.from_pretrained(path)
    assert_same_pipeline(found, pipeline)
    assert (
        dict(found.scheduler.config).items()
        >= {
            "beta_start": config.schedule.beta_start,
            "prediction_type": config.schedule.prediction_type,
            "set_alpha_to_one": config.schedule.final_alpha_one,
        }.items()
    )
    text = "a é"
    ids = found.tokenizer(text, padding="max_length", truncation=True).input_ids
    np.testing.assert_array_equal(tokenizer(text)[0], ids)


def test_diffusers_converts_what_is_saved_as_one_file(
    config, pipeline, parts, loaded, folder, tmp_path
):
    """Its converter from the original layout gives back what went in."""
    load_weights(parts, folder)
    path = tmp_path / "single.safetensors"
    save_file(path, parts, config)
    from diffusers.loaders.single_file_utils import (
        convert_ldm_unet_checkpoint,
        convert_ldm_vae_checkpoint,
    )
    from safetensors.torch import load_file

    original = load_file(path)
    for part, convert in (
        ("unet", convert_ldm_unet_checkpoint),
        ("vae", convert_ldm_vae_checkpoint),
    ):
        network = getattr(pipeline, part)
        found = convert(dict(original), network.config)
        wanted = network.state_dict()
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            assert torch.equal(found[name].reshape(value.shape), value), name
