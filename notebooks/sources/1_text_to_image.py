# %% [markdown]
# # Text to image: batches, mixed precision and XLA
#
# This is the demo of KerasCV's guide *High-performance image generation using Stable
# Diffusion*, with kerasdiffusion. A model is made, paints a batch of pictures, and then
# the same again with mixed precision and with XLA, to see what each gains on your machine.
# %% [markdown] local
# The model here is the one that comes with the package: a toy that paints emoji on plain
# grounds, 128 pixels wide. Nothing is downloaded. `colab/` has the same notebook for Stable
# Diffusion 1.5.
# %% [markdown] colab
# The model is Stable Diffusion 1.5, some GB that are fetched once. Its licence is that of
# its makers.
# %%
import time

import keras
from IPython.display import display
from PIL import Image

from kerasdiffusion import StableDiffusion
from kerasdiffusion.pictures.write import grid

print("Keras", keras.version(), "on", keras.backend.backend())
# %% local
PRESET, STEPS, ZOOM = "emoji", 12, 1
PROMPT = "a red apple on a blue background"
PROMPTS = [
    "a dog on a green background",
    "a rocket on a black background",
    "a pizza on a yellow background",
]
NEGATIVE = "pixel art"
# %% colab
PRESET, STEPS, ZOOM = "sd1.5", 50, 0.5
PROMPT = "photograph of an astronaut riding a horse"
PROMPTS = [
    "a watercolor painting of a golden retriever at the beach",
    "a still life photograph of a bowl of fruit",
    "an oil painting of a lighthouse in a storm",
]
NEGATIVE = "blurry, grainy"
# %%
def show(pictures, columns=None):
    sheet = Image.fromarray(grid(pictures, columns or len(pictures)))
    size = [int(side * ZOOM) for side in sheet.size]
    display(sheet.resize(size, Image.NEAREST if ZOOM > 1 else Image.LANCZOS))


model = StableDiffusion.from_preset(PRESET)
# %% [markdown]
# ## A batch of pictures
#
# The call is KerasCV's. What comes back is an array of whole numbers from 0 to 255, of
# shape `(pictures, height, width, 3)`. Each picture of a batch has a seed of its own: 1, 2
# and 3 here.
# %%
pictures = model.text_to_image(PROMPT, batch_size=3, num_steps=STEPS, seed=1)
print(pictures.shape, pictures.dtype)
show(pictures)
# %% [markdown]
# Several prompts give a picture of each, in the same batch. A negative prompt says what to
# keep away from.
# %%
show(model.text_to_image(PROMPTS, NEGATIVE, num_steps=STEPS, seed=7))
# %% [markdown]
# ## What compiles, and what does not
#
# A prompt goes through three compiled programs: one encodes the text, one runs all of the
# denoising steps, one decodes the picture. They are compiled at their first call, which is
# why it is slow. After that, a new prompt, seed, sampler, number of steps or guidance scale
# compiles nothing. Another number of pictures does, because tensors have another shape.
# %%
before = dict(model.traces)
model.text_to_image(PROMPTS[0], batch_size=3, num_steps=5, seed=4, sampler="euler_a")
model.text_to_image(PROMPT, batch_size=3, unconditional_guidance_scale=3.0)
print("compiled so far:", before)
print("compiled since: ", {name: model.traces[name] - before[name] for name in before})
# %% [markdown]
# ## Mixed precision and XLA
#
# Both are arguments of the model. `precision="mixed_float16"` (or `"mixed_bfloat16"`)
# computes with 16 bits and keeps the weights in 32. `jit_compile=True` lets XLA fuse the
# operations of each program. On its own, the model takes what is usual for the machine:
# 16 bits and XLA on a GPU or TPU, neither on a CPU.
# %%
def seconds(model):
    """The fewest seconds for three pictures, once everything is compiled."""
    times = []
    for _ in range(6):
        start = time.perf_counter()
        model.text_to_image(PROMPT, batch_size=3, num_steps=STEPS, seed=1)
        times.append(time.perf_counter() - start)
    return min(times[1:])

# %% local
with_half = StableDiffusion.from_preset(PRESET, precision="mixed_bfloat16")
with_xla = StableDiffusion.from_preset(PRESET, jit_compile=True)
results = {
    "plain": seconds(model),
    "mixed precision": seconds(with_half),
    "XLA": seconds(with_xla),
}
# %% colab
# TPUs compute bfloat16, the usual GPU of Colab float16.
half = "mixed_bfloat16" if keras.backend.backend() == "jax" else "mixed_float16"
results = {}
for name, precision, jit_compile in (
    ("plain", "float32", False),
    ("mixed precision", half, False),
    ("XLA", "float32", True),
    ("mixed precision and XLA", half, True),
):
    model = None  # Two would fill the memory of a small GPU.
    model = StableDiffusion.from_preset(
        PRESET, precision=precision, jit_compile=jit_compile
    )
    results[name] = seconds(model)
# %%
for name, result in results.items():
    print(f"{name:24} {result:6.2f} s   {results['plain'] / result:5.2f} times as fast")
# %% [markdown] local
# These are the figures of the machine that ran this notebook last: a few cores of a CPU,
# and a model so small that much of the time goes by between the operations. There XLA may
# gain something and 16 bits little or nothing. They are made for GPUs and TPUs: run the
# notebook in `colab/` to see what they gain there.
# %% [markdown] colab
# A GPU computes 16 bits several times faster than 32, and XLA saves it the way to memory
# between operations. On JAX everything is compiled by XLA, so that `jit_compile` changes
# nothing there. Make one model with the fastest setting and keep it: each model that is
# made holds the weights once more.
