# %% [markdown]
# # Walks: from prompt to prompt, from seed to seed
#
# A prompt becomes a list of vectors, and the first noise is an array of numbers. Between two
# prompts, and between two noises, there are others, and each gives a picture. This notebook
# walks there, as keras.io's guide *A walk through latent space with Stable Diffusion* does,
# and shows the walks as animations.
# %% local
PRESET, STEPS, FRAMES, BATCH, FPS, ZOOM = "emoji", 10, 12, 4, 6, 1
PROMPTS = ["a red apple on a blue background", "a dog on a green background"]
PROMPT, SEEDS = "a cat", [1, 6, 7]
# %% colab
PRESET, STEPS, FRAMES, BATCH, FPS, ZOOM = "sd1.5", 25, 48, 3, 12, 0.5
PROMPTS = [
    "a watercolor painting of a golden retriever at the beach",
    "a still life DSLR photo of a bowl of fruit",
]
PROMPT, SEEDS = PROMPTS[0], [1, 6]
# %%
import numpy as np
from IPython.display import Image, display

from kerasdiffusion import StableDiffusion
from kerasdiffusion.pictures.animations import save_animation

model = StableDiffusion.from_preset(PRESET)
COMMON = {"num_steps": STEPS, "batch_size": BATCH}


def film(frames, name):
    path = save_animation(frames, name, fps=FPS)
    width = int(frames.shape[2] * ZOOM)
    display(Image(data=path.read_bytes(), format="gif", width=width))

# %% [markdown]
# ## Between two prompts
#
# The noise stays the same, the text changes a little from frame to frame. `closed=True`
# leads back to the first prompt, so that the film has no end.
# %%
frames = model.interpolate(PROMPTS, frames=FRAMES, closed=True, seed=1, **COMMON)
print(frames.shape, frames.dtype)
film(frames, "prompts.gif")
# %% [markdown]
# The walk is nothing that you could not do by hand: `encode_text` gives the vectors, and
# `generate_image` paints from some of them. Half way, that is the mean of both:
# %%
first, second = model.encode_text(PROMPTS)
by_hand = model.generate_image((first + second) / 2, **COMMON, seed=[1] * BATCH)
# A quarter of the way around is half way to the second prompt.
difference = np.abs(by_hand[0].astype(int) - frames[FRAMES // 4]).max()
print("the difference is at most", difference, "of 255 levels")
# %% [markdown]
# ## Between two seeds
#
# Now the prompt stays, and the noise goes from seed to seed. It goes along a circle: half
# way on a straight line, noise would be only 0.7 times as strong as the model expects, and
# the pictures flat.
# %%
frames = model.interpolate(PROMPT, frames=FRAMES, closed=True, seed=SEEDS, **COMMON)
film(frames, "seeds.gif")
# %% [markdown]
# ## Around a circle
#
# Two noises span a circle, of which every point is a noise as good as these. `circular_walk`
# paints frames all around it; the last one is the one before the first.
# %%
frames = model.circular_walk(PROMPT, frames=FRAMES, seed=1, **COMMON)
film(frames, "circle.gif")
# %% [markdown]
# However long a walk is, nothing compiles anew: frames are painted in batches of one size.
# %%
print(model.traces)
# %% [markdown]
# From a shell the same is
#
# ```
# kerasdiffusion walk "a red apple on a blue background" "a dog on a green background" --closed --frames 60 walk.gif
# ```
#
# and a name that ends in `.mp4` gives a film file.
