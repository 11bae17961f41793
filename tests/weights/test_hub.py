"""Sources: local paths, models in the package, and the hub (a local server here)."""

import json
import os
import subprocess
import sys

import pytest

from kerasdiffusion.weights import WeightsError, hub
from tests.weights.hub_server import serving

PROGRAM = """
import sys
from kerasdiffusion.weights import WeightsError, hub
options = dict(option.split("=") for option in sys.argv[2:])
try:
    print(hub.resolve(sys.argv[1], **options))
except WeightsError as error:
    sys.exit(f"refused: {error}")
"""

SMALL = {
    name: f'{{"for": "{name}"}}'.encode()
    for name in (
        "model_index.json",
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
    )
}
PLAIN = {
    "unet/diffusion_pytorch_model.safetensors": b"u" * 300_000,
    "vae/diffusion_pytorch_model.safetensors": b"v" * 2000,
    "text_encoder/model.safetensors": b"t" * 1000,
}
OTHER = {
    "unet/diffusion_pytorch_model.fp16.safetensors": b"h" * 500,
    "vae/diffusion_pytorch_model.fp16.safetensors": b"h" * 500,
    "text_encoder/model.fp16.safetensors": b"h" * 500,
    "unet/diffusion_pytorch_model.bin": b"b" * 500,
    "safety_checker/model.safetensors": b"s" * 500,
    "README.md": b"words",
    "v1-5-pruned.ckpt": b"c" * 500,
}


@pytest.fixture
def server():
    with serving() as server:
        server.repositories["owner/model"] = SMALL | PLAIN | OTHER
        yield server


@pytest.fixture
def resolve(server, tmp_path):
    """Resolve a source in a fresh process whose hub is the server."""

    def run(source, *options, **environment):
        environment = {
            **os.environ,
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(tmp_path),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DOWNLOAD_TIMEOUT": "5",
            **environment,
        }
        environment.pop("HF_TOKEN", None)
        command = [sys.executable, "-c", PROGRAM, source, *options]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            assert "refused: " in done.stderr, done.stderr
            raise WeightsError(done.stderr.split("refused: ")[1])
        return done.stdout.strip()

    return run


def files_in(folder):
    return {
        os.path.relpath(os.path.join(root, name), folder)
        for root, _, names in os.walk(folder)
        for name in names
    }


def test_fetches_the_configurations_and_one_precision(server, resolve):
    folder = resolve("hf://owner/model")
    assert files_in(folder) == set(SMALL | PLAIN)
    assert sorted(server.downloads()) == sorted(SMALL | PLAIN)


def test_asks_nothing_when_the_cache_has_all(server, resolve):
    folder = resolve("hf://owner/model")
    server.requests.clear()
    assert resolve("hf://owner/model") == folder
    assert server.requests == []


def test_fetches_the_variant_asked_for(server, resolve):
    folder = resolve("hf://owner/model", "variant=fp16")
    weights = {name for name in OTHER if "fp16" in name}
    assert files_in(folder) == set(SMALL) | weights


def test_fetches_every_shard_of_an_index(server, resolve):
    shards = {
        f"unet/diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in "12"
    }
    unet = "unet/diffusion_pytorch_model.safetensors"
    files = {name: data for name, data in PLAIN.items() if name != unet}
    names = sorted(name.split("/")[1] for name in shards)
    index = {"weight_map": {"a": names[0], "b": names[1]}}
    files[f"{unet}.index.json"] = json.dumps(index).encode()
    files |= dict.fromkeys(shards, b"x")
    server.repositories["owner/sharded"] = SMALL | files
    assert files_in(resolve("hf://owner/sharded")) == set(SMALL | files)


def test_fetches_a_network_alone(server, resolve):
    """A ControlNet: its configuration first, its weights when they are wanted."""
    weights = "diffusion_pytorch_model.safetensors"
    files = {"config.json": b"{}", weights: b"c" * 100, "README.md": b"words"}
    files |= {"diffusion_pytorch_model.fp16.safetensors": b"h", "images/a.png": b"p"}
    server.repositories["owner/control"] = files
    folder = resolve("hf://owner/control", "configs_only=1")
    assert files_in(folder) == {"config.json"}
    assert resolve("hf://owner/control") == folder
    assert files_in(folder) == {"config.json", weights}
    server.requests.clear()
    assert resolve("hf://owner/control") == folder
    assert server.requests == []


def test_fetches_a_single_file_by_its_name(server, resolve):
    path = resolve("hf://owner/model/v1-5-pruned.ckpt")
    assert open(path, "rb").read() == OTHER["v1-5-pruned.ckpt"]
    assert server.downloads() == ["v1-5-pruned.ckpt"]


def test_fetches_keras_cv_files(server, resolve):
    names = ["kcv_encoder.h5", "kcv_diffusion_model.h5", "kcv_decoder.h5"]
    files = dict.fromkeys([*names, "vae_encoder.h5"], b"h5")
    server.repositories["owner/keras-cv"] = files | {"README.md": b""}
    assert files_in(resolve("hf://owner/keras-cv")) == set(files)


def test_goes_on_where_the_connection_broke(server, resolve):
    megabyte = 2**20  # the client keeps what it has in steps of ten
    data = bytes(range(256)) * (12 * megabyte // 256)
    server.repositories["owner/large"] = {"large.ckpt": data}
    server.cut["large.ckpt"] = 11 * megabyte
    path = resolve("hf://owner/large/large.ckpt")
    assert open(path, "rb").read() == data
    ranges = [wanted for _, _, wanted in server.requests if wanted]
    assert ranges == [f"bytes={10 * megabyte}-"]


def test_fetches_only_what_an_earlier_try_left(server, resolve):
    name = "vae/diffusion_pytorch_model.safetensors"
    server.wrong_sums.add(name)
    with pytest.raises(WeightsError):
        resolve("hf://owner/model")
    server.wrong_sums.clear()
    server.requests.clear()
    resolve("hf://owner/model")
    assert server.downloads() == [name]


def test_offline_reads_the_cache_and_says_how_to_fill_it(server, resolve):
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE forbids.*hf://owner/model"):
        resolve("hf://owner/model", HF_HUB_OFFLINE="1")
    folder = resolve("hf://owner/model")
    assert resolve("hf://owner/model", HF_HUB_OFFLINE="1") == folder


def test_refuses_and_removes_a_file_with_a_wrong_checksum(server, resolve):
    name = "vae/diffusion_pytorch_model.safetensors"
    server.wrong_sums.add(name)
    with pytest.raises(WeightsError, match=f"damaged {name}: its SHA-256 is not"):
        resolve("hf://owner/model")
    server.wrong_sums.clear()
    assert files_in(resolve("hf://owner/model")) == set(SMALL | PLAIN)


def test_says_that_there_is_no_connection(resolve):
    with pytest.raises(WeightsError, match="not in the cache.*check the connection"):
        resolve("hf://owner/model", HF_ENDPOINT="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf://owner/absent", "no such model.*check the spelling"),
        ("hf://owner/model@v9", "no such revision"),
        ("hf://owner/gated", "gated.*log in"),
        ("hf://owner/model/absent.ckpt", "no such file"),
        ("hf://owner/files", "can be read by its name.*a.safetensors"),
    ],
)
def test_says_what_the_hub_lacks(server, resolve, source, message):
    server.gated.add("owner/gated")
    server.repositories["owner/files"] = {"a.safetensors": b""}
    with pytest.raises(WeightsError, match=message):
        resolve(source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf://model", "hf://owner/name"),
        ("hf://../..", "hf://owner/name"),
        ("https://huggingface.co/owner/name", "hf://owner/name"),
        ("owner/name", "hub write hf://owner/name"),
        ("no/such/file.safetensors", "no such file or folder"),
        ("asset://absent", "models in the package"),
        ("asset://../weights", "models in the package"),
    ],
)
def test_says_what_is_wrong_with_a_spelling(source, message):
    with pytest.raises(WeightsError, match=f"{message}.*Received: '{source}'"):
        hub.resolve(source)


def test_takes_local_paths_as_they_are(tmp_path):
    assert hub.resolve(str(tmp_path)) == tmp_path
    assert hub.resolve(tmp_path) == tmp_path
