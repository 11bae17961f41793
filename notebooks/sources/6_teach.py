# %% [markdown]
# # Teach it: a thing and a style that it has never seen
#
# Twelve pictures teach the bundled model what a phoenix is, and sixteen icons teach it to
# draw in another hand: a LoRA each, in some minutes on two CPU cores. In the end a judge
# says what came of it, also of what was known before.
#
# The phoenix is of Microsoft's Fluent Emoji (MIT), the icons are OpenMoji's (CC BY-SA 4.0);
# the model has learned from neither.
# %% [markdown] local
# The pictures lie beside this notebook, in `pictures/`. Nothing is downloaded.
# %% [markdown] colab
# The pictures lie in the repository, beside the notebook.
# %% colab
import os
import subprocess

subprocess.run(["git", "clone", "-q", "--depth", "1", REPOSITORY, "repository"], check=True)
os.chdir("repository/notebooks")
# %%
from pathlib import Path

import numpy as np
from IPython.display import display
from PIL import Image

from kerasdiffusion import Lesson, StableDiffusion, teach
from kerasdiffusion.pictures.write import grid


def look(pictures, columns=6):
    picture = Image.fromarray(grid(pictures, columns))
    display(picture.quantize(64))  # a small file


def show(folder):
    files = sorted(Path("pictures", folder).glob("*.png"))
    for file in files[:3]:
        print(file.with_suffix(".txt").read_text("utf-8").strip())
    look([np.asarray(Image.open(file).convert("RGB")) for file in files])


show("phoenix")
# %% [markdown]
# A picture's caption is the text beside it. There are other ways to say it, and every keyword
# below is a flag of `kerasdiffusion teach pictures/phoenix --out phoenix.safetensors`.
#
# ## Before
#
# The model does not know the word, and paints whatever its letters remind it of. The second
# row is to stay as it is.
# %%
model = StableDiffusion.from_preset("emoji")
GROUNDS = ("white", "green", "yellow", "pink", "cyan", "purple")
KNOWN = ("owl", "fire", "red apple", "rocket", "butterfly", "peacock")


def paint(thing):
    prompts = [f"a {thing} on a {ground} background" for ground in GROUNDS]
    return list(model.text_to_image(prompts, seed=7, progress_bar=False))


def paint_known():
    prompts = [
        f"a {thing} on a {ground} background"
        for thing, ground in zip(KNOWN, GROUNDS, strict=True)
    ]
    return list(model.text_to_image(prompts, seed=8, progress_bar=False))


known = paint_known()
look(paint("phoenix") + known)
# %% [markdown]
# ## A thing
#
# Beside the phoenix it is shown what it paints itself of things that it knows, so that it
# goes on painting these (*prior preservation*). They are some; others are to stay as well.
# %%
KEPT = (
    *("bird", "flamingo", "parrot", "rooster", "dragon", "bee", "cat", "dog", "fish"),
    *("snail", "snake", "frog", "sun", "maple leaf", "tulip", "tree", "mushroom", "rose"),
    *("lemon", "carrot", "banana", "pizza", "cookie", "burger", "car", "bus", "bicycle"),
    *("ship", "house", "castle", "key", "bell", "guitar", "book", "crown", "balloon"),
)
known_prompts = [
    f"a {each} on a {GROUNDS[i % 6]} background" for i, each in enumerate(KEPT)
]
lesson = Lesson(class_prompt=known_prompts, class_count=len(known_prompts))
teach("pictures/phoenix", "phoenix.safetensors", lesson, progress_bar=False)
# %%
model.load_adapter("phoenix.safetensors")
look(paint("phoenix") + paint_known())
# %% [markdown]
# The known things beside what they were:
# %%
look(known + paint_known())
# %% [markdown]
# It goes where it is told to, in sizes and places, and in the company of others.
# %%
prompts = [
    "a small phoenix in the top left corner on a blue background",
    "a large phoenix on an orange background",
    "a phoenix to the left of a red apple on a white background",
    "two phoenixes on a yellow background",
    "line art of a phoenix on a white background",
    "a phoenix, grey background",
]
look(model.text_to_image(prompts, seed=5, progress_bar=False))
# %% [markdown]
# ## A style
#
# Sixteen things, each in the hand of OpenMoji: flat colours within black lines.
# %%
show("comic")
# %%
model.remove_adapter("phoenix")
look(paint("duck in comic style") + paint("strawberry in comic style"))
# %% [markdown]
# The pictures that it painted for the phoenix serve again.
# %%
lesson = Lesson(
    class_folder="phoenix-run/class", class_prompt=known_prompts, class_count=36
)
teach("pictures/comic", "comic.safetensors", lesson, progress_bar=False)
# %% [markdown]
# Neither a duck nor a strawberry was among them.
# %%
model.load_adapter("comic.safetensors")
look(paint("duck in comic style") + paint("strawberry in comic style"))
# %% [markdown]
# Where the style is not asked for, there is little of it.
# %%
look(paint("duck") + paint("strawberry"))
# %% [markdown]
# ## What the judge says
#
# The judge has learned nothing from these pictures or from the model: what stands on the
# ground is named by the nearest of some 1,200 icons, all of Noto Color Emoji that the model
# knows, the phoenix, and the birds, flames and dragons of its own set. It is asked of the
# files of this run, with the same prompts and seeds before and after. Of 240 pictures of such
# birds, flames and dragons by OpenMoji, which it does not hold, it takes none for a phoenix.
#
# | | before | after |
# | --- | --- | --- |
# | "a phoenix", named so, of 50 pictures on six grounds | 0 | 50 |
# | fifty known things that were not shown beside it, twice each, named right of 100 | 100 | 100 |
# | 25 things that were not among the icons, "in comic style", on two grounds: in the style, of 50 | 7 | 46 |
# | the same: the nearest icon of either set is the thing's, of 50 | 23 | 25 |
# | the same without the words: in the style, of 50 | 10 | 15 |
# | the same without the words: the thing's, of 50 | 50 | 50 |
#
# The style is told by a classifier of OpenMoji and Noto Color Emoji that saw neither these
# things nor those that were taught; of icons that were kept from it it names 96 % right. So
# words that it does not know cost the model half of its things, before as after; and a little
# of the style comes without being asked.
#
# `python notebooks/judge_pictures.py` says it again, of the files that it is given.
