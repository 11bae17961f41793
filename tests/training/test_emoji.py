"""The recipe, at toy size: from nothing to a preset, and on after a kill."""

import dataclasses

import keras
import numpy as np
import pytest

from kerasdiffusion import StableDiffusion
from kerasdiffusion.training import emoji


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    emoji.train(folder, emoji.TOY)
    return folder


def test_the_preset_paints(folder):
    model = StableDiffusion.from_preset(str(folder / "preset"))
    pictures = model.text_to_image("a dog on a red background", num_steps=2, seed=0)
    assert pictures.shape == (1, 64, 64, 3)
    assert model.config.schedule == emoji.TOY.config.schedule
    assert model.config.generation == emoji.TOY.config.generation


def test_encoded_pictures_have_deviation_one(folder):
    model = StableDiffusion.from_preset(str(folder / "preset"))
    images = emoji._dataset(emoji.TOY).batch(0, 256)[0].astype("float32") / 127.5 - 1.0
    latents = model.image_encoder.predict(images, verbose=0)
    assert np.std(latents) == pytest.approx(1.0, abs=0.02)


def test_the_vocabulary_is_that_of_the_captions(folder):
    model = StableDiffusion.from_preset(str(folder / "preset"))
    assert model.tokenizer.vocabulary_size < 1000
    assert model.tokenizer.count("a dog on a red background") == 6


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    """Stopped after the first epoch and begun anew, as if nothing had happened."""

    class Killed(Exception):
        pass

    def losses(folder):
        return (folder / "autoencoder" / "log.csv").read_text().splitlines()[1:]

    def run(folder):
        keras.utils.set_random_seed(0)
        emoji.train_autoencoder(emoji.TOY, folder)

    run(tmp_path / "whole")
    checkpoint = emoji.Checkpoint.on_epoch_end

    def die(self, epoch, logs=None):
        checkpoint(self, epoch, logs)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(emoji.Checkpoint, "on_epoch_end", die)
        with pytest.raises(Killed):
            run(tmp_path / "killed")
    keras.utils.set_random_seed(1)  # another process begins with other weights
    emoji.train_autoencoder(emoji.TOY, tmp_path / "killed")
    last = [
        float(losses(tmp_path / name)[-1].split(",")[-1])
        for name in ("whole", "killed")
    ]
    assert last[0] == pytest.approx(last[1], rel=1e-4)


def test_training_lowers_the_loss(tmp_path):
    recipe = dataclasses.replace(
        emoji.TOY, autoencoder=emoji.Stage(2, 20, 8, 3e-3), crop_epochs=2
    )
    emoji.train_autoencoder(recipe, tmp_path)
    log = (tmp_path / "autoencoder" / "log.csv").read_text().splitlines()
    first, last = (float(line.split(",")[1]) for line in log[1:])
    assert log[0].split(",")[1] == "l1"
    assert last < 0.8 * first
