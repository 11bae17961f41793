"""The recipe, at toy size: from nothing to a preset, and on after a kill."""

import keras
import numpy as np
import pytest

from kerasdiffusion import StableDiffusion
from kerasdiffusion.training import emoji


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A whole run, begun by a process that died after the first epoch."""
    folder = tmp_path_factory.mktemp("run")
    checkpoint = emoji.Checkpoint.on_epoch_end

    def die(self, epoch, logs=None):
        checkpoint(self, epoch, logs)
        raise Killed

    keras.utils.set_random_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emoji.Checkpoint, "on_epoch_end", die)
        with pytest.raises(Killed):
            emoji.train(folder, emoji.TOY)
    keras.utils.set_random_seed(1)  # the next process begins with other weights
    emoji.train(folder, emoji.TOY)
    return folder


def losses(folder):
    """The loss of each epoch on crops."""
    lines = (folder / "strokes" / "log.csv").read_text().splitlines()
    column = lines[0].split(",").index("loss")
    return [float(line.split(",")[column]) for line in lines[1:]]


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


def test_a_killed_run_goes_on_as_if_nothing_had_happened(folder, tmp_path):
    keras.utils.set_random_seed(0)
    emoji.train_autoencoder(emoji.TOY, tmp_path)
    assert len(losses(folder)) == emoji.TOY.strokes.epochs
    assert losses(folder) == pytest.approx(losses(tmp_path), rel=1e-5)


def test_training_lowers_the_loss(folder):
    first, last = losses(folder)
    assert last < 0.9 * first
