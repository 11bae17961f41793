"""What keras.io's guides for KerasCV do to teach a model, with our classes.

Its steps in our words: https://keras.io/examples/generative/
fine_tune_via_textual_inversion. It has a loop of its own, of TensorFlow's tape. What it
takes of Keras 2 (`compiled_loss`) is written out here.
"""

import functools
import math

import keras
import numpy as np
import pytest

from kerasdiffusion.keras_cv.models import StableDiffusion
from kerasdiffusion.keras_cv.models.stable_diffusion import (
    NoiseScheduler,
    TextEncoder,
)
from tests.tiny import TINY

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the guides' loops are TensorFlow's"
)
LENGTH, SIZE = TINY.text_encoder.context_length, 32
WIDTH = TINY.diffusion_model.block_widths[0]
RANDOM = np.random.default_rng(0)
PICTURES = RANDOM.uniform(-1, 1, (4, SIZE, SIZE, 3)).astype("float32")
POSITIONS = np.arange(LENGTH, dtype="int32")[None]


@functools.cache
def scheduler():
    """Made ahead of the steps, as the guides do, for it has a variable."""
    return NoiseScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        train_timesteps=1000,
    )


def embedded(timestep):
    """Cosines and sines of one timestep, as the guides write them."""
    half = WIDTH // 2
    steps = tf.range(0, half, dtype=tf.float32)
    angles = tf.cast(timestep, tf.float32) * tf.exp(-math.log(10000) * steps / half)
    return tf.concat([tf.cos(angles), tf.sin(angles)], 0)


def drawn(latents):
    """Noise, noisy latents and embedded timesteps."""
    noise = tf.random.normal(tf.shape(latents))
    batch = (tf.shape(latents)[0],)
    timestep = tf.random.uniform(batch, maxval=1000, dtype=tf.int64)
    noisy = scheduler().add_noise(latents, noise, timestep)
    waves = tf.map_fn(embedded, timestep, fn_output_signature=tf.float32)
    return noise, noisy, waves


def sampled(moments):
    mean, log_variance = tf.split(moments, 2, axis=-1)
    log_variance = tf.clip_by_value(log_variance, -30.0, 20.0)
    deviation = tf.exp(0.5 * log_variance)
    return (mean + deviation * tf.random.normal(tf.shape(mean))) * 0.18215


def moments_of(encoder):
    """The encoder without its last layer, which takes the mean."""
    return keras.Model(encoder.input, encoder.layers[-2].output)


def values(variables):
    return [np.asarray(keras.ops.convert_to_numpy(each)) for each in variables]


class Inversion(keras.Model):
    """Gradients of one row of the token table."""

    def __init__(self, stable_diffusion, token):
        super().__init__()
        scheduler()
        self.stable_diffusion, self.token = stable_diffusion, token
        self.moments = moments_of(stable_diffusion.image_encoder)

    def train_step(self, data):
        pictures, tokens = data
        with tf.GradientTape() as tape:
            noise, noisy, waves = drawn(sampled(self.moments(pictures)))
            context = self.stable_diffusion.text_encoder([tokens, POSITIONS])
            found = self.stable_diffusion.diffusion_model([noisy, waves, context])
            loss = tf.reduce_mean(tf.square(found - noise))
        taught = self.stable_diffusion.text_encoder.trainable_weights
        gradients = tape.gradient(loss, taught)
        rows = gradients[0]
        own = tf.expand_dims(rows.indices == self.token, -1)
        gradients[0] = tf.IndexedSlices(
            tf.where(own, rows.values, 0), rows.indices, rows.dense_shape
        )
        self.optimizer.apply_gradients(zip(gradients, taught, strict=True))
        return {"loss": loss}


def test_textual_inversion():
    """A token is added, a text encoder with one row more takes the old one's place."""
    model = StableDiffusion(SIZE, SIZE)
    assert model.tokenizer.add_tokens("<thing>") == 1
    size = len(model.tokenizer.vocab)
    old = model.text_encoder
    table = old.layers[2].token_embedding.get_weights()[0]
    begin = np.array(old.layers[2].token_embedding(tf.constant(17)))[None]
    new = TextEncoder(LENGTH, vocab_size=size, download_weights=False)
    for i, layer in enumerate(old.layers):
        if i != 2:
            new.layers[i].set_weights(layer.get_weights())
    new.layers[2].token_embedding.set_weights([np.concatenate([table, begin])])
    positions = old.layers[2].position_embedding.get_weights()
    new.layers[2].position_embedding.set_weights(positions)
    model._text_encoder = new
    model._text_encoder.compile(jit_compile=True)
    model.diffusion_model.trainable = model.decoder.trainable = False
    for layer in model.text_encoder.layers:
        layer.trainable = "clip_embedding" in layer.name
    new.layers[2].position_embedding.trainable = False

    tokens = model.tokenizer.encode("a red <thing>")
    tokens += [model.tokenizer.end_of_text] * (LENGTH - len(tokens))
    tokens = np.array([tokens] * len(PICTURES), "int32")
    before = values(new.weights)
    painted = model.text_to_image("a <thing>", num_steps=1, seed=1)
    trainer = Inversion(model, size - 1)
    trainer.compile(keras.optimizers.Adam(0.1, epsilon=1e-8, global_clipnorm=10))
    data = tf.data.Dataset.from_tensor_slices((PICTURES, tokens)).batch(2)
    history = trainer.fit(data, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    after = values(new.weights)
    changed = [
        np.flatnonzero(np.abs(b - a).reshape(len(a), -1).max(axis=1))
        for a, b in zip(before, after, strict=True)
    ]
    assert [rows.tolist() for rows in changed if len(rows)] == [[size - 1]]
    assert (model.text_to_image("a <thing>", num_steps=1, seed=1) != painted).any()
