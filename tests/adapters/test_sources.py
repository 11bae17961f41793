"""Adapters of the hub, of a local server here, and of the folder of adapters."""

import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save

from kerasdiffusion.adapters.sources import find_adapter
from kerasdiffusion.apps import flags
from kerasdiffusion.weights.base import WeightsError
from tests.adapters import files
from tests.weights.hub_server import serving

#: Each source in turn: where it is, what it says, or why it is refused.
PROGRAM = """
import sys
from kerasdiffusion.adapters.read import read_adapter
from kerasdiffusion.adapters.sources import find_adapter
from kerasdiffusion.weights import WeightsError
from tests.tiny import TINY
for source in sys.argv[1:]:
    try:
        path = find_adapter(source)
        print(path.name, read_adapter(path, TINY).alphas)
    except WeightsError as error:
        print("refused:", error)
"""


def test_adapters_of_the_hub(tmp_path):
    tensors = files.kohya(layers=("attn1",), alpha=2.0)
    bare = {key: each for key, each in tensors.items() if not key.endswith("alpha")}
    settings = b'{"peft_type": "LORA", "r": 4, "lora_alpha": 8}'
    sources = {
        "hf://owner/lora": ("pytorch_lora_weights.safetensors", "(2.0,)"),
        "hf://owner/peft": ("adapter_model.safetensors", "(8.0,)"),
        "hf://owner/alone": ("detail.safetensors", "(2.0,)"),
        "hf://owner/many/second.safetensors": ("second.safetensors", "(2.0,)"),
        "hf://owner/many": ("refused:", "hf://owner/many/FILE: first.safetensors, s"),
        "hf://owner/nothing": ("refused:", "no such model on the Hugging Face hub"),
        "hf://owner/many/third.safetensors": ("refused:", "no such file"),
    }
    plain = save(tensors)
    with serving() as server:
        server.repositories |= {
            "owner/lora": {
                "pytorch_lora_weights.safetensors": plain,
                "other.safetensors": b"x",
                "README.md": b"words",
            },
            "owner/peft": {
                "adapter_model.safetensors": save(bare),
                "adapter_config.json": settings,
            },
            "owner/alone": {"detail.safetensors": plain, "picture.png": b"p"},
            "owner/many": {"first.safetensors": b"x", "second.safetensors": plain},
        }
        environment = {
            **os.environ,
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(tmp_path),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DOWNLOAD_TIMEOUT": "5",
        }
        environment.pop("HF_TOKEN", None)
        command = [sys.executable, "-c", PROGRAM, *sources]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120
        )
        # What was not asked for was not fetched.
        assert sorted(server.downloads()) == [
            "adapter_config.json",
            "adapter_model.safetensors",
            "detail.safetensors",
            "pytorch_lora_weights.safetensors",
            "second.safetensors",
        ]
    lines = done.stdout.splitlines()
    assert len(lines) == len(sources), done.stderr
    for line, (begins, has) in zip(lines, sources.values(), strict=True):
        assert line.startswith(begins) and has in line


def test_the_flag_names_the_folder_of_adapters(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASDIFFUSION_ADAPTERS", str(tmp_path / "another"))
    path = files.save(tmp_path, "detail", {"x": np.zeros(1)})
    assert flags.folder_of_adapters(str(tmp_path)) == tmp_path
    assert find_adapter("detail") == path
    with pytest.raises(WeightsError, match="Did you mean detail"):
        find_adapter("detial")
