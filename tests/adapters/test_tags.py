"""Adapters as prompts and requests name them, and what pictures say of them."""

import hashlib

import numpy as np
import pytest

from kerasdiffusion import Request
from kerasdiffusion.adapters.sources import find_adapter
from kerasdiffusion.adapters.tags import lora_hashes, tag_weights
from kerasdiffusion.pictures.generation_parameters import (
    format_parameters,
    parse_parameters,
)
from kerasdiffusion.presets.config import GenerationConfig
from kerasdiffusion.prompts.tags import Tag
from kerasdiffusion.requests.adapters import Adapters
from kerasdiffusion.requests.text import described, fields_in
from kerasdiffusion.weights.base import WeightsError
from tests.adapters import files


@pytest.mark.parametrize(
    "arguments, weights",
    [
        ((), (1.0, 1.0)),
        (("0.8",), (0.8, 0.8)),
        (("0.5", "1"), (0.5, 1.0)),  # the text encoders' first, as in A1111
        (("te=0", "unet=1"), (0.0, 1.0)),
        (("0.5", "unet=-1"), (0.5, -1.0)),
    ],
)
def test_weights_of_tags(arguments, weights):
    assert tag_weights(Tag("lora", "detail", arguments)) == weights


@pytest.mark.parametrize("arguments", [("x",), ("1", "1", "8"), ("dyn=8",), ("",)])
def test_other_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="Received: <lora:detail:"):
        tag_weights(Tag("lora", "detail", arguments))


@pytest.mark.parametrize(
    "text, value",
    [
        ("a.safetensors", (("a.safetensors", 1.0),)),
        ("a:0.7", (("a", 0.7),)),
        ("a:0.7:0.2, b:-1", (("a", 0.7, 0.2), ("b", -1.0))),
        ("hf://owner/name:2", (("hf://owner/name", 2.0),)),
    ],
)
def test_flags_and_texts(text, value):
    kind = Adapters()
    assert kind.read(text) == value
    assert kind.read(kind.write(value)) == value


def test_what_is_no_adapter_of_a_request():
    for value, error in (
        (3, TypeError),
        ([("a", "b")], TypeError),
        ([("a", True)], TypeError),
        ([("a", float("nan"))], ValueError),
        ([("a", 1e9)], ValueError),
    ):
        with pytest.raises(error, match="adapters"):
            Request(task="text_to_image", prompt="x", adapters=value)


def test_requests_to_json_and_back():
    request = Request(task="text_to_image", prompt="x", seed=1, adapters=("a", 0.5))
    assert request.adapters == (("a", 0.5),)
    assert Request.from_json(request.to_json()) == request


def test_names_lead_nowhere_else(tmp_path, monkeypatch):
    path = files.save(tmp_path, "detail", {"x": np.zeros(1)})
    (tmp_path / "peft").mkdir()
    inner = files.save(tmp_path / "peft", "adapter_model", {"x": np.zeros(1)})
    monkeypatch.setenv("KERASDIFFUSION_ADAPTERS", str(tmp_path))
    assert find_adapter("detail") == find_adapter("detail.safetensors") == path
    assert find_adapter("peft") == inner == find_adapter(tmp_path / "peft")
    for name in ("../detail", "detial", "/detail", "."[:0] + "..\\detail"):
        with pytest.raises(WeightsError, match="no such adapter"):
            find_adapter(name)


def test_a_pictures_text_has_the_hashes_and_says_where_a_file_is_another(
    tmp_path, monkeypatch
):
    path = files.save(tmp_path, "detail", {"x": np.zeros(4, "float32")}, {"a": "b"})
    monkeypatch.setenv("KERASDIFFUSION_ADAPTERS", str(tmp_path))
    wanted = hashlib.sha256(bytes(16)).hexdigest()[:12]
    assert lora_hashes("x <lora:detail:1>") == f"detail: {wanted}"
    asked = {"task": "text_to_image", "prompt": "x <lora:detail:1>", "seed": 1}
    request = Request(**asked, adapters=[(str(path), 0.5)])
    (text,) = described(request, GenerationConfig(), (64, 64), "emoji")
    text = format_parameters(**text)
    assert f'Lora hashes: "detail: {wanted}"' in text
    found = fields_in(parse_parameters(text))
    assert found["adapters"] == request.adapters
    files.save(tmp_path, "detail", {"x": np.ones(4, "float32")})
    with pytest.warns(UserWarning, match="another file as detail"):
        fields_in(parse_parameters(text))
