"""Files of another name, cut short, or of more than they store; pipes and devices."""

import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from kerasdiffusion.weights import WeightsError
from kerasdiffusion.weights.base import read_json
from kerasdiffusion.weights.files import open_tensors


def test_a_file_that_is_cut_short_meanwhile_is_an_error(tmp_path):
    """Between the check and the reading, as clients that sync do; no process ends."""
    path = tmp_path / "m.safetensors"
    save_file({"a": np.ones(2**20, "float32")}, path)
    with open_tensors(path) as file:
        file.check(["a"])
        os.truncate(path, 2**20)
        with pytest.raises(WeightsError, match="ends before its last tensor"):
            file.read("a")


@pytest.mark.parametrize("name", ["m.ckpt", "m.pt", "m.bin", "m.h5"])
def test_a_safetensors_file_of_another_name(tmp_path, name):
    save_file({"a": np.arange(3.0)}, tmp_path / name)
    with open_tensors(tmp_path / name) as file:
        assert file.read("a").tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: tensors,
        lambda tensors: {"state_dict": tensors, "epoch": 3},
        lambda tensors: {"model": tensors},
        lambda tensors: {"model": {"state_dict": tensors}},
        lambda tensors: {"ema": tensors, "step": 3},
    ],
)
def test_a_checkpoint_of_another_name_and_its_containers(tmp_path, wrap, zipped):
    torch = pytest.importorskip("torch")
    path = tmp_path / "m.safetensors"
    torch.save(
        wrap({"a": torch.arange(3.0)}), path, _use_new_zipfile_serialization=zipped
    )
    with open_tensors(path) as file:
        assert file.keys() == ["a"] and file.read("a").tolist() == [0.0, 1.0, 2.0]


class TestHDF5:
    def write(self, path, fill):
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            fill(file)
        return path

    def test_an_array_that_states_more_than_is_stored(self, tmp_path):
        def fill(file):
            file.create_dataset("a", (10**6, 10**6), "float32", chunks=(100, 100))

        path = self.write(tmp_path / "m.h5", fill)
        with pytest.raises(WeightsError, match="must be stored: 'a' states 4000000000"):
            open_tensors(path)

    def test_groups_without_end(self, tmp_path):
        def fill(file):
            group = file
            for _ in range(500):
                group = group.create_group("g")

        path = self.write(tmp_path / "m.h5", fill)
        with pytest.raises(WeightsError, match="at most 64 groups within groups"):
            open_tensors(path)

    def test_a_group_within_itself(self, tmp_path):
        def fill(file):
            file.create_group("g")["again"] = file["/"]

        path = self.write(tmp_path / "m.h5", fill)
        with pytest.raises(WeightsError, match="at most 64 groups within groups"):
            open_tensors(path)

    def test_compressed_arrays_are_read(self, tmp_path):
        def fill(file):
            zeros = np.zeros((2000, 2000), "float32")
            file.create_dataset("a", data=zeros, compression="gzip")

        with open_tensors(self.write(tmp_path / "m.h5", fill)) as file:
            assert file.read("a").shape == (2000, 2000)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("name", ["m.safetensors", "m.ckpt", "config.json"])
def test_pipes_and_devices_are_no_files(tmp_path, name):
    os.mkfifo(tmp_path / name)
    os.symlink("/dev/zero", tmp_path / f"zero_{name}")
    for path in (tmp_path / name, tmp_path / f"zero_{name}"):
        with pytest.raises(WeightsError, match="regular file|does not exist"):
            (read_json if name.endswith("json") else open_tensors)(path)
