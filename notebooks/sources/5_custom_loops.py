# %% [markdown]
# # Training loops of your own
#
# The guides of keras.io teach Stable Diffusion by loops that they write out: textual
# inversion, DreamBooth, fine-tuning. This notebook has the three in the same style, with
# KerasCV's own names: where such a guide imports `keras_cv`, import it from
# `kerasdiffusion`. What needs no loop of its own is shorter by `kerasdiffusion teach` and
# `Finetuner`.
#
# All three learn the same thing here, from four pictures that the next cell draws, for a
# few seconds each on a CPU: enough to see that each does its work.
# %%
import keras
import numpy as np
import tensorflow as tf
from IPython.display import display
from PIL import Image, ImageDraw

from kerasdiffusion import keras_cv
from kerasdiffusion.keras_cv.models.stable_diffusion import NoiseScheduler, TextEncoder
from kerasdiffusion.pictures.write import grid

keras.utils.set_random_seed(0)
SIZE, LENGTH = 128, 24  # 512 and 77 for Stable Diffusion


def draw_robot(ground):
    picture = Image.new("RGB", (SIZE, SIZE), ground)
    pen = ImageDraw.Draw(picture)
    pen.line([64, 14, 64, 32], "black", 4)
    pen.ellipse([57, 6, 71, 20], "orange")
    pen.rounded_rectangle([26, 32, 102, 108], 10, "purple", "black", 3)
    for x in (42, 74):
        pen.ellipse([x, 50, x + 14, 64], "yellow", "black", 2)
    pen.rectangle([42, 82, 86, 92], "white", "black", 2)
    return np.asarray(picture)


GROUNDS = {"blue": "#3b6fd4", "green": "#3da35d", "yellow": "#f2c14e", "white": "#ffffff"}
pictures = np.stack([draw_robot(colour) for colour in GROUNDS.values()])
display(Image.fromarray(grid(pictures, 4)))
# %% [markdown]
# ## What the loops have in common
#
# A picture becomes latents once. A step adds noise at a random timestep and asks the U-Net
# for it. Stable Diffusion 1 predicts the noise itself; the bundled model predicts *v*, which
# is a turn of noise and picture.
# %%
noises = NoiseScheduler(beta_schedule="linear", beta_start=0.0001, beta_end=0.02)
ROOTS = tf.constant(np.sqrt(noises.alphas_cumprod), "float32")
RESTS = tf.constant(np.sqrt(1.0 - np.asarray(noises.alphas_cumprod)), "float32")


def load():
    keras_cv.use("emoji")
    return keras_cv.models.StableDiffusion(SIZE, SIZE, jit_compile=False)


def embed(timesteps, width):
    """Cosines of the timestep, then sines."""
    rates = tf.exp(-np.log(10000.0) * tf.range(width // 2, dtype="float32") / (width // 2))
    angles = tf.cast(timesteps, "float32")[:, None] * rates
    return tf.concat([tf.cos(angles), tf.sin(angles)], axis=-1)


class Denoising(keras.Model):
    """Learns whatever of its two networks is trainable."""

    def __init__(self, unet, text_encoder, only_word=None):
        super().__init__()
        self.unet, self.text_encoder, self.only_word = unet, text_encoder, only_word
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.loss_tracker]

    def error(self, latents, tokens):
        count = tf.shape(latents)[0]
        timesteps = tf.random.uniform((count,), 0, 1000, "int32")
        noise = tf.random.normal(tf.shape(latents))
        root = tf.gather(ROOTS, timesteps)[:, None, None, None]
        rest = tf.gather(RESTS, timesteps)[:, None, None, None]
        positions = tf.tile(tf.range(LENGTH)[None], [count, 1])
        context = self.text_encoder([tokens, positions])
        time = embed(timesteps, self.unet.time_embedding.width)
        predicted = self.unet([root * latents + rest * noise, time, context])
        error = tf.square(predicted - (root * noise - rest * latents))
        return tf.reduce_mean(error, axis=(1, 2, 3))

    def train_step(self, data):
        latents, tokens, weight = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(weight * self.error(latents, tokens))
        variables = self.trainable_variables
        gradients = tape.gradient(loss, variables)
        if self.only_word is not None:  # one row of the table of words, and nothing else
            (table,) = gradients
            row = tf.one_hot(self.only_word, tf.shape(variables[0])[0])[:, None]
            gradients = [tf.convert_to_tensor(table) * row]
        self.optimizer.apply_gradients(zip(gradients, variables))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


def learn(trainer, latents, tokens, weight, rate, epochs):
    data = tf.data.Dataset.from_tensor_slices((latents, tokens, weight))
    data = data.repeat(8).shuffle(64, seed=1).batch(len(latents))
    trainer.compile(keras.optimizers.AdamW(rate, weight_decay=0.0, clipnorm=1.0))
    history = trainer.fit(data, epochs=epochs, verbose=0).history["loss"]
    print("loss", " ".join(f"{loss:.3f}" for loss in history))


def encode(model, texts):
    """Tokens of each, filled up to the length with the end."""
    rows = [model.tokenizer.encode(text) for text in texts]
    end = model.tokenizer.end_of_text
    return np.array([row + [end] * (LENGTH - len(row)) for row in rows], "int32")


def look(model, prompt):
    found = model.text_to_image(prompt, batch_size=4, seed=3, progress_bar=False)
    display(Image.fromarray(grid(found, 4)))


CAPTIONS = ["a {} on a " + name + " background" for name in GROUNDS]
model = load()
latents = model.image_encoder.predict(pictures / 127.5 - 1.0, verbose=0)
print("before, of 'a robot':")
look(model, "a robot on a green background")
# %% [markdown]
# ## Fine-tuning
#
# Every weight of the U-Net learns. With many pictures and captions this is how a model gets a
# style; with four it learns these four by heart.
# %%
text_encoder = model.text_encoder
text_encoder.trainable = False
tokens = encode(model, [caption.format("robot") for caption in CAPTIONS])
trainer = Denoising(model.diffusion_model, text_encoder)
learn(trainer, latents, tokens, np.ones(4, "float32"), 1e-3, 8)
look(model, "a robot on a green background")
# %% [markdown]
# ## DreamBooth
#
# A rare word gets a meaning, and pictures that the model itself painted of the class go
# into every batch, so that the class stays what it was (*prior preservation*).
# %%
model = load()
prior = model.text_to_image("a ghost", batch_size=4, seed=11, progress_bar=False)
prior = model.image_encoder.predict(prior / 127.5 - 1.0, verbose=0)
captions = [caption.format("sks ghost") for caption in CAPTIONS] + ["a ghost"] * 4
model.text_encoder.trainable = True
trainer = Denoising(model.diffusion_model, model.text_encoder)
both = np.concatenate([latents, prior])
weight = np.array([1.0] * 4 + [0.5] * 4, "float32")
learn(trainer, both, encode(model, captions), weight, 5e-4, 8)
look(model, "a sks ghost on a blue background")
look(model, "a ghost")
# %% [markdown]
# ## Textual inversion
#
# A new word, whose vector is all that learns. The networks stay as they are, so it can only
# say what the model can paint already: it looks for the nearest thing that it knows.
# %%
model = load()
model.tokenizer.add_tokens("<robot>")
word = model.tokenizer.encode("<robot>")[1]
old = model.text_encoder
new = TextEncoder(LENGTH, vocab_size=word + 1, download_weights=False)
for here, there in zip(new.layers[3:], old.layers[3:]):
    here.set_weights(there.get_weights())
table = old.layers[2].token_embedding.get_weights()[0]
begin = table[model.tokenizer.encode("robot")[1]]
new.layers[2].token_embedding.set_weights([np.concatenate([table, begin[None]])])
new.layers[2].position_embedding.set_weights(old.layers[2].position_embedding.get_weights())
model._text_encoder = new

model.diffusion_model.trainable = False
for layer in new.layers[3:]:
    layer.trainable = False
new.layers[2].position_embedding.trainable = False
trainer = Denoising(model.diffusion_model, new, only_word=word)
print([variable.path for variable in trainer.trainable_variables])
tokens = encode(model, [caption.format("<robot>") for caption in CAPTIONS])
learn(trainer, latents, tokens, np.ones(4, "float32"), 2e-2, 6)
now = new.layers[2].token_embedding.get_weights()[0]
print("other words moved by", np.abs(now[:-1] - table).max())
look(model, "a <robot> on a green background")
