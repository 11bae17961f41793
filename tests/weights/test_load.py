"""Weights into networks: from every layout, strictly, all or nothing."""

import json
import os
import shutil
from unittest import mock

import numpy as np
import pytest
import safetensors.numpy
import torch

from kerasdiffusion.compute import backend
from kerasdiffusion.models.autoencoder import Decoder
from kerasdiffusion.prompts.tokenizer import Tokenizer
from kerasdiffusion.weights import WeightsError, load, names
from kerasdiffusion.weights.layout import FOLDERS
from kerasdiffusion.weights.load import Lenient, load_weights, read_config
from kerasdiffusion.weights.save import save_file, save_folder
from tests.weights.geometries import NARROW, WIDE, assert_equal, fill, networks, values


@pytest.fixture(scope="module")
def saved():
    """Networks with known weights; nothing may change them."""
    return networks(NARROW, seed=1)


@pytest.fixture(scope="module")
def model(saved, tmp_path_factory):
    """Their folder."""
    folder = tmp_path_factory.mktemp("models") / "model"
    save_folder(folder, saved, NARROW, Tokenizer(NARROW.tokenizer))
    return folder


@pytest.fixture(scope="module")
def single(saved, tmp_path_factory):
    """Their original single file."""
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    save_file(path, saved, NARROW)
    return path


@pytest.fixture(scope="module")
def scratch():
    return networks(NARROW)


@pytest.fixture
def fresh(scratch):
    """Networks of the same geometry with other weights."""
    return fill(scratch, seed=2)


@pytest.fixture
def folder(model, tmp_path):
    """A copy of the folder, to be changed."""
    return shutil.copytree(model, tmp_path / "copy")


def tensors_of(path):
    return safetensors.numpy.load_file(path)


def rewrite(path, change, to=None):
    """Save a file again after a change of its tensors."""
    tensors = tensors_of(path)
    tensors = change(tensors) or tensors
    safetensors.numpy.save_file(
        {name: np.ascontiguousarray(value) for name, value in tensors.items()},
        to or path,
    )


def save_checkpoint(path, tensors):
    torch.save(
        {"state_dict": {key: torch.from_numpy(v) for key, v in tensors.items()}}, path
    )


pytestmark = pytest.mark.every_backend


def test_reads_a_folder(model, saved, fresh):
    load_weights(fresh, model)
    assert_equal(values(fresh), values(saved))


def test_reads_a_single_file(single, saved, fresh):
    load_weights(fresh, single)
    assert_equal(values(fresh), values(saved))


@pytest.mark.parametrize("zipped", [True, False])
def test_reads_a_checkpoint(single, saved, fresh, tmp_path, zipped):
    tensors = {key: torch.from_numpy(v) for key, v in tensors_of(single).items()}
    path = tmp_path / "model.ckpt"
    torch.save(
        {"state_dict": tensors, "global_step": 7},
        path,
        _use_new_zipfile_serialization=zipped,
    )
    load_weights(fresh, path)
    assert_equal(values(fresh), values(saved))


def test_reads_some_parts_only(model, single, saved, fresh):
    others = ("text_encoder", "diffusion_model", "image_encoder")
    before = values({part: fresh[part] for part in others})
    for source in (model, single):
        load_weights({"decoder": fresh["decoder"]}, source)
        found, expected = values({"d": fresh["decoder"]}), {"d": saved["decoder"]}
        assert_equal(found, values(expected))
    assert_equal(values({part: fresh[part] for part in others}), before)


def test_reads_the_folder_of_one_part(model, saved, fresh):
    load_weights({"diffusion_model": fresh["diffusion_model"]}, model / "unet")
    expected = values({"u": saved["diffusion_model"]})
    assert_equal(values({"u": fresh["diffusion_model"]}), expected)


def test_reads_a_file_for_each_part(model, single, saved, fresh):
    source = {part: single for part in fresh}
    source["decoder"] = model / "vae" / "diffusion_pytorch_model.safetensors"
    load_weights(fresh, source)
    assert_equal(values(fresh), values(saved))


def test_takes_the_moving_averages_when_asked(single, saved, fresh, tmp_path):
    """The averages here are the weights times two."""
    path = tmp_path / "ema.ckpt"
    tensors = tensors_of(single)
    averages = {
        names.ema_name(name): value * 2
        for name, value in tensors.items()
        if name.startswith("model.")
    }
    averages |= {"model_ema.decay": np.array(0.9999, "float32")}
    save_checkpoint(path, tensors | averages)
    load_weights(fresh, path)
    assert_equal(values(fresh), values(saved))
    load_weights(fresh, path, ema=True)
    for part in fresh:
        factor = 2 if part == "diffusion_model" else 1
        expected = values({part: saved[part]})
        expected = {name: value * factor for name, value in expected.items()}
        assert_equal(values({part: fresh[part]}), expected)
    with pytest.raises(WeightsError, match="must hold moving averages"):
        load_weights(fresh, single, ema=True)


def test_reads_older_names_and_shapes(folder, single, saved, fresh, tmp_path):
    def old_attention(tensors):
        result = {}
        for name, value in tensors.items():
            (old,) = names.aliases(name) or [name]
            # Old diffusers had dense layers there, the original code convolutions.
            if old != name and value.ndim == 2 and ".query." not in old:
                value = value[:, :, None, None]
            result[old] = value
        return result

    rewrite(folder / "vae/diffusion_pytorch_model.safetensors", old_attention)

    def without_prefix(tensors):
        tensors["embeddings.position_ids"] = np.arange(5)[None]
        return {
            name.removeprefix("text_model."): value for name, value in tensors.items()
        }

    rewrite(folder / "text_encoder/model.safetensors", without_prefix)
    load_weights(fresh, folder)
    assert_equal(values(fresh), values(saved))

    path = tmp_path / "old.safetensors"
    rewrite(
        single,
        lambda tensors: {
            name.replace(".transformer.text_model.", ".transformer."): value
            for name, value in tensors.items()
        },
        path,
    )
    fill(fresh, seed=3)
    load_weights(fresh, path)
    assert_equal(values(fresh), values(saved))


def test_prefers_plain_files_to_variants_and_safetensors_to_bin(folder, saved, fresh):
    unet = folder / "unet"
    plain = unet / "diffusion_pytorch_model.safetensors"
    half = {key: value.astype("float16") for key, value in tensors_of(plain).items()}
    for name in ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.bin"):
        torch.save({key: torch.from_numpy(v) for key, v in half.items()}, unet / name)
    part = {"diffusion_model": fresh["diffusion_model"]}
    exact = values({"diffusion_model": saved["diffusion_model"]})
    rounded = {
        name: value.astype("float16").astype("float32") for name, value in exact.items()
    }
    load_weights(part, folder)
    assert_equal(values(part), exact)
    load_weights(part, folder, variant="fp16")
    assert_equal(values(part), rounded)
    load_weights(part, folder)
    plain.unlink()
    load_weights(part, folder)
    assert_equal(values(part), rounded)
    with pytest.raises(WeightsError, match="of variant 'bf16'.*fp16.bin"):
        load_weights(part, folder, variant="bf16")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_casts_to_the_dtype_of_the_variables(model, saved, dtype):
    with backend.empty_weights():
        half = {"decoder": Decoder(NARROW.autoencoder, dtype=dtype)}
    load_weights(half, model)
    assert {variable.dtype for variable in half["decoder"].weights} == {dtype}
    expected = values({"decoder": saved["decoder"]})
    rounded = {
        name: value.astype(np.dtype(dtype)).astype("float32")
        for name, value in expected.items()
    }
    found = values(half)
    assert_equal({name: v.astype("float32") for name, v in found.items()}, rounded)


# One clear error, and the networks as they were.


UNET = "unet/diffusion_pytorch_model.safetensors"
CONV = "conv_in.weight"


def drop(tensors):
    del tensors[CONV]


def add(tensors):
    tensors["conv_in.lora"] = np.zeros(1, "float32")


def widen(tensors):
    tensors[CONV] = np.zeros((16, 3, 3, 5), "float32")


def integers(tensors):
    tensors[CONV] = tensors[CONV].astype("int8")


def everything(tensors):
    drop(tensors)
    add(tensors)
    tensors["conv_out.bias"] = np.zeros(9, "float32")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, r"1 missing \(diffusion_model: conv_in.weight\)"),
        (add, r"1 unexpected \(conv_in.lora\).*strict=False"),
        (widen, r"1 of a wrong shape .*conv_in.weight has \(16, 3, 3, 5\), not \(16, "),
        (integers, r"conv_in.weight holds int8"),
        (everything, r"1 missing .*; 1 unexpected .*; 1 of a wrong shape"),
    ],
)
def test_refuses_tensors_that_do_not_fit(folder, fresh, change, message):
    rewrite(folder / UNET, change)
    before = values(fresh)
    with pytest.raises(WeightsError, match=f"nothing was loaded.*{message}"):
        load_weights(fresh, folder)
    assert_equal(values(fresh), before)


def test_leaves_unexpected_tensors_out_when_asked(folder, saved, fresh):
    rewrite(folder / UNET, add)
    with pytest.warns(UserWarning, match="1 tensors were left out.*conv_in.lora in"):
        load_weights(fresh, Lenient(folder))
    assert_equal(values(fresh), values(saved))


def test_unexpected_tensors_of_a_single_file(single, fresh, tmp_path):
    """Training state is passed over; a tensor that nobody knows is not."""
    path = tmp_path / "more.safetensors"
    more = {
        "betas": np.zeros(1000, "float32"),
        "model_ema.decay": np.zeros((), "float32"),
        "first_stage_model.loss.logvar": np.zeros((), "float32"),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": np.zeros(5),
    }
    rewrite(single, lambda tensors: tensors.update(more), path)
    load_weights(fresh, path)
    odd = {"embedding_manager.initial": np.zeros(3, "float32")}
    rewrite(single, lambda tensors: tensors.update(odd), path)
    with pytest.raises(WeightsError, match="1 unexpected .embedding_manager.initial"):
        load_weights(fresh, path)


def test_counts_what_is_missing_and_shows_the_first(model):
    with backend.empty_weights():
        bigger = Decoder(WIDE.autoencoder)
    with pytest.raises(WeightsError, match=r"\d+ missing \((decoder: [\w.]+, ){4}\.\."):
        load_weights({"decoder": bigger}, model)


def test_a_file_that_cannot_be_read_to_its_end_changes_nothing(folder, fresh):
    """The last part's file breaks off after the plan was made."""
    before = values(fresh)
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    plan = load._plan

    def break_off(*arguments):
        steps = plan(*arguments)
        os.truncate(path, path.stat().st_size - 100)
        return steps

    with mock.patch.object(load, "_plan", break_off):
        with pytest.raises(WeightsError, match="changed while it was read"):
            load_weights(fresh, folder)
    assert_equal(values(fresh), before)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("absent", "no such file or folder"),
        ("empty", "no model_index.json|no weights for the"),
        ("file.txt", "ends in .safetensors"),
    ],
)
def test_refuses_what_is_no_model(tmp_path, fresh, source, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("words")
    for read in (read_config, lambda path: load_weights(fresh, path)):
        with pytest.raises(WeightsError, match=message):
            read(tmp_path / source)


def test_refuses_parts_that_there_are_not(fresh, single):
    with pytest.raises(ValueError, match="must have keys of.*Received: .'unet'"):
        load_weights({"unet": fresh["diffusion_model"]}, single)
    with pytest.raises(ValueError, match="must have keys of"):
        load_weights({}, single)
    with pytest.raises(WeightsError, match="without decoder"):
        load_weights(fresh, {part: single for part in fresh if part != "decoder"})


def test_reads_all_of_a_configuration_that_was_saved(model, single, tmp_path):
    assert read_config(model) == NARROW
    assert read_config(single) == NARROW
    tensors, path = tensors_of(single), tmp_path / "broken.safetensors"
    metadata = {"kerasdiffusion.config": json.dumps({"diffusion_model": {"heads": 3}})}
    safetensors.numpy.save_file(tensors, path, metadata)
    with pytest.raises(WeightsError, match="'heads' must be like"):
        read_config(path)


def test_every_part_has_a_folder(model):
    assert {FOLDERS[part][0] for part in NARROW.parts} <= {
        path.name for path in model.iterdir()
    }
