"""The command that trains: what it asks of `training.bundled.emoji.train`."""

from pathlib import Path

import pytest

from kerasdiffusion.training.bundled import emoji
from kerasdiffusion.training.bundled.recipes import RECIPES


@pytest.fixture
def asked(command, monkeypatch):
    """Runs the command; gives the folder, the recipe and the rest it asks for."""
    calls = []

    def train(*arguments):
        calls.append(arguments)
        return arguments[0] / "preset"

    monkeypatch.setattr(emoji, "train", train)

    def run(*arguments):
        assert command("train", *arguments) == 0
        return calls.pop()

    return run


def test_without_flags_the_recipe_is_followed(asked, capsys):
    found = asked("emoji", "--out", "run")
    assert found == (Path("run"), RECIPES["emoji"], 1, 0, None)
    assert "Wrote run/preset. Try it: kerasdiffusion" in capsys.readouterr().out


def test_flags_change_the_recipe_and_nothing_else_of_it(asked):
    flags = "--start emoji --seed 3 --epochs 5 --precision float32 --sheets 2"
    _, recipe, workers, sheets, start = asked("emoji", "--out", "run", *flags.split())
    assert (workers, sheets, start) == (1, 2, "emoji")
    assert (recipe.seed, recipe.precision, recipe.diffusion.epochs) == (3, "float32", 5)
    usual = RECIPES["emoji"]
    assert recipe.diffusion.steps == usual.diffusion.steps
    assert recipe.config == usual.config and recipe.scenes == usual.scenes


def test_a_toy_is_of_the_toys_size(asked):
    assert asked("emoji", "--out", "run", "--toy")[1] == RECIPES["toy"]


@pytest.mark.parametrize("epochs", ["0", "-1", "many"])
def test_epochs_are_counted_from_one(command, capsys, epochs):
    with pytest.raises(SystemExit) as exit:
        command("train", "emoji", "--out", "run", "--epochs", epochs)
    assert exit.value.code == 2
    message = capsys.readouterr().err
    assert "must be a whole number" in message and f"Received: {epochs}" in message
