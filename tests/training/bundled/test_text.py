"""The text encoder learns from its captions' latents what they show."""

import keras
import numpy as np
import pytest

from kerasdiffusion.models.text_encoder import TextEncoder
from kerasdiffusion.presets.config import TextEncoderConfig
from kerasdiffusion.training.bundled.text import TextTrainer

TINY = TextEncoderConfig(
    vocabulary_size=8, context_length=4, width=16, depth=1, heads=2, mlp_width=32
)


@pytest.fixture
def captions():
    """Two captions that differ in one word, each with latents of its own."""
    keras.utils.set_random_seed(0)
    tokens = np.array([[0, 3, 7, 7], [0, 4, 7, 7]] * 8, "int32")
    pictures = np.random.default_rng(0).normal(size=(2, 2, 2, 3))
    return {"latents": np.tile(pictures, (8, 1, 1, 1)).astype("f4"), "tokens": tokens}


def four_times(data):
    """Four epochs are one, and the fewer take less time."""
    return {name: np.tile(x, (4,) + (1,) * (x.ndim - 1)) for name, x in data.items()}


@pytest.mark.every_backend_at_length
def test_captions_are_told_apart(captions):
    trainer = TextTrainer(TextEncoder(TINY), (2, 2, 3), width=32)
    trainer.compile(keras.optimizers.AdamW(3e-3))
    data = four_times(captions)
    loss = trainer.fit(data, batch_size=16, epochs=15, verbose=0).history["loss"]
    # What a prediction that is the same for all captions leaves.
    best = float(np.var(captions["latents"][:2], axis=0).mean())
    assert loss[0] > best and loss[-1] < 0.2 * best


def test_the_text_encoder_learns_and_not_the_perceptron_alone(captions):
    encoder = TextEncoder(TINY)
    before = [np.array(weight) for weight in encoder.weights]
    trainer = TextTrainer(encoder, (2, 2, 3), width=32)
    trainer.compile("adam")
    trainer.fit(captions, epochs=1, verbose=0)
    moved = [np.any(a != b) for a, b in zip(before, encoder.weights, strict=True)]
    assert sum(moved) >= len(moved) - 1  # no gradient reaches a key's bias
