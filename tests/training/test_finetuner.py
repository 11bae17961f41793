"""What is taught, what stays as it was, and what comes of it in pictures and files."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.training.finetuner import Finetuner
from kerasdiffusion.training.learned import LoRA
from tests.tiny import tiny_model

CAT = {"prompt": "two cats", "num_steps": 1, "seed": 3, "progress_bar": False}


def data_for(trainer, count=2):
    shape = (count, *trainer.base.model.latent_shape)
    latents = np.random.default_rng(0).normal(size=shape).astype("float32")
    return {"latents": latents, **trainer.tokenize(["two cats"] * count)}


def bits(network):
    return [ops.convert_to_numpy(each).tobytes() for each in network.weights]


@pytest.mark.every_backend
def test_a_lora_is_taught_painted_with_and_saved(tmp_path):
    model = tiny_model()
    trainer = Finetuner(model, LoRA(rank=4))
    plain, before = model.text_to_image(**CAT), bits(model.diffusion_model)
    trainer.compile(keras.optimizers.AdamW(1e-2))
    data = data_for(trainer)
    first = trainer.evaluate(data, verbose=0)
    assert trainer.evaluate(data, verbose=0) == first
    trainer.fit(data, epochs=2, verbose=0)
    assert trainer.evaluate(data, verbose=0) != first
    painted = trainer.model.text_to_image(**CAT)
    assert (painted != plain).any()
    assert bits(model.diffusion_model) == before
    path = trainer.save(tmp_path / "cat.safetensors")
    other = tiny_model()
    other.load_adapter(path)
    assert (other.text_to_image(**CAT) == painted).all()
    model.remove_adapter("taught")
    assert (model.text_to_image(**CAT) == plain).all()
