"""Networks to files: whole, or not at all."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from kerasdiffusion.prompts.tokenizer import Tokenizer
from kerasdiffusion.weights import names
from kerasdiffusion.weights.layout import FIELDS
from kerasdiffusion.weights.load import load_weights, read_config
from kerasdiffusion.weights.save import save_file, save_folder
from tests.weights.geometries import NARROW, WIDE, assert_equal, fill, networks, values

pytestmark = pytest.mark.every_backend_at_length
TOKENIZER = Tokenizer(NARROW.tokenizer)


@pytest.fixture(scope="module")
def parts():
    return networks(NARROW, seed=1)


@pytest.fixture(scope="module")
def scratch():
    return networks(NARROW)


@pytest.fixture
def fresh(scratch):
    """Networks of the same geometry with other weights."""
    return fill(scratch, seed=2)


@pytest.fixture(scope="module")
def others():
    """A third set."""
    return networks(NARROW)


def listing(folder):
    return sorted(os.path.relpath(path, folder) for path in folder.rglob("*"))


@pytest.mark.parametrize("dtype", [None, "float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_reads_back_what_it_saves(tmp_path, parts, fresh, kind, dtype):
    path = tmp_path / ("model" if kind == "folder" else "model.safetensors")
    if kind == "folder":
        save_folder(path, parts, NARROW, TOKENIZER, dtype=dtype)
    else:
        save_file(path, parts, NARROW, dtype=dtype)
    assert read_config(path) == NARROW
    load_weights(fresh, path)
    expected = values(parts)
    if dtype:
        expected = {
            name: value.astype(np.dtype(dtype)).astype("float32")
            for name, value in expected.items()
        }
    assert_equal(values(fresh), expected)
    assert listing(tmp_path)[0].startswith("model")  # nothing temporary is left


def test_keeps_the_dtype_of_half_precision_networks(tmp_path):
    half = networks(NARROW, seed=1, dtype="bfloat16")
    save_file(tmp_path / "m.safetensors", half, NARROW)
    tensors = safetensors.numpy.load_file(tmp_path / "m.safetensors")
    assert {str(value.dtype) for value in tensors.values()} == {"bfloat16"}


def test_a_single_file_has_the_original_names_and_shapes(tmp_path, parts):
    save_file(tmp_path / "m.safetensors", parts, NARROW)
    tensors = safetensors.numpy.load_file(tmp_path / "m.safetensors")
    expected = {
        tensor.original: tensor.original_shape
        for part, attribute in FIELDS.items()
        if part in NARROW.parts
        for tensor in names.tensors(part, getattr(NARROW, attribute))
    }
    assert {name: value.shape for name, value in tensors.items()} == expected


def test_splits_large_parts_into_shards(tmp_path, parts, fresh):
    save_folder(tmp_path / "m", parts, NARROW, TOKENIZER, max_shard_size=20_000)
    unet = tmp_path / "m" / "unet"
    shards = sorted(unet.glob("*.safetensors"))
    assert len(shards) > 2
    index = json.loads(
        (unet / "diffusion_pytorch_model.safetensors.index.json").read_text()
    )
    assert set(index["weight_map"].values()) == {path.name for path in shards}
    for path in shards:
        tensors = safetensors.numpy.load_file(path)
        assert len(tensors) == 1 or sum(v.nbytes for v in tensors.values()) <= 20_000
    load_weights(fresh, tmp_path / "m")
    assert_equal(values(fresh), values(parts))


def test_does_not_overwrite_unless_asked(tmp_path, parts, others, fresh):
    folder, file = tmp_path / "model", tmp_path / "model.safetensors"
    folder.mkdir()
    save_folder(folder, parts, NARROW, TOKENIZER)  # an empty folder may be filled
    save_file(file, parts, NARROW)
    (folder / "notes.txt").write_text("mine")
    fill(others, seed=3)
    for save, kept in (
        (lambda **more: save_folder(folder, others, NARROW, TOKENIZER, **more), folder),
        (lambda **more: save_file(file, others, NARROW, **more), file),
    ):
        with pytest.raises(FileExistsError, match="overwrite=True.*Received: .*model"):
            save()
        load_weights(fresh, kept)
        assert_equal(values(fresh), values(parts))
        save(overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"
    for path in (folder, file):
        load_weights(fresh, path)
        assert_equal(values(fresh), values(others))
    assert sorted(os.listdir(tmp_path)) == ["model", "model.safetensors"]


def test_leaves_the_old_model_where_saving_fails(tmp_path, parts, others, fresh):
    """One value does not fit float16: found out in the middle of the last part."""
    save_folder(tmp_path / "model", parts, NARROW, TOKENIZER)
    save_file(tmp_path / "model.safetensors", parts, NARROW)
    before = listing(tmp_path)
    large = fill(others, seed=4)
    large["decoder"].weights[0].assign(large["decoder"].weights[0] + 1e6)
    options = {"dtype": "float16", "overwrite": True}
    with pytest.raises(ValueError, match="must fit the dtype.*float16"):
        save_folder(tmp_path / "model", large, NARROW, TOKENIZER, **options)
    with pytest.raises(ValueError, match="must fit the dtype.*float16"):
        save_file(tmp_path / "model.safetensors", large, NARROW, **options)
    assert listing(tmp_path) == before
    for path in (tmp_path / "model", tmp_path / "model.safetensors"):
        load_weights(fresh, path)
        assert_equal(values(fresh), values(parts))


def test_refuses_what_is_no_whole_model(tmp_path, parts):
    file = tmp_path / "m.safetensors"
    some = {part: model for part, model in parts.items() if part != "decoder"}
    with pytest.raises(ValueError, match="with all its parts.*without decoder"):
        save_file(file, some, NARROW)
    with pytest.raises(ValueError, match="configuration must be that of the networks"):
        save_folder(tmp_path / "m", parts, WIDE, TOKENIZER)
    with pytest.raises(
        ValueError, match="floating-point dtype.*Received: dtype='int8'"
    ):
        save_file(file, parts, NARROW, dtype="int8")
    with pytest.raises(ValueError, match="Received: dtype='half a float'"):
        save_file(file, parts, NARROW, dtype="half a float")
    with pytest.raises(ValueError, match="must end in .safetensors"):
        save_file(tmp_path / "m.ckpt", parts, NARROW)
    with pytest.raises(FileNotFoundError, match="folder to write to must"):
        save_file(tmp_path / "absent" / "m.safetensors", parts, NARROW)
    assert os.listdir(tmp_path) == []


def test_texts_come_with_the_model_or_not_at_all(tmp_path, parts, monkeypatch):
    folder, texts = tmp_path / "model", {"README.md": "one", "recipe.json": "{}"}
    save_folder(folder, parts, NARROW, TOKENIZER, texts=texts)
    (folder / "notes.txt").write_text("mine")
    write = Path.write_text

    def full(path, text, *how, **more):
        if path.name == "README.md":
            raise OSError(28, "No space left on device")
        return write(path, text, *how, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="The disk is full: nothing was saved"):
            save_folder(folder, parts, NARROW, TOKENIZER, overwrite=True, texts=texts)
    assert (folder / "README.md").read_text() == "one"
    texts = {"README.md": "two"}
    save_folder(folder, parts, NARROW, TOKENIZER, overwrite=True, texts=texts)
    assert (folder / "README.md").read_text() == "two"
    assert (folder / "notes.txt").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"model"}
