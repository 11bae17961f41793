"""The command line in this process, on a tiny model."""

import inspect

import numpy as np
import pytest

from kerasdiffusion.apps.cli import main
from kerasdiffusion.apps.tasks import PLAIN, TASKS
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
    """What tasks are called with, as their signatures have it; they paint nothing."""
    from kerasdiffusion import StableDiffusion

    seen = []

    def task(name):
        signature = inspect.signature(getattr(StableDiffusion, name))

        def painted(self, *arguments, **keywords):
            signature.bind(self, *arguments, **keywords)
            keywords.pop("progress_bar")
            seen.append((self, name, arguments, keywords))
            return np.zeros((1, 8, 8, 3), "uint8")

        painted.__signature__ = signature
        return painted

    names = [task.method for task in (PLAIN, *TASKS)]
    for name in ("text_to_image", "interpolate", "circular_walk", *names):
        if hasattr(StableDiffusion, name):
            monkeypatch.setattr(StableDiffusion, name, task(name))
    return seen
