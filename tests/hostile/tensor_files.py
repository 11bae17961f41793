"""Weights files that lie: safetensors and HDF5, and adapters and words in them."""

import json
import os
from pathlib import Path

import numpy as np

from kerasdiffusion.adapters.embeddings import read_embeddings
from kerasdiffusion.adapters.read import read_adapter
from kerasdiffusion.weights.files import open_tensors
from tests.hostile.harness import Collection
from tests.tiny import TINY

CASES = Collection()


def read_all(path) -> dict:
    """Every tensor of a file, as a loader asks for them."""
    with open_tensors(path) as file:
        file.check(file.keys())
        return {name: np.array(file.read(name)) for name in file.keys()}


CASES.reader("safetensors")(read_all)
CASES.reader("hdf5")(read_all)
CASES.reader("index")(read_all)


@CASES.reader("embeddings")
def words(path):
    return read_embeddings(path, 32)


@CASES.reader("adapters")
def adapter(path):
    return read_adapter(path, TINY)


def safetensors(header, data: bytes = b"", length: int | None = None) -> bytes:
    """A file of a header, however wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def written(name: str, content: bytes):
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def entry(shape=(1,), start=0, stop=4, dtype="F32") -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


def add_safetensors(name: str, header, data=b"\0" * 4, outcome="refused", **more):
    content = safetensors(header, data, more.pop("length", None))
    CASES.add("safetensors", name, written("a.safetensors", content), outcome, **more)


def _a_good_file(folder, value):
    assert list(value) == ["a"] and value["a"].tolist() == [0.0]


add_safetensors("a good one", {"a": entry()}, outcome="taken", check=_a_good_file)
add_safetensors("empty metadata", {"__metadata__": {}, "a": entry()}, outcome="taken")
add_safetensors("no tensors", {}, b"", "taken")
add_safetensors("a tensor of nothing", {"a": entry((0, 7), 0, 0)}, b"", "taken")
for size in (0, 1, 7, 8):
    CASES.add("safetensors", f"{size} bytes", written("a.safetensors", b"\1" * size))
for length in (2**63, 2**64 - 1, 2**40, 17 * 2**20, 500):
    add_safetensors(f"a header of {length} bytes", {"a": entry()}, length=length)
for name, header in {
    "a list": [1],
    "a number": 1,
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b'{"\xff": 1}',
    "nested": b"[" * 10**5,
    "nested in a name": b'{"a":' * 10**4 + b"1" + b"}" * 10**4,
    "an entry of nothing": {"a": None},
    "an entry of text": {"a": "F32"},
    "an entry without shape": {"a": {"dtype": "F32", "data_offsets": [0, 4]}},
    "a dtype that is a list": {"a": {**entry(), "dtype": ["F32"]}},
    "an unknown dtype": {"a": entry(dtype="F7")},
    "a side of less than nothing": {"a": entry((-1,))},
    "a side that is a half": {"a": entry((0.5,))},
    "a side that is true": {"a": entry((True,))},
    "a side of 400 digits": b'{"a":{"dtype":"F32","shape":[' + b"9" * 400 + b"],"
    b'"data_offsets":[0,4]}}',
    "a side of 5,000 digits": b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b"],"
    b'"data_offsets":[0,4]}}',
    "sides whose product wraps": {"a": entry((2**32, 2**32, 2**32), 0, 4)},
    "a huge shape": {"a": entry((2**40,), 0, 4)},
    "ten thousand sides": {"a": entry((1,) * 10**4)},
    "sides of zero and much": {"a": entry((0, 2**62, 2**62), 0, 4)},
    "an end ahead of its start": {"a": entry((1,), 4, 0)},
    "an end beyond the file": {"a": entry((2,), 0, 8)},
    "an offset of 2**64": {"a": entry((1,), 2**64, 2**64 + 4)},
    "three offsets": {"a": {**entry(), "data_offsets": [0, 4, 8]}},
    "a hole": {"a": entry((1,), 0, 4), "b": entry((1,), 8, 12)},
    "an overlap": {"a": entry((1,), 0, 4), "b": entry((1,), 0, 4)},
    "a name twice": b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
    b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    "metadata that is text": {"__metadata__": "x", "a": entry()},
    "metadata nested": b'{"__metadata__":{"a":' + b"[" * 10**4 + b"]" * 10**4 + b"}}",
    "a name of a megabyte": {"a" * 10**6: entry((3,), 0, 4)},
    "infinity for a side": b'{"a":{"dtype":"F32","shape":[Infinity],'
    b'"data_offsets":[0,4]}}',
}.items():
    add_safetensors(name, header)
add_safetensors("bytes left over", {"a": entry()}, b"\0" * 5)
CASES.add("safetensors", "a web page", written("a.safetensors", b"<!DOCTYPE html>" * 9))
CASES.add("safetensors", "a GGUF file", written("a.safetensors", b"GGUF" + b"\0" * 99))
CASES.add("safetensors", "a YAML file", written("a.yaml", b"a: &x [*x, *x]\n"))
CASES.add("safetensors", "no file", lambda folder: folder / "none.safetensors")
CASES.add(
    "safetensors", "a name with a NUL", lambda folder: f"{folder}/a\0.safetensors"
)


@CASES.case("safetensors", "a pipe")
def _(folder):
    os.mkfifo(folder / "a.safetensors")
    return folder / "a.safetensors"


@CASES.case("safetensors", "a device")
def _(folder):
    (folder / "a.safetensors").symlink_to("/dev/zero")
    return folder / "a.safetensors"


@CASES.case("safetensors", "a folder")
def _(folder):
    (folder / "a.safetensors").mkdir()
    return folder / "a.safetensors"


@CASES.case("safetensors", "a link to itself")
def _(folder):
    (folder / "a.safetensors").symlink_to("a.safetensors")
    return folder / "a.safetensors"


# HDF5.


def hdf5(name: str, outcome="refused", **more):
    """Adds a case whose file a function fills."""

    def register(fill):
        def make(folder):
            import h5py

            with h5py.File(folder / "a.h5", "w") as file:
                fill(file, folder)
            return folder / "a.h5"

        CASES.add("hdf5", name, make, outcome, **more)
        return fill

    return register


@hdf5("a good one", "taken")
def _(file, folder):
    file["a/b"] = np.zeros(3, "float32")


@hdf5("an array of 2**40 numbers that were not stored")
def _(file, folder):
    file.create_dataset("a", (2**40,), "float32", chunks=(2**16,))


@hdf5("an array of 8 GiB that was not stored")
def _(file, folder):
    file.create_dataset("a", (2**31,), "float32", chunks=(2**16,), fillvalue=1)


@hdf5("an array that unpacks to a thousand times its size", "taken", mebibytes=800)
def _(file, folder):
    array = file.create_dataset("a", (2**28,), "uint8", chunks=(2**20,), compression=9)
    for start in range(0, 2**28, 2**20):
        array[start : start + 2**20] = 0


@hdf5("an array in another file")
def _(file, folder):
    (folder / "b").write_bytes(b"0123")
    file.create_dataset("a", (1,), "float32", external=[(str(folder / "b"), 0, 4)])


@hdf5("a virtual array")
def _(file, folder):
    import h5py

    layout = h5py.VirtualLayout((4,), "float32")
    layout[:] = h5py.VirtualSource("/dev/null", "x", (4,))
    file.create_virtual_dataset("a", layout)


@hdf5("a link to another file", "taken", check=lambda _, value: None)
def _(file, folder):
    import h5py

    file["a"] = h5py.ExternalLink("/etc/hostname", "/")
    file["b"] = np.zeros(1, "float32")


@hdf5("a link in a circle", "taken")
def _(file, folder):
    import h5py

    file["a"] = h5py.SoftLink("/a")


@hdf5("a group that is its own child")
def _(file, folder):
    file.create_group("a")["b"] = file["/"]


@hdf5("groups five thousand deep")
def _(file, folder):
    group = file
    for _ in range(5000):
        group = group.create_group("a")


@hdf5("names of ten megabytes", "taken")
def _(file, folder):
    for i in range(10):
        file[f"{i}" * 60_000] = np.zeros(1, "float32")


for cut in (0, 4, 100, 1500):

    @CASES.case("hdf5", f"cut after {cut} bytes")
    def _(folder, cut=cut):
        import h5py

        with h5py.File(folder / "b.h5", "w") as file:
            file["a"] = np.zeros(999, "float32")
        (folder / "a.h5").write_bytes((folder / "b.h5").read_bytes()[:cut])
        return folder / "a.h5"


@CASES.case("hdf5", "a pipe")
def _(folder):
    os.mkfifo(folder / "a.h5")
    return folder / "a.h5"


# An index and its shards.


def index(name: str, content, outcome="refused", **more):
    text = content if isinstance(content, bytes) else json.dumps(content).encode()

    def make(folder):
        (folder / "s.safetensors").write_bytes(safetensors({"a": entry()}, b"\0" * 4))
        (folder / "x.safetensors.index.json").write_bytes(text)
        return folder / "x.safetensors.index.json"

    CASES.add("index", name, make, outcome, **more)


index("a good one", {"weight_map": {"a": "s.safetensors"}}, "taken")
for shard in (
    "../s.safetensors",
    "/etc/hostname",
    "..",
    ".",
    "",
    "a/../../s.safetensors",
    "..\\s.safetensors",
    "C:\\s.safetensors",
    "none.safetensors",
    "x.safetensors.index.json",
    "s.safetensors\0",
    "s" * 5000,
    "~/s.safetensors",
    {"a": 1},
    ["s.safetensors"],
    None,
    7,
):
    index(f"a shard named {str(shard)[:30]!r}", {"weight_map": {"a": shard}})
index("no map", {})
index("a list", [1, 2])
index("a map that is a list", {"weight_map": ["s.safetensors"]})
index("a map of nothing", {"weight_map": {}})
index("a tensor that no shard has", {"weight_map": {"b": "s.safetensors"}})
index("nested", b'{"weight_map":' * 5000 + b"1" + b"}" * 5000)
index("20 MB", b'{"weight_map": {"' + b"a" * 20 * 2**20 + b'": "s.safetensors"}}')
index(
    "ten thousand shards",
    {"weight_map": {str(i): f"{i}.safetensors" for i in range(10**4)}},
)


@CASES.case("index", "a link to a device")
def _(folder):
    (folder / "a.index.json").symlink_to("/dev/zero")
    return folder / "a.index.json"


@CASES.case("index", "a pipe")
def _(folder):
    os.mkfifo(folder / "a.index.json")
    return folder / "a.index.json"


# Words.


def vectors(
    name: str, tensors: dict, outcome="refused", file="cat.safetensors", **more
):
    """A file of tensors, as it should be but for what is in them."""

    def make(folder):
        header, data = {}, b""
        for key, array in tensors.items():
            array = np.asarray(array, "float32")
            header[key] = entry(array.shape, len(data), len(data) + array.nbytes)
            data += array.tobytes()
        (folder / file).write_bytes(safetensors(header, data))
        return folder / file

    CASES.add(more.pop("reader", "embeddings"), name, make, outcome, **more)


ONE = np.ones((2, 32), "float32")
vectors("a good one", {"emb_params": ONE}, "taken")
vectors("another width", {"emb_params": ONE[:, :31]}, says="32")
vectors("not finite", {"emb_params": np.nan * ONE})
vectors("beyond float16", {"emb_params": 1e30 * ONE}, "taken")
vectors("two thousand vectors", {"emb_params": np.ones((2000, 32))})
vectors("no vectors", {"emb_params": np.ones((0, 32))})
vectors("a scalar", {"emb_params": np.ones(())})
vectors("three dimensions", {"emb_params": np.ones((1, 1, 32))})
vectors("no tensors", {})
vectors("an adapter", {"lora_unet_x.lora_up.weight": np.ones((4, 2))})
vectors("a word of a megabyte", {"a" * 10**6: ONE}, "taken")
CASES.add(
    "embeddings",
    "a shape of 2**40 in a file of 99 bytes",
    written("a.safetensors", safetensors({"a": entry((2**40, 32))}, b"\0" * 99)),
)


# Adapters.
UP, DOWN = np.ones((32, 2)), np.ones((2, 32))
TO = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def low_rank(name: str, up=UP, down=DOWN, alpha=2.0, outcome="refused", to=TO, **more):
    tensors = {f"{to}.lora_up.weight": up, f"{to}.lora_down.weight": down}
    if alpha is not None:
        tensors[f"{to}.alpha"] = np.float32(alpha)
    vectors(name, tensors | more.pop("and_", {}), outcome, reader="adapters", **more)


low_rank("a good one", outcome="taken")
low_rank("not finite", up=np.nan * UP)
low_rank("infinite", down=np.inf * DOWN)
low_rank("rank 0", up=np.ones((32, 0)), down=np.ones((0, 32)))
low_rank("ranks that differ", down=np.ones((3, 32)))
low_rank("another width", up=np.ones((31, 2)))
low_rank("alpha NaN", alpha=np.nan)
low_rank("alpha 1e30", alpha=1e30)
low_rank("alpha of many numbers", alpha=np.ones(9))
low_rank("another model's place", to="lora_unet_double_blocks_0_img_attn_qkv")
low_rank("nobody's place", to="lora_unet_no_such_module")
low_rank("half of a pair", and_={}, up=np.ones((0,)), outcome="refused")
vectors("no tensors at all", {}, reader="adapters")
vectors("words alone", {"emb_params": ONE}, reader="adapters")
vectors("a megabyte of a name", {"a" * 10**6: ONE}, reader="adapters")
CASES.add("adapters", "a pipe's link", lambda folder: _pipe(folder / "a.safetensors"))


def _pipe(path):
    os.mkfifo(path)
    return path
