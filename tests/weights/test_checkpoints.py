"""PyTorch's checkpoints, whole and broken; nothing in a pickle is ever run."""

import collections
import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch

from kerasdiffusion.weights import WeightsError
from kerasdiffusion.weights.files import open_tensors

STATE = collections.OrderedDict(
    plain=torch.arange(24.0).reshape(4, 6),
    transposed=torch.arange(24.0).reshape(4, 6).t(),
    slice=torch.arange(24.0).reshape(4, 6)[1:, 2:4],
    half=torch.linspace(0, 1, 5).half(),
    bfloat=torch.linspace(0, 1, 5).bfloat16(),
    float8=torch.linspace(0, 1, 5).to(torch.float8_e4m3fn),
    parameter=torch.nn.Parameter(torch.ones(2)),
    ids=torch.arange(77).expand(1, -1),
    scalar=torch.tensor(3.0),
    empty=torch.zeros(0, 3),
)
CHECKPOINT = {
    "epoch": 3,
    "callbacks": {collections.Counter: collections.Counter("abca")},
    "optimizer_states": [{"state": {0: {"step": torch.tensor(1)}}, "lr": 1e-4}],
    "state_dict": STATE,
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])
@pytest.mark.parametrize("whole", [CHECKPOINT, STATE], ids=["checkpoint", "tensors"])
def test_reads_what_torch_writes(tmp_path, whole, zipped, protocol):
    path = tmp_path / "model.ckpt"
    torch.save(
        whole, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped
    )
    with open_tensors(path) as file:
        file.check(file.keys())
        assert file.keys() == list(STATE)
        for name, tensor in STATE.items():
            value = file.read(name)
            assert value.shape == file.shape(name) == tuple(tensor.shape)
            assert str(value.dtype) == str(tensor.dtype).removeprefix("torch.")
            expected = tensor.detach().float().numpy()
            np.testing.assert_array_equal(value.astype("float32"), expected)


class Attack:
    """What an attacker pickles: a call of anything, here one that leaves a trace."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def save_attack(path, attack, zipped=True):
    """A checkpoint with a sound tensor and the attack beside it."""
    torch.save(
        {"state_dict": {"a": torch.ones(1)}, "extra": attack},
        path,
        _use_new_zipfile_serialization=zipped,
    )


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.mkdir, "mkdir"), (eval, "eval"), (exec, "exec"), (os.system, "system")],
)
def test_never_runs_a_pickle(tmp_path, function, name, zipped):
    trace, path = tmp_path / "trace", tmp_path / "attack.ckpt"
    argument = str(trace)
    if function in (eval, exec):
        argument = f"__import__('os').mkdir({str(trace)!r})"
    elif function is os.system:
        argument = f"mkdir {trace}"
    save_attack(path, Attack(function, argument), zipped)
    with pytest.raises(WeightsError, match=rf"would run `.*{name}`.*nothing was run"):
        open_tensors(path)
    assert not trace.exists()
    # The attack is a real one: pickle itself falls for it.
    torch.load(path, weights_only=False)
    assert trace.exists()


def test_calls_no_class_that_it_does_not_know(tmp_path):
    """Not only the names of a list: nothing but tensors is ever made."""
    trace, path = tmp_path / "trace", tmp_path / "odd.ckpt"
    save_attack(path, Attack(np.savetxt, str(trace), [1.0]))
    with open_tensors(path) as file:
        assert file.keys() == ["a"]
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()


def zip_bytes(files, method=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(f"archive/{name}", data)
    return stream.getvalue()


def zip_checkpoint(shape=(2,), strides=(1,), offset=0, count=2, data=b"\0" * 8):
    """A checkpoint whose one tensor claims what it is told to claim."""
    storage = object()

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if item is storage:
                return "storage", torch.FloatStorage, "0", "cpu", count
            return None

    stream = io.BytesIO()
    rebuild = torch._utils._rebuild_tensor_v2
    tensor = Attack(rebuild, storage, offset, shape, strides, False, {})
    Pickler(stream, 2).dump({"a": tensor})
    return zip_bytes({"data.pkl": stream.getvalue(), "data/0": data})


def test_the_checkpoint_that_the_next_tests_break_is_whole(tmp_path):
    path = tmp_path / "whole.ckpt"
    path.write_bytes(zip_checkpoint())
    with open_tensors(path) as file:
        assert file.read("a").tolist() == [0.0, 0.0]


MEMO_BOMB = b"\x80\x02}r\xff\xff\xff\xff."  # would make pickle allocate 64 GiB
HUGE_STRING = b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"abc."
NESTED_KEY = b"\x80\x02}" + b")" + b"2\x86" * 60 + b"K\x01s."  # 2 ** 60 hashes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no checkpoint", "neither a zip archive nor a pickle"),
        (b"\x80\x02}q\x00.", "a pickle, but no PyTorch checkpoint"),
        (zip_checkpoint()[:-30], "damaged or truncated"),
        (zip_bytes({"readme": b""}), "must hold one data.pkl"),
        (zip_bytes({"data.pkl": b"\x80\x02}."}), "holds no tensors"),
        (zip_bytes({"data.pkl": b"\x80\x02N."}), "holds no tensors"),
        (zip_bytes({"data.pkl": b"\x80\x02}"}), "pickle is damaged"),
        (zip_bytes({"data.pkl": b"garbage"}), "pickle is damaged"),
        (zip_bytes({"data.pkl": MEMO_BOMB}), "holds no tensors"),
        (zip_bytes({"data.pkl": HUGE_STRING}), "pickle is damaged"),
        (zip_bytes({"data.pkl": NESTED_KEY}), "holds no tensors"),
        (
            zip_bytes({"data.pkl": b"\0" * 10**7}, zipfile.ZIP_DEFLATED),
            "must store its entries uncompressed.*states 10000000 bytes",
        ),
        (zip_bytes({"data.pkl": b".", "byteorder": b"big"}), "byte order must be"),
        (zip_checkpoint(data=b"\0" * 4), "reaches beyond its values"),
        (zip_checkpoint(offset=1), "reaches beyond"),
        (zip_checkpoint(strides=(9,)), "reaches beyond"),
        (zip_checkpoint(shape=(10**12,), strides=(0,)), "reaches beyond"),
        (zip_checkpoint(shape=(-2,)), "pickle is damaged"),
        (zip_checkpoint(strides=(-1,)), "pickle is damaged"),
        (zip_checkpoint(shape=(2, 2)), "pickle is damaged"),
        (zip_checkpoint(shape="ab", strides="cd"), "pickle is damaged"),
    ],
)
def test_refuses_broken_checkpoints(tmp_path, content, message):
    path = tmp_path / "broken.ckpt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"{message}.*Received: .*broken"):
        open_tensors(path)


def test_refuses_archives_whose_entries_overlap(tmp_path):
    """The newer zip bomb: many entries of one and the same bytes."""
    content = bytearray(zip_bytes({f"data/{i}": b"\0" * 1000 for i in range(10)}))
    at = content.find(b"PK\x01\x02")
    while at >= 0:
        content[at + 42 : at + 46] = struct.pack("<I", 0)  # offset of the local header
        content[at + 20 : at + 28] = struct.pack("<II", 1500, 1500)
        at = content.find(b"PK\x01\x02", at + 1)
    path = tmp_path / "bomb.ckpt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="states more bytes than the file has"):
        open_tensors(path)


@pytest.mark.parametrize("end", [10, 200, -20])
def test_refuses_truncated_streams(tmp_path, end):
    path = tmp_path / "stream.ckpt"
    torch.save({"a": torch.zeros(9)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(WeightsError, match="damaged|truncated"):
        open_tensors(path)
