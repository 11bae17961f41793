"""What is kept for the next time, in caches and beside models, when others wrote it."""

import hashlib
import json
import os
import pickle

from tests.hostile.harness import Collection
from tests.hostile.tensor_files import entry, safetensors

CASES = Collection(framework=True)


@CASES.reader("recipes")
def recipe(folder):
    from kerasdiffusion.training.bundled.model_card import read_scenes

    return read_scenes(folder)


@CASES.reader("classifiers")
def classifier(path):
    from kerasdiffusion.datasets import SceneConfig
    from kerasdiffusion.training.judging.kept_classifier import read_classifier

    return read_classifier(
        path, SceneConfig(objects=("red apple",), shapes=("circle",))
    )


@CASES.reader("checkpoints of training")
def checkpoint(folder):
    import keras

    from kerasdiffusion.training.checkpoints import resume

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd")
    return resume(model, folder)


@CASES.reader("traces")
def trace(path):
    from kerasdiffusion.compute import kept_traces

    assert kept_traces.read(path, [], lambda *_: []) is None


@CASES.reader("places of caches")
def place(switch):
    from kerasdiffusion.compute import compile_cache

    os.environ["KERASDIFFUSION_COMPILE_CACHE"] = switch
    assert compile_cache.keep_programs.__wrapped__("torch") is None


def add(reader, name, files: dict, outcome="refused", give=None, **more):
    """A folder of files, or one of them, for a reader."""

    def make(folder):
        for file, content in files.items():
            text = content if isinstance(content, bytes | str) else json.dumps(content)
            path = folder / file
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return folder / give if give else folder

    CASES.add(reader, name, make, outcome, **more)


INDEX = {"model_index.json": "{}"}
for name, made in {
    "nothing": b"",
    "no JSON": "{",
    "a list": "[]",
    "nested": "[" * 10**5,
    "no scenes": {"diffusion": {}},
    "scenes of text": {"scenes": "x", "diffusion": {}},
    "another field": {"scenes": {"__class__": "os.system"}, "diffusion": {}},
    "of 20 MB": b'{"scenes": "' + b"x" * 20 * 2**20 + b'"}',
}.items():
    add("recipes", name, INDEX | {"recipe.json": made})


@CASES.case("recipes", "a pipe")
def _(folder):
    (folder / "model_index.json").write_text("{}")
    os.mkfifo(folder / "recipe.json")
    return folder


@CASES.case("recipes", "a device")
def _(folder):
    (folder / "model_index.json").write_text("{}")
    (folder / "recipe.json").symlink_to("/dev/zero")
    return folder


class Marks:
    """Its pickle would make a file, were it ever loaded."""

    def __reduce__(self):
        return os.mkdir, (os.environ.get("HOSTILE_MARKER", "/nonexistent/marker"),)


add("classifiers", "a .keras file", {"a.keras": pickle.dumps(Marks())}, give="a.keras")
add(
    "classifiers",
    "a pickle",
    {"a.safetensors": pickle.dumps(Marks())},
    give="a.safetensors",
)
one = safetensors({"000": entry()}, b"\0" * 4)
add("classifiers", "one tensor", {"a.safetensors": one}, give="a.safetensors")
wide = safetensors({"000": entry((1, 2**40), 0, 2**42)}, b"\0" * 4)
add("classifiers", "a width of 2**40", {"a.safetensors": wide}, give="a.safetensors")
none = safetensors({}, b"")
add("classifiers", "no tensors", {"a.safetensors": none}, give="a.safetensors")
for name, content in {
    "nothing": b"",
    "garbage": b"x" * 999,
    "a pickle": pickle.dumps(Marks()),
}.items():
    add("checkpoints of training", name, {"checkpoint.weights.h5": content})


def progress(name, text, outcome="refused"):
    @CASES.case("checkpoints of training", name, outcome)
    def _(folder):
        import h5py

        with h5py.File(folder / "checkpoint.weights.h5", "w") as file:
            file.attrs["kerasdiffusion_progress"] = text
        return folder


progress("a count without weights", '{"epoch": 3, "random": []}')
progress("no JSON", "{")
progress("nested", "[" * 10**4)
progress("a count of text", '{"epoch": "x", "random": []}')
progress("no count", "{}")
progress("a list", "[1]")


def kept(name, body: bytes, summed=True):
    """A trace, with a right sum or without."""
    head = hashlib.sha256(body).hexdigest().encode() if summed else b"0" * 64
    file = {"a.trace": head + b"\n" + body}
    add("traces", name, file, "taken", give="a.trace", check=lambda *_: None)


kept("nothing", b"")
kept("a wrong sum", b"x", False)
kept("no graph", b"{}\nx")
kept("nested", b"[" * 10**5 + b"\n")
for kind in (["os", "mkdir"], "mkdir", ["builtins", "eval"], "Carry.__init__"):
    skeleton = {"named": [os.environ.get("HOSTILE_MARKER", "")], "type": kind}
    head = {"name": "x", "captures": [], "outputs": 1, "skeleton": skeleton}
    kept(f"a structure that calls {kind}", json.dumps(head).encode() + b"\n")
deep = {"name": "x", "captures": [], "outputs": 1, "skeleton": None}
kept("captures beyond all", json.dumps({**deep, "captures": [10**9]}).encode() + b"\n")
for switch in ("~nobody-here/x", "/proc/x", "/dev/null/x", "a" * 5000, "/dev/null"):
    # (Where a backend keeps nothing, only what is no place at all is said.)
    outcome = "warned" if switch.startswith("~") else "taken"
    name = f"at {switch[:20]}"
    CASES.add("places of caches", name, switch, outcome, check=lambda *_: None)
