"""The recipe, at toy size: from nothing to a preset, and on after a kill."""

import dataclasses

import keras
import numpy as np
import pytest
from PIL import Image

from kerasdiffusion import StableDiffusion
from kerasdiffusion.datasets import STARTER, caption_corpus
from kerasdiffusion.pictures.metadata import read_parameters
from kerasdiffusion.requests.batches import batch_in
from kerasdiffusion.training.bundled import emoji
from kerasdiffusion.training.bundled.model_card import read_scenes
from kerasdiffusion.training.bundled.recipes import RECIPES, TOY, Stage

#: By default the autoencoder learns its strokes alone: whole pictures want a program of
#: the same once more, half a minute of tracing.
NONE = Stage(0, 2, 4, 1e-3)


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pytestconfig):
    """A whole run.

    With `--full-size` it is begun by a process that dies after the first epoch; a
    smaller trainer is killed so by default, in `test_checkpoints`.
    """
    folder = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(0)
    if pytestconfig.getoption("--full-size"):
        begin_and_die(folder)
        keras.utils.set_random_seed(1)  # the next process begins with other weights
        emoji.train(folder, TOY, sheets=2)
    else:
        emoji.train(folder, dataclasses.replace(TOY, autoencoder=NONE), sheets=2)
    return folder


def begin_and_die(folder):
    """The first epoch, of a process that ends after it."""
    checkpoint = emoji.Checkpoint.on_epoch_end

    def die(self, epoch, logs=None):
        checkpoint(self, epoch, logs)
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emoji.Checkpoint, "on_epoch_end", die)
        with pytest.raises(Killed):
            emoji.train(folder, TOY)


def losses(folder):
    """The loss of each epoch on crops."""
    lines = (folder / "strokes" / "log.csv").read_text().splitlines()
    column = lines[0].split(",").index("loss")
    return [float(line.split(",")[column]) for line in lines[1:]]


def test_the_preset_paints(folder):
    model = StableDiffusion.from_preset(str(folder / "preset"))
    pictures = model.text_to_image("a dog on a red background", num_steps=2, seed=0)
    assert pictures.shape == (1, 64, 64, 3)
    assert model.config.schedule == TOY.config.schedule
    assert model.config.generation == TOY.config.generation


def test_it_shows_what_it_paints_on_the_way(folder):
    sheets = [Image.open(folder / f"sheet-000{epoch}.png") for epoch in (1, 2)]
    assert [sheet.size for sheet in sheets] == [(6 * 64, 6 * 64)] * 2
    made = read_parameters(folder / "sheet-0002.png")
    assert made["Grid"] == "6x6" and len(batch_in(made)[0]["prompt"]) == 36
    so_far = StableDiffusion.from_preset(str(folder / "so_far"))
    last = StableDiffusion.from_preset(str(folder / "preset"))
    for now, then in zip(
        so_far.diffusion_model.weights, last.diffusion_model.weights, strict=True
    ):
        assert np.array_equal(now, then), now.path  # both averaged, of the last epoch


def test_the_preset_says_how_it_was_made(folder):
    assert read_scenes(folder / "preset") == TOY.scenes
    card = (folder / "preset" / "README.md").read_text()
    assert "Paints 2 emoji and 1 shapes on grounds" in card
    assert "| samples | 16 for the U-Net" in card


@pytest.mark.heavy
def test_a_run_goes_on_from_a_preset(folder, tmp_path):
    again = dataclasses.replace(TOY, seed=1)
    preset = emoji.train(tmp_path, again, start=folder / "preset")
    first, second = (
        StableDiffusion.from_preset(str(each)) for each in (folder / "preset", preset)
    )
    assert not (tmp_path / "strokes").exists() and not (tmp_path / "text").exists()
    for name in ("image_encoder", "decoder", "text_encoder", "diffusion_model"):
        old, new = (getattr(model, name).weights for model in (first, second))
        same = all(map(np.array_equal, old, new))
        assert same == (name == "image_encoder"), name  # latents are what they were
    assert read_scenes(preset) == TOY.scenes
    assert "| samples | 32 for the U-Net" in (preset / "README.md").read_text()
    assert first.tokenizer("a dog")[0].tolist() == second.tokenizer("a dog")[0].tolist()


@pytest.mark.heavy
def test_what_is_bundled_can_learn_on():
    recipe = dataclasses.replace(RECIPES["emoji"], precision="float32")
    image_encoder, decoder, *networks = emoji.read_networks(recipe, "emoji")
    diffusion_model, text_encoder, tokenizer = networks
    assert read_scenes("emoji") == recipe.scenes
    assert diffusion_model.config == recipe.config.diffusion_model
    assert tokenizer.vocabulary_size == text_encoder.config.vocabulary_size
    # The captions' words are all known, and latents keep their deviation.
    words = tokenizer.subset(caption_corpus(recipe.scenes)).vocabulary_size
    assert words == tokenizer.vocabulary_size
    # Of objects that the tests' small font has.
    crowd = dataclasses.replace(recipe.crowd, objects=STARTER)
    images = emoji._dataset(recipe, crowd).batch(0, 32)[0]
    latents = image_encoder.predict(images.astype("float32") / 127.5 - 1.0, verbose=0)
    assert np.std(latents) == pytest.approx(1.0, abs=0.05)
    pixels = decoder.predict(latents, verbose=0) * 127.5 + 127.5
    assert 10 * np.log10(255**2 / np.mean((pixels - images) ** 2)) > 26


def test_a_preset_of_another_geometry_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="a preset of its recipe's geometry. Received"):
        emoji.train(tmp_path, RECIPES["starter"], start=folder / "preset")


def test_another_folder_says_nothing_of_scenes(tmp_path):
    with pytest.raises(FileNotFoundError, match="has its recipe beside its weights"):
        read_scenes(tmp_path)


def test_recipes_are_for_their_picture_size():
    for recipe in RECIPES.values():
        autoencoder, network = recipe.config.autoencoder, recipe.config.diffusion_model
        assert recipe.config.generation.height % autoencoder.downsampling == 0
        assert network.in_channels == autoencoder.latent_channels
    everything = RECIPES["emoji"]
    assert len(everything.scenes.objects) > 1100
    assert everything.config.generation.height == 128


def test_encoded_pictures_have_deviation_one(folder):
    model = StableDiffusion.from_preset(str(folder / "preset"))
    images = emoji._dataset(TOY, TOY.crowd).batch(0, 256)[0]
    images = images.astype("float32") / 127.5 - 1.0
    latents = model.image_encoder.predict(images, verbose=0)
    assert np.std(latents) == pytest.approx(1.0, abs=0.02)


def test_the_vocabulary_is_that_of_the_captions(folder):
    model = StableDiffusion.from_preset(str(folder / "preset"))
    assert model.tokenizer.vocabulary_size < 1000
    assert model.tokenizer.count("a dog on a red background") == 6


@pytest.mark.heavy  # of a smaller trainer: `test_checkpoints`
def test_a_killed_run_goes_on_as_if_nothing_had_happened(folder, tmp_path, monkeypatch):
    fit = emoji._fit

    def fit_and_die(*arguments):
        fit(*arguments)
        raise Killed

    monkeypatch.setattr(emoji, "_fit", fit_and_die)
    keras.utils.set_random_seed(0)
    with pytest.raises(Killed):
        emoji.train_autoencoder(TOY, tmp_path)
    assert len(losses(folder)) == TOY.strokes.epochs
    assert losses(folder) == pytest.approx(losses(tmp_path), rel=1e-5)


def test_training_lowers_the_loss(folder):
    first, last = losses(folder)
    assert last < 0.9 * first
