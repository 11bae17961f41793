"""Models whose parts come from elsewhere: what is given is asked for."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kerasdiffusion import StableDiffusion
from kerasdiffusion.weights import WeightsError
from kerasdiffusion.weights.swap import read_model
from tests.tiny import TINY, tiny_model, tiny_tokenizer

# What detection takes for granted: heads 64 wide or eight, norms of 32 groups.
PLAIN = TINY.replace(
    text_encoder=replace(TINY.text_encoder, width=64, heads=1),
    diffusion_model=replace(
        TINY.diffusion_model, context_width=64, heads=(8, 8), norm_groups=32
    ),
    autoencoder=replace(TINY.autoencoder, block_widths=(32, 64), norm_groups=32),
    generation=replace(TINY.generation, sampler="ddim"),
)
PLAIN_XL = PLAIN.replace(
    text_encoder=replace(PLAIN.text_encoder, skipped_layers=1, final_norm=False),
    text_encoder_2=replace(
        PLAIN.text_encoder,
        width=128,
        heads=2,
        activation="gelu",
        skipped_layers=1,
        final_norm=False,
        projection_width=96,
    ),
    tokenizer_2=replace(PLAIN.tokenizer, pad_token="!"),
    diffusion_model=replace(
        PLAIN.diffusion_model,
        context_width=192,
        linear_projection=True,
        heads=(1, 1),
        transformer_depths=(0, 1),
        vector_width=96 + 6 * 256,
    ),
    autoencoder=replace(PLAIN.autoencoder, scale_factor=0.13025, force_upcast=True),
)
PREFIXES = {
    "vae": "first_stage_model.",
    "text_encoder": "cond_stage_model.",
    "unet": "model.diffusion_model.",
}
PREFIXES_XL = {
    **PREFIXES,
    "text_encoder": "conditioner.embedders.0.",
    "text_encoder_2": "conditioner.embedders.1.",
}
CASES = [("sd1", name) for name in PREFIXES] + [("xl", name) for name in PREFIXES_XL]
CONFIGS = {"sd1": PLAIN, "xl": PLAIN_XL}
FIELDS = {name: name for name in PREFIXES_XL}
FIELDS |= {"vae": "autoencoder", "unet": "diffusion_model"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Each as a folder and as a single file of another program, without metadata."""
    root = tmp_path_factory.mktemp("models")
    for name, config in (("sd1", PLAIN), ("xl", PLAIN_XL)):
        model = tiny_model(config=config)
        model.save_preset(root / name)
        (root / name / "kerasdiffusion.json").unlink()
        model.save_preset(root / f"{name}.safetensors")
        path = root / f"{name}.safetensors"
        save_file(load_file(path), path)
    return root


def config_of(source, **parts):
    return read_model(source, {FIELDS[name]: part for name, part in parts.items()})


def latents(source, **parts):
    parts.setdefault("tokenizer", tiny_tokenizer())
    model = StableDiffusion.from_preset(
        source, img_height=32, img_width=32, precision="float32", **parts
    )
    return model.encode_text("a red apple"), model.decoder.weights[0].numpy()


def without(models, model, part, path):
    """A single file that lacks the tensors of a part."""
    prefix = {"sd1": PREFIXES, "xl": PREFIXES_XL}[model][part]
    whole = load_file(models / f"{model}.safetensors")
    save_file({k: v for k, v in whole.items() if not k.startswith(prefix)}, path)
    return path


@pytest.mark.parametrize(("model", "part"), CASES)
def test_a_file_without_a_part_that_is_given(models, tmp_path, model, part):
    pruned = without(models, model, part, tmp_path / "pruned.safetensors")
    whole = models / f"{model}.safetensors"
    with pytest.raises(WeightsError, match=f"pass one as `{part}`"):
        config_of(pruned)
    for given in (whole, str(models / model), models / model / part):
        found = config_of(pruned, **{part: given})
        assert found.parts == config_of(whole).parts
        assert getattr(found, FIELDS[part]) == getattr(CONFIGS[model], FIELDS[part])


@pytest.mark.parametrize(("model", "part"), CASES)
def test_a_folder_without_a_part_that_is_given(models, tmp_path, model, part):
    shutil.copytree(models / model, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / part)
    with pytest.raises(WeightsError, match=f"pass one as `{part}`"):
        config_of(tmp_path / "model")
    for given in (models / f"{model}.safetensors", models / model / part):
        found = config_of(tmp_path / "model", **{part: given})
        expected = config_of(models / model)
        if part == "unet":  # whose sample size is the pictures'
            expected = expected.replace(generation=found.generation)
        assert found == expected, given


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_given_part_is_what_is_read(models, tmp_path, kind):
    expected = latents(models / "sd1")
    if kind == "file":
        path = without(models, "sd1", "vae", tmp_path / "pruned.safetensors")
    else:
        path = tmp_path / "model"
        shutil.copytree(models / "sd1", path)
        shutil.rmtree(path / "vae")
    for given in (models / "sd1.safetensors", models / "sd1/vae"):
        found = latents(path, vae=given)
        for one, other in zip(found, expected, strict=True):
            assert np.allclose(one, other, atol=1e-5)


def test_a_part_that_the_index_leaves_out(models, tmp_path):
    shutil.copytree(models / "sd1", tmp_path / "model")
    path = tmp_path / "model" / "model_index.json"
    index = json.loads(path.read_text()) | {"vae": [None, None]}
    path.write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="no autoencoder: pass one as `vae`"):
        config_of(tmp_path / "model")
    config = config_of(tmp_path / "model", vae=models / "sd1/vae")
    assert config.autoencoder == PLAIN.autoencoder


def test_parts_that_do_not_fit_are_said_at_loading(models, tmp_path):
    shutil.copytree(models / "sd1", tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "text_encoder")
    second = str(models / "xl/text_encoder_2")
    with pytest.raises(WeightsError, match="64 channels.*Received: 128"):
        config_of(tmp_path / "model", text_encoder=second)
    with pytest.raises(WeightsError, match="takes no second. Received: text_encoder_2"):
        config_of(models / "sd1", text_encoder_2=second)


def test_strict_can_be_said(models, tmp_path):
    path = tmp_path / "merged.safetensors"
    odd = {f"embedding_manager.{i}": np.zeros(1, "float32") for i in range(6)}
    save_file(load_file(models / "sd1.safetensors") | odd, path)
    with pytest.raises(WeightsError, match=r"6 unexpected.*strict=False \(--no-strict"):
        StableDiffusion.from_preset(path)
    expected = latents(models / "sd1.safetensors")
    for low_memory in (False, True):
        with pytest.warns(UserWarning, match="6 tensors were left out") as told:
            found = latents(path, strict=False, low_memory=low_memory)
        assert (found[0] == expected[0]).all()
        assert len([w for w in told if "left out" in str(w.message)]) == 1
    # What is missing is an error all the same, and no advice that does not help.
    tensors = load_file(path)
    del tensors["first_stage_model.decoder.conv_in.bias"]
    save_file(tensors, path)
    with pytest.raises(WeightsError, match="1 missing") as error:
        StableDiffusion.from_preset(path, strict=False)
    assert "strict=False" not in str(error.value)
