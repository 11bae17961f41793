# %% [markdown]
# # Pictures in: image to image, inpainting, outpainting
#
# A picture may go in beside the prompt: as a sketch to begin with, as a scene of which a
# part is painted anew, or as the middle of a larger one. All of it takes the samplers,
# seeds and guidance of `text_to_image`, and any model that paints from text.
# %% local
PRESET, STEPS, ZOOM = "emoji", 20, 1
PROMPT = "a red apple on a blue background"
OTHER = "a dog on a blue background"
BESIDE = OTHER
STRENGTHS = [0.1, 0.2, 0.3, 0.8]
# %% colab
PRESET, STEPS, ZOOM = "sd1.5", 30, 0.5
PROMPT = "a still life photograph of a red apple on a blue table cloth"
OTHER = "a photograph of a small dog sitting on a blue table cloth"
BESIDE = "a still life photograph of a blue table cloth"
STRENGTHS = [0.3, 0.5, 0.7, 0.9]
# %%
import numpy as np
from IPython.display import display
from PIL import Image, ImageDraw

from kerasdiffusion import StableDiffusion
from kerasdiffusion.pictures.write import grid


def show(pictures, columns=None):
    sheet = Image.fromarray(grid(pictures, columns or len(pictures)))
    size = [int(side * ZOOM) for side in sheet.size]
    display(sheet.resize(size, Image.NEAREST if ZOOM > 1 else Image.LANCZOS))


model = StableDiffusion.from_preset(PRESET)
SIDE = model.img_width
# %% [markdown]
# ## A sketch to begin with
#
# A disc on a ground will do for a sketch. A picture may be a path, a PIL image or an array.
# %%
sketch = Image.new("RGB", (SIDE, SIDE), (40, 90, 200))
disc = [SIDE // 4, SIDE // 4, SIDE * 3 // 4, SIDE * 3 // 4]
ImageDraw.Draw(sketch).ellipse(disc, fill=(210, 40, 40))
painted = [
    model.image_to_image(sketch, PROMPT, strength=strength, num_steps=STEPS, seed=3)[0]
    for strength in STRENGTHS
]
show([np.array(sketch), *painted])
# %% [markdown]
# At the left is the sketch, then what became of it with more and more strength. The strength
# is the share of the steps that are made. With few of them the sketch stays, with all of
# them nothing of it is left. The distance to the sketch grows on the way:
# %%
for strength, picture in zip(STRENGTHS, painted):
    distance = np.abs(picture.astype(int) - np.array(sketch)).mean()
    print(f"strength {strength}: {distance:5.1f} levels away")
# %% [markdown]
# ## A part that is painted anew
#
# `inpaint` takes a mask beside the picture: white is painted, black stays. At every step the
# part that stays is put back, as noisy as the rest is at that step, so that what is painted
# fits in. Outside of the mask the pixels are those of the picture, to the bit.
# %%
(picture,) = model.text_to_image(PROMPT, num_steps=STEPS, seed=1)
mask = np.zeros((SIDE, SIDE), bool)
mask[SIDE // 8 : -SIDE // 8, SIDE // 8 : -SIDE // 8] = True
repainted = model.inpaint(picture, mask, OTHER, num_steps=STEPS, seed=1)
white = np.repeat(mask[..., None], 3, axis=-1).astype("uint8") * 255
show([picture, white, *repainted])
print("the same outside:", bool((repainted[:, ~mask] == picture[~mask]).all()))
# %% [markdown]
# ## Beyond the edges
#
# `outpaint` adds pixels at any side, and keeps those that are there. What is new is painted
# in windows of the model's own size, which overlap what is there: by a quarter here.
# %%
more = SIDE * 3 // 4
wide = model.outpaint(
    picture, BESIDE, left=more, right=more, overlap=SIDE // 4, num_steps=STEPS, seed=1
)
print(picture.shape, "became", wide[0].shape)
show(wide)
