"""What keras.io's guides for KerasCV do to teach a model, with our classes.

Their steps in our words: of https://keras.io/examples/generative/ these are
`fine_tune_via_textual_inversion`, `dreambooth` and `finetune_stable_diffusion`. They
have loops of their own, of TensorFlow's tape. What they take of Keras 2
(`compiled_loss`, `optimizers.experimental`) is Keras 3's own here.
"""

import functools
import math

import keras
import numpy as np
import pytest

from kerasdiffusion.keras_cv.models import StableDiffusion
from kerasdiffusion.keras_cv.models.stable_diffusion import (
    DiffusionModel,
    ImageEncoder,
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


@pytest.mark.parametrize(
    "eagerly",
    # As the guide has it, by XLA, at length: its trace takes longer than a step.
    [True, pytest.param(False, marks=pytest.mark.heavy)],
)
def test_textual_inversion(eagerly):
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
    optimizer = keras.optimizers.Adam(0.1, epsilon=1e-8, global_clipnorm=10)
    trainer.compile(optimizer, run_eagerly=eagerly)
    data = tf.data.Dataset.from_tensor_slices((PICTURES, tokens)).batch(2)
    data = data.take(1) if eagerly else data
    history = trainer.fit(data, epochs=1 if eagerly else 2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    after = values(new.weights)
    changed = [
        np.flatnonzero(np.abs(b - a).reshape(len(a), -1).max(axis=1))
        for a, b in zip(before, after, strict=True)
    ]
    assert [rows.tolist() for rows in changed if len(rows)] == [[size - 1]]
    assert (model.text_to_image("a <thing>", num_steps=1, seed=1) != painted).any()


class DreamBooth(keras.Model):
    """New pictures and old ones in one batch, and their two losses."""

    def __init__(self, diffusion_model, moments):
        super().__init__()
        scheduler()
        self.diffusion_model, self.moments = diffusion_model, moments
        self.moments.trainable = False

    def train_step(self, inputs):
        new, old = inputs
        pictures, context = (tf.concat([new[k], old[k]], 0) for k in new)
        with tf.GradientTape() as tape:
            moments = self.moments(pictures, training=False)
            noise, noisy, waves = drawn(sampled(moments))
            found = self.diffusion_model([noisy, waves, context], training=True)
            loss = self.compute_loss(noise, found)
        taught = self.diffusion_model.trainable_variables
        gradients = tape.gradient(loss, taught)
        gradients = [tf.clip_by_norm(each, 1.0) for each in gradients]
        self.optimizer.apply_gradients(zip(gradients, taught, strict=True))
        return {"loss": loss}

    def compute_loss(self, target, found):
        pairs = zip(tf.split(target, 2), tf.split(found, 2), strict=True)
        return sum(tf.reduce_mean(tf.square(a - b)) for a, b in pairs)

    def save_weights(self, filepath, overwrite=True, save_format=None, options=None):
        self.diffusion_model.save_weights(
            filepath=filepath,
            overwrite=overwrite,
            save_format=save_format,
            options=options,
        )


@pytest.mark.heavy
def test_dreambooth(tmp_path):
    """The best weights so far are saved by a callback, and a model paints with them."""
    encoder = TextEncoder(LENGTH)
    tokens = RANDOM.integers(0, 500, (4, LENGTH)).astype("float64")
    context = encoder([tokens, POSITIONS], training=False)
    network = DiffusionModel(SIZE, SIZE, LENGTH)
    trainer = DreamBooth(network, moments_of(ImageEncoder(SIZE, SIZE)))
    trainer.compile(keras.optimizers.AdamW(1e-3, weight_decay=1e-2))
    each = {"pictures": PICTURES, "context": context}
    data = tf.data.Dataset.from_tensor_slices((each, each)).batch(2)
    path = tmp_path / "best.weights.h5"
    keep = keras.callbacks.ModelCheckpoint(
        path, save_weights_only=True, monitor="loss", mode="min"
    )
    before = values(network.weights)
    trainer.fit(data, epochs=2, callbacks=[keep], verbose=0)
    model = StableDiffusion(SIZE, SIZE)
    model.diffusion_model.load_weights(path)
    after = values(model.diffusion_model.weights)
    moved = [np.abs(a - b).max() for a, b in zip(before, after, strict=True)]
    assert min(moved) > 0


class Tuning(keras.Model):
    """The whole U-Net, on dicts of pictures and encoded text."""

    def __init__(self, diffusion_model, encoder):
        super().__init__()
        scheduler()
        self.diffusion_model, self.encoder = diffusion_model, encoder
        self.encoder.trainable = False

    def train_step(self, inputs):
        with tf.GradientTape() as tape:
            latents = self.encoder(inputs["images"], training=False)
            noise, noisy, waves = drawn(latents)
            context = inputs["encoded_text"]
            found = self.diffusion_model([noisy, waves, context], training=True)
            loss = self.compute_loss(y=noise, y_pred=found)
        taught = self.diffusion_model.trainable_variables
        gradients = tape.gradient(loss, taught)
        gradients = [tf.clip_by_norm(each, 1.0) for each in gradients]
        self.optimizer.apply_gradients(zip(gradients, taught, strict=True))
        return {"loss": loss}


@pytest.mark.heavy
def test_fine_tuning():
    encoder = TextEncoder(LENGTH)
    tokens = RANDOM.integers(0, 500, (4, LENGTH)).astype("float64")

    def encode(pictures, tokens):
        context = encoder([tokens, POSITIONS], training=False)
        return {"images": pictures, "tokens": tokens, "encoded_text": context}

    data = tf.data.Dataset.from_tensor_slices((PICTURES, tokens)).batch(2).map(encode)
    network = DiffusionModel(SIZE, SIZE, LENGTH)
    trainer = Tuning(network, ImageEncoder(SIZE, SIZE))
    trainer.compile(keras.optimizers.AdamW(1e-3, weight_decay=1e-2), loss="mse")
    before = values(network.weights)
    trainer.fit(data, epochs=1, verbose=0)
    after = values(network.weights)
    moved = [np.abs(a - b).max() for a, b in zip(before, after, strict=True)]
    assert min(moved) > 0
