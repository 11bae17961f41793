# %% [markdown]
# # What happens inside
#
# Jay Alammar's *The Illustrated Stable Diffusion* draws how a prompt becomes a picture. Here
# the same is shown on the model itself: the tokens of a prompt, the noise that becomes a
# picture step by step, and where each word looks while it does.
# %% local
PRESET, STEPS, ZOOM = "emoji", 20, 1
PROMPT = "a red apple on a blue background"
WORDS = ["red", "apple", "blue", "background"]
# %% colab
PRESET, STEPS, ZOOM = "sd1.5", 30, 0.35
PROMPT = "paradise cosmic beach, a palm tree under a large moon"
WORDS = ["beach", "palm", "tree", "moon"]
# %%
import numpy as np
from IPython.display import display
from keras import ops
from PIL import Image

from kerasdiffusion import StableDiffusion
from kerasdiffusion.compute import backend, operations
from kerasdiffusion.pictures.write import grid
from kerasdiffusion.sampling.noise import initial_noise
from kerasdiffusion.sampling.schedule import Schedule


def show(pictures, columns=None):
    sheet = Image.fromarray(grid(pictures, columns or len(pictures)))
    size = [int(side * ZOOM) for side in sheet.size]
    display(sheet.resize(size, Image.NEAREST if ZOOM > 1 else Image.LANCZOS))


model = StableDiffusion.from_preset(PRESET)
for part in (model.text_encoder, model.diffusion_model, model.image_encoder, model.decoder):
    print(f"{part.name:16} {part.count_params():>13,} numbers")
# %% [markdown]
# ## 1. Text to tokens, tokens to vectors
#
# The tokenizer cuts the prompt into pieces that it knows, each with a number. A start and an
# end are put around them, and the rest of the places is filled up. The text encoder makes a
# vector of each place, which knows the words before it.
# %%
ids = model.tokenizer.tokens(PROMPT)
names = [model.tokenizer.decode([number]).strip() for number in ids]
print(list(zip(ids, names)))
context = model.encode_text(PROMPT)
print("vectors:", context.shape)
# %% [markdown]
# ## 2. Noise
#
# The seed gives the noise to begin with. It has the shape of the *latents*, not of the
# picture: a few channels of numbers for every patch of pixels. Here are its first three
# channels as colours.
# %%
noise = initial_noise([1], model.latent_shape)
print("latents:", noise.shape[1:], " picture:", (model.img_height, model.img_width, 3))


def as_colours(latents):
    side = model.img_width // latents.shape[1]
    levels = np.clip(latents[..., :3] * 50 + 128, 0, 255).astype("uint8")
    return levels.repeat(side, axis=1).repeat(side, axis=2)


show(as_colours(noise))
# %% [markdown]
# ## 3. Step by step
#
# At each step the U-Net looks at the noisy latents and the text, and predicts the latents
# without noise. The sampler goes a part of the way there. A callback sees the latents after
# each step; the decoder makes them visible. The first row shows the latents, the second what
# the decoder sees in them.
# %%
steps = []
(picture,) = model.text_to_image(PROMPT, num_steps=STEPS, seed=1, callback=steps.append)
chosen = [steps[i] for i in np.linspace(0, STEPS - 1, 8).astype(int)]
latents = [step.latents for step in chosen]
decoded = [backend.to_numpy(model.program("decode")(each)) for each in latents]
show([*(as_colours(each)[0] for each in latents), *(each[0] for each in decoded)], columns=8)
for step in chosen:
    print(f"after step {step.step:2} of {step.num_steps} noise of {step.sigma:7.3f} is left")
# %% [markdown]
# ## 4. Where words look
#
# In the U-Net, each place of the picture asks all words of the prompt, and mixes what they
# say. How much it listens to each is a number: the *cross attention*. For this picture, at a
# middle step, here is where each word is listened to, averaged over heads and layers. White
# is much.
# %%
attention, maps = operations.attention, []


def watched(query, key, *others):
    """The attention of the library, that writes down who listens to which word."""
    if key.shape[1] == context.shape[1] != query.shape[1]:
        scores = ops.einsum("bqhc,bkhc->bhqk", query, key) / query.shape[-1] ** 0.5
        listened = ops.mean(ops.softmax(scores), axis=1)
        maps.append(backend.to_numpy(ops.cast(listened, "float32"))[0])
    return attention(query, key, *others)


middle = steps[STEPS // 2]
timestep = Schedule(model.config.schedule).timestep_at(middle.sigma)
operations.attention = watched
model.diffusion_model(
    {
        "latents": ops.convert_to_tensor(middle.latents),
        "timestep": ops.convert_to_tensor([float(timestep)]),
        "crossattn": ops.convert_to_tensor(context),
    }
)
operations.attention = attention

height, width = model.img_height, model.img_width
total = np.zeros((height, width, context.shape[1]))
for each in maps:
    side = round(len(each) ** 0.5)
    places = each.reshape(side, side, -1)
    total += np.stack(
        [
            np.array(Image.fromarray(places[..., i]).resize((width, height)))
            for i in range(places.shape[-1])
        ],
        axis=-1,
    )
heat = []
for word in WORDS:
    values = total[..., 1 + names.index(word)]
    values = (values - values.min()) / (values.max() - values.min())
    heat.append((values[..., None] * 255).repeat(3, axis=-1).astype("uint8"))
print(*WORDS, sep=" | ")
show([picture, *heat])
# %% [markdown] local
# The word for the thing is listened to where the thing is, the words for the ground around
# it.
# %% [markdown]
# ## 5. Guidance
#
# Each step is made twice at once: with the prompt, and with the empty one. The difference
# says what the prompt changes, and the guidance scale how many times as large it is made. At
# 1 there would be no guidance; far above what the model is used to, colours burn out.
# %%
scales = [1.5, 3.0, 6.0, 12.0]
guided = [
    model.text_to_image(PROMPT, num_steps=STEPS, seed=1, unconditional_guidance_scale=scale)[0]
    for scale in scales
]
print(scales)
show(guided)
