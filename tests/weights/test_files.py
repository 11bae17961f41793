"""Tensor files of every format, whole and broken; nothing in a file is ever run."""

import json
import os
import struct

import h5py
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from kerasdiffusion.weights import WeightsError
from kerasdiffusion.weights.files import open_tensors


def values_of(file):
    return {name: file.read(name) for name in file.keys()}


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(
            found[name].astype("float64"), value.astype("float64")
        )


# Safetensors.


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    return {
        "f32": random.normal(size=(3, 4)).astype("float32"),
        "f16": random.normal(size=(5,)).astype("float16"),
        "bf16": random.normal(size=(2, 2)).astype(ml_dtypes.bfloat16),
        "scalar": np.array(3.0),
        "empty": np.zeros((0, 3), "float32"),
        "ids": np.arange(77)[None],
        "flags": np.array([True, False]),
    }


def test_reads_what_the_safetensors_library_writes(tmp_path, arrays):
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file(arrays, path, metadata={"format": "pt"})
    with open_tensors(path) as file:
        assert file.metadata == {"format": "pt"}
        assert file.shape("f32") == (3, 4)
        assert file.dtype("bf16") == ml_dtypes.bfloat16
        file.check(file.keys())
        same(values_of(file), arrays)


def test_reads_stay_valid_after_the_file_is_closed_and_gone(tmp_path, arrays):
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file(arrays, path)
    with open_tensors(path) as file:
        value = file.read("f32")
    path.unlink()
    np.testing.assert_array_equal(value, arrays["f32"])


def safetensors_bytes(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(start, stop, shape=(1,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be empty"),
        (b"\x01\x02", "truncated: it has 2 bytes"),
        (safetensors_bytes({"a": entry(0, 4)}, b"1234")[:30], "truncated: its header"),
        (safetensors_bytes({"a": entry(0, 4)}, b"12"), "truncated: its tensors end"),
        (safetensors_bytes({}, b"12"), "bytes left over"),
        (safetensors_bytes(b"{}", length=2**63), "states a header of"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html></html>", "is a web page, not the file itself"),
        (safetensors_bytes(b"{}", length=2**24 + 1), "states a header of"),
        (safetensors_bytes(b"not json"), "not JSON"),
        (safetensors_bytes(b"\xff\xfe"), "not JSON"),
        (safetensors_bytes(b"[" * 100_000), "not JSON"),
        (safetensors_bytes(b'{"a": 1' + b"1" * 5000 + b"}"), "not JSON"),
        (safetensors_bytes([]), "not a JSON object"),
        (safetensors_bytes({"a": 3}), "broken header entry for tensor 'a'"),
        (safetensors_bytes({"a": entry(-4, 0)}), "broken header entry"),
        (safetensors_bytes({"a": entry(0, 4, (1.5,))}, b"1234"), "broken header"),
        (safetensors_bytes({"a": entry(0, 4, (9,))}, b"1234"), r"shape \(9,\)"),
        (safetensors_bytes({"a": entry(0, 4, (2**62, 4))}, b"1234"), "shape"),
        (safetensors_bytes({"a": entry(0, 4, dtype="F3")}, b"1234"), "dtype 'F3'"),
        (safetensors_bytes({"a": entry(4, 8)}, b"12345678"), "hole or an overlap"),
        (
            safetensors_bytes({"a": entry(0, 4), "b": entry(0, 4)}, b"1234"),
            "hole or an overlap",
        ),
        (
            safetensors_bytes(
                b'{"a":%b,"a":%b}' % ((json.dumps(entry(0, 4)).encode(),) * 2), b"1234"
            ),
            "states each name once",
        ),
    ],
)
def test_refuses_broken_safetensors(tmp_path, content, message):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"{message}.*Received: .*broken"):
        open_tensors(path)


# HDF5.


def test_reads_the_arrays_of_hdf5(tmp_path):
    path = tmp_path / "a.h5"
    expected = np.arange(6, dtype="float32").reshape(2, 3)
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = expected
        file["text"] = "not an array of numbers"
    with open_tensors(path) as file:
        assert file.keys() == ["layers/dense/vars/0"]
        same(values_of(file), {"layers/dense/vars/0": expected})


def test_does_not_follow_hdf5_to_other_files(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"\0" * 16)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = np.zeros(2)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["a"] = h5py.ExternalLink("other.h5", "/a")
    with open_tensors(tmp_path / "link.h5") as file:
        assert file.keys() == []
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file.create_dataset("a", (4,), "float32", external=[(secret, 0, 16)])
    with pytest.raises(WeightsError, match="'a' points to another file"):
        open_tensors(tmp_path / "raw.h5")


def test_refuses_broken_hdf5(tmp_path):
    path = tmp_path / "broken.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 50)
    with pytest.raises(WeightsError, match="not HDF5, or it is truncated"):
        open_tensors(path)


# Sharded files and names.


def save_shards(folder, shards, weight_map=None):
    index = weight_map or {}
    for name, tensors in shards.items():
        safetensors.numpy.save_file(tensors, folder / name)
        index |= {key: name for key in tensors if not weight_map}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": index}))
    return path


def test_reads_shards_as_one_file(tmp_path):
    a, b = np.ones(2, "float32"), np.zeros((2, 2), "float32")
    shards = {"m-1.safetensors": {"a": a}, "m-2.safetensors": {"b": b}}
    with open_tensors(save_shards(tmp_path, shards)) as file:
        file.check(["a", "b"])
        assert file.shape("b") == (2, 2)
        same(values_of(file), {"a": a, "b": b})


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "../m.safetensors"}, "must lie beside it"),
        ({"a": "/etc/passwd"}, "must lie beside it"),
        ({"a": "..\\m.safetensors"}, "must lie beside it"),
        ({"a": "model.safetensors.index.json"}, "must be a weights file"),
        ({"a": "absent.safetensors"}, "does not exist"),
        ({"b": "m.safetensors"}, "lack, such as 'b'"),
        ({"a": ["m.safetensors"]}, "must lie beside it|does not exist"),
        ([], "must hold a `weight_map`"),
    ],
)
def test_refuses_broken_indices(tmp_path, weight_map, message):
    safetensors.numpy.save_file({"a": np.ones(1)}, tmp_path / "m.safetensors")
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(WeightsError, match=message):
        open_tensors(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.safetensors", "does not exist"),
        (".", "is a folder"),
        ("model.onnx", "is an ONNX model"),
        ("model.gguf", "is a GGUF file"),
        ("renamed.safetensors", "is a GGUF file"),
        ("model.txt", "ends in .safetensors"),
    ],
)
def test_says_what_is_no_weights_file(tmp_path, name, message):
    for other in ("model.onnx", "model.gguf", "model.txt"):
        (tmp_path / other).write_bytes(b"text")
    (tmp_path / "renamed.safetensors").write_bytes(b"GGUF\x03\x00")
    with pytest.raises(WeightsError, match=message):
        open_tensors(tmp_path / name)


def test_notices_a_file_that_shrinks_before_it_is_read(tmp_path, arrays):
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file(arrays, path)
    with open_tensors(path) as file:
        os.truncate(path, path.stat().st_size - 8)
        with pytest.raises(WeightsError, match="it changed while it was read"):
            file.check(file.keys())
