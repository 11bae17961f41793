"""The command line in this process, on a tiny model."""

import numpy as np
import pytest

from kerasdiffusion.apps import load
from kerasdiffusion.apps.cli import main
from kerasdiffusion.weights import hub
from tests.tiny import tiny_model


@pytest.fixture(scope="session")
def assets(tmp_path_factory):
    """A folder of bundled models, with a tiny one named emoji."""
    folder = tmp_path_factory.mktemp("assets")
    tiny_model().save_preset(folder / "emoji")
    return folder


@pytest.fixture
def command(assets, tmp_path, monkeypatch):
    """Runs a command with the tiny model as the bundled one, in an empty folder."""
    monkeypatch.setattr(hub, "ASSETS", assets)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: main([*arguments])


@pytest.fixture
def generate(command):
    return lambda *arguments: command("generate", *arguments)


@pytest.fixture
def walk(command):
    return lambda *arguments: command("walk", *arguments)


@pytest.fixture
def calls(monkeypatch):
    """What is asked of models: the model, the task, the fields; nothing is painted."""
    seen = []

    def painted(model, request):
        given = request.given()
        given.pop("progress_bar", None)
        seen.append((model, request.task, given))
        return np.zeros((1, 8, 8, 3), "uint8")

    monkeypatch.setattr(load, "paint", painted)
    return seen
