"""Memory ends, by a limit: one clear error, and then the model paints as before."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import tiny_model

pytestmark = [
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="Linux limits addresses"
    ),
    pytest.mark.heavy,
]
TABLE = "text_model.embeddings.token_embedding.weight"
WORDS = 2_000_000


def widened(folder: Path) -> None:
    """Gives a text encoder a vocabulary of 256 MB, most of which is on no disk."""
    path = folder / "text_encoder" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"vocab_size": WORDS}))
    path = folder / "text_encoder" / "model.safetensors"
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header, data, place = json.loads(content[8:start]), b"", 0
    header.pop("__metadata__", None)
    table = header.pop(TABLE)
    for entry in header.values():
        own = slice(*(start + each for each in entry["data_offsets"]))
        data += content[own]
        entry["data_offsets"] = [place, place + own.stop - own.start]
        place = len(data)
    width, own = table["shape"][1], slice(*(start + e for e in table["data_offsets"]))
    header[TABLE] = {
        "dtype": table["dtype"],
        "shape": [WORDS, width],
        "data_offsets": [place, place + 4 * WORDS * width],
    }
    text = json.dumps(header).encode()
    whole = len(text).to_bytes(8, "little") + text + data
    path.write_bytes(whole + content[own])
    os.truncate(path, len(whole) + 4 * WORDS * width)


def test_a_process_with_little_memory(tmp_path):
    tiny_model().save_preset(tmp_path / "small")
    shutil.copytree(tmp_path / "small", tmp_path / "large")
    widened(tmp_path / "large")
    child = subprocess.run(
        [sys.executable, "-m", "tests.networks.limited_memory", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.returncode == 0, child.stderr[-3000:]
    told = json.loads(child.stdout.splitlines()[-1])
    for what in ("painting", "loading"):
        ends = [said for said, _ in told[what].values()]
        assert all(same for _, same in told[what].values()), told
        errors = [said for said in ends if said != "done"]
        assert len(errors) >= 2, told
        for said in errors:
            assert said.startswith("MemoryError: ") and "Received: " in said, told
    assert told["then"] == [1, 32, 32, 3]
