"""A ControlNet is taught beside a model that stays as it is, and then followed."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion import Control
from kerasdiffusion.training.finetuning.control import begin_control
from kerasdiffusion.training.finetuning.finetuner import Finetuner
from kerasdiffusion.training.finetuning.words import NewWords
from kerasdiffusion.weights.controls import read_control_config
from tests.tiny import ONE_LEVEL, TINY, TINY_SDXL, tiny_model

SMALL = {"picture_widths": (4, 8)}
CAT = {"prompt": "two cats", "num_steps": 2, "seed": 3, "progress_bar": False}


def batch_of(trainer, count=2):
    model, random = trainer.base.model, np.random.default_rng(0)
    latents = random.normal(size=(count, *model.latent_shape)).astype("float32")
    size = (count, model.img_height, model.img_width, 3)
    picture = (random.random(size) < 0.3).astype("float32")
    noise = random.normal(size=latents.shape).astype("float32")
    told = {"latents": latents, "picture": picture, "noise": noise}
    told["timestep"] = np.array([500, 900], "int32")
    return {**told, **trainer.tokenize(["two cats"] * count)}


def values(network):
    return [ops.convert_to_numpy(each) for each in network.weights]


@pytest.mark.every_backend_at_length
@pytest.mark.parametrize(
    "config",
    [
        ONE_LEVEL,
        pytest.param(TINY, marks=pytest.mark.heavy),
        pytest.param(TINY_SDXL, marks=pytest.mark.heavy),
    ],
    ids=["one level", "SD", "SDXL"],
)
def test_a_controlnet_is_taught_saved_and_followed(tmp_path, config):
    model = tiny_model(config=config)
    network = begin_control(model, **SMALL)
    trainer = Finetuner(model, network)
    batch = batch_of(trainer)
    alone = Finetuner(model)
    begun = ops.convert_to_numpy(trainer(batch))
    plain = {name: each for name, each in batch.items() if name != "picture"}
    np.testing.assert_allclose(begun, ops.convert_to_numpy(alone(plain)), rtol=1e-5)

    before, own = values(model.diffusion_model), values(network)
    trainer.compile(keras.optimizers.AdamW(1e-2), run_eagerly=True)
    for _ in range(2):
        trainer.train_on_batch(batch)
    assert ops.convert_to_numpy(trainer(batch)).mean() < begun.mean()
    for old, new in zip(before, values(model.diffusion_model), strict=True):
        np.testing.assert_array_equal(old, new)
    assert any((a != b).any() for a, b in zip(own, values(network), strict=True))

    lines = np.zeros((model.img_height, model.img_width, 3), "uint8")
    lines[8:24, 8] = 255
    painted = trainer.model.text_to_image(**CAT, control=Control(network, lines))
    folder = trainer.save(tmp_path / "lines")
    again = model.text_to_image(**CAT, control=Control(folder, lines))
    np.testing.assert_array_equal(painted, again)
    assert (model.text_to_image(**CAT) != painted).any()
    assert read_control_config(folder) == network.config
    assert json.loads((folder / "config.json").read_text())["_class_name"] == (
        "ControlNetModel"
    )
    with pytest.raises(FileExistsError):
        trainer.save(folder)
    trainer.save(folder, overwrite=True)


def test_what_a_controlnet_begins_with_is_refused_where_it_does_not_fit():
    model = tiny_model()
    with pytest.raises(ValueError, match="2 widths. Received: \\(4, 8, 8\\)"):
        begin_control(model, picture_widths=(4, 8, 8))
    network = begin_control(model, **SMALL)
    with pytest.raises(ValueError, match="taught alone.*Received: words="):
        Finetuner(model, network, NewWords("<toy>"))
