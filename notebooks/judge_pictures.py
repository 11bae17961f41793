"""Judges what `6_teach.ipynb` taught, by icons that nothing was trained on.

    python notebooks/judge_pictures.py phoenix.safetensors comic.safetensors

("-" leaves one out).

What stands on a painted picture's ground is named by the nearest of some 1,200 icons:
the phoenix, all of Noto Color Emoji that the model knows, and those of Fluent Emoji
that come nearest to a phoenix (birds, flames, leaves, dragons). Prompts and seeds are
the same before and after. Style is told by a classifier of OpenMoji and Noto Color
Emoji, trained on icons that are neither taught nor painted.

It wants what `draw_pictures.py` does, and the font Noto Color Emoji.
"""

from __future__ import annotations

import re
import sys
from collections import Counter

import draw_pictures
import keras
import numpy as np
from draw_pictures import GROUNDS, HERE, STYLED, icon, lay, on
from PIL import Image

from kerasdiffusion import StableDiffusion
from kerasdiffusion.datasets import emoji
from kerasdiffusion.datasets.english import noun_phrase
from kerasdiffusion.datasets.names import spoken_names
from kerasdiffusion.training.judging import judge

TABLE = emoji.table()
#: Grounds that are painted: like the phoenix, and unlike it.
SEEN = ("red", "yellow", "green", "blue", "white", "black")
#: Fluent icons that are most like a phoenix.
KIN = (
    *("bird", "dodo", "dove", "duck", "eagle", "feather", "flamingo"),
    *("goose", "hatching-chick", "front-facing-baby-chick", "baby-chick", "chicken"),
    *("owl", "parrot", "peacock", "penguin", "rooster", "swan", "turkey", "wing"),
    *("fire", "heart-on-fire", "comet", "collision", "volcano", "firecracker"),
    *("dragon", "dragon-face", "butterfly", "honeybee", "bat", "lobster", "shrimp"),
    *("maple-leaf", "fallen-leaf", "hot-pepper", "tulip", "lotus", "hibiscus", "crab"),
)
SIMPLE = ("food", "animal", "plant", "sky", "transport", "household", "tool", "music")
SIMPLE += ("clothing", "sport", "game", "event", "office", "mail", "sound", "book")
SIMPLE += ("light", "computer", "phone", "money", "lock", "science", "award", "drink")


def noto(name: str) -> Image.Image:
    """A cut-out of Noto Color Emoji: RGBA."""
    drawn = emoji.glyph(TABLE[name].emoji, emoji.find_font()).astype("float32")
    alpha = drawn[..., 3:]
    color = np.where(alpha > 0, drawn[..., :3] * 255 / np.maximum(alpha, 1), 0)
    whole = np.concatenate([color, alpha], -1).clip(0, 255).astype("uint8")
    return Image.fromarray(whole)


class Icons:
    """Cut-outs by name, of which the nearest to a picture's object is found."""

    SIDE = 24

    def __init__(self, cutouts: list[tuple[str, Image.Image]]):
        self.names = [name for name, _ in cutouts]
        self._cutouts, self._on = [each for _, each in cutouts], {}

    def nearest(self, picture: np.ndarray, ground: str) -> str:
        """The name of the icon that is nearest, pixel by pixel; "" if there is none."""
        found = judge.find_object(picture)
        if found is None:
            return ""
        if ground not in self._on:
            laid = [np.asarray(lay(each, ground)) for each in self._cutouts]
            rows = [self._seen(each, judge.find_object(each)) for each in laid]
            self._on[ground] = np.stack(rows)
        best, name = np.inf, ""
        shifts = (-0.04, 0.0, 0.04)
        for dx in shifts:
            for dy in shifts:
                for scale in (0.95, 1.0, 1.06):
                    moved = judge.Found(
                        found.x + dx * found.side,
                        found.y + dy * found.side,
                        found.side * scale,
                    )
                    away = self._on[ground] - self._seen(picture, moved)
                    away = np.square(away).mean(axis=-1)
                    if away.min() < best:
                        best, name = away.min(), self.names[away.argmin()]
        return name

    def _seen(self, picture, found) -> np.ndarray:
        small = Image.fromarray(judge.window(picture, found))
        small = small.resize((self.SIDE, self.SIDE), Image.Resampling.BOX)
        return np.asarray(small, "float32").ravel() / 255


def said(name: str) -> str:
    """What captions call an emoji."""
    return noun_phrase(spoken_names(name, "emoji", tuple(TABLE))[0])


def simple(dice) -> list[str]:
    """Things that are no faces or people, in some order; none that was kept."""
    text = (HERE.parent / "sources" / "6_teach.py").read_text("utf-8")
    kept = set(re.findall(r'"([a-z ]+)"', text[text.index("KEPT = (") :]))
    names = [
        name
        for name, each in TABLE.items()
        if each.group.startswith(SIMPLE)
        and name.isascii()
        and " face" not in name
        and not kept & set(spoken_names(name, "emoji", tuple(TABLE)))
    ]
    return [names[i] for i in dice.permutation(len(names))]


def paint(model, prompts: list[str], seed: int) -> np.ndarray:
    """Pictures, ten at once, in 12 steps."""
    how = {"num_steps": 12, "progress_bar": False}
    return np.concatenate(
        [
            model.text_to_image(prompts[i : i + 10], seed=seed + i, **how)
            for i in range(0, len(prompts), 10)
        ]
    )


def share(right) -> str:
    return f"{np.mean(right):.1%} of {len(right)}"


def judge_thing(model, path: str) -> None:
    """The phoenix, and fifty things that were known, on two grounds each."""
    known = simple(np.random.default_rng(11))[:50]
    icons = [("phoenix", icon("FLUENT", "phoenix-bird"))]
    icons += [(f"Fluent {name}", icon("FLUENT", name)) for name in KIN]
    icons = Icons(icons + [(name, noto(name)) for name in TABLE])
    grounds = [SEEN[i % 6] for i in range(50)]
    new = [f"a phoenix {on(ground)}" for ground in grounds]
    rows = [
        (name, SEEN[(i + 2 * k) % 6]) for i, name in enumerate(known) for k in range(2)
    ]
    old = [f"{said(name)} {on(ground)}" for name, ground in rows]

    def look(when):
        painted = zip(paint(model, new, 100), grounds, strict=True)
        named = [icons.nearest(*each) for each in painted]
        print(when, Counter(named).most_common(4), flush=True)
        right = [
            icons.nearest(picture, ground) == name
            for picture, (name, ground) in zip(
                paint(model, old, 500), rows, strict=True
            )
        ]
        print(f"| phoenix, {when} | {share([n == 'phoenix' for n in named])} |")
        print(f"| known things, {when} | {share(right)} |")
        sys.stdout.flush()
        return np.array(right)

    print("look-alikes that it does not hold, taken for a phoenix:", fooled(icons))
    before = look("before")
    model.load_adapter(path)
    after = look("after")
    model.remove_adapter()
    print(f"lost {np.sum(before & ~after)}, won {np.sum(after & ~before)}")


def fooled(icons: Icons) -> str:
    """How many birds, flames and leaves of a third set are a phoenix to the judge."""
    found = []
    for name in KIN:
        if name in draw_pictures.icons("OPENMOJI")["icons"]:
            for ground in SEEN:
                picture = np.asarray(lay(icon("OPENMOJI", name), ground))
                found.append(icons.nearest(picture, ground) == "phoenix")
    return share(found)


def style_classifier(names: list[str]) -> keras.Model:
    """Tells OpenMoji (1) from Noto Color Emoji (0)."""
    keras.utils.set_random_seed(3)
    model, dice = judge.build_classifier(2), np.random.default_rng(5)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # of so few steps
    model.compile(
        keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(2e-3, 120)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    for _ in range(120):
        model.train_on_batch(*style_batch(names, dice, 48))
    return model


def style_batch(names: list[str], dice, count: int):
    """Windows of icons of both sets, and which set each is of."""
    windows, sets = [], []
    for _ in range(count):
        name, ground = dice.choice(names), dice.choice(GROUNDS[:-1])
        which = int(dice.integers(2))
        drawn = icon("OPENMOJI", name.replace(" ", "-")) if which else noto(name)
        size, shift = dice.choice(["medium", "large"]), dice.uniform(-4, 4, 2)
        picture = np.asarray(lay(drawn, ground, "center", size, shift))
        found = judge.find_object(picture)
        if found is not None:
            dx, dy = dice.uniform(-0.05, 0.05, 2) * found.side
            side = found.side * dice.uniform(0.92, 1.08)
            found = judge.Found(found.x + dx, found.y + dy, side)
        windows.append(judge.window(picture, found))
        sets.append(which)
    windows = judge.to_unit(windows)
    windows[: count // 2] = judge.soften(windows[: count // 2])
    windows += dice.normal(scale=0.05, size=windows.shape)
    return windows.astype("float32"), np.array(sets)


def judge_style(model, path: str) -> None:
    """Twenty-five things that were not taught, asked for in the style and without."""
    names = [
        name
        for name in simple(np.random.default_rng(21))
        if name.replace(" ", "-") not in STYLED and _is_in_both(name)
    ]
    painted, held_out, rest = names[:25], names[25:105], names[105:]
    classifier = style_classifier(rest)
    windows, sets = style_batch(held_out, np.random.default_rng(6), 400)
    right = classifier.predict(windows, verbose=0).argmax(-1) == sets
    print(f"style of icons that were held out: {share(right)}")
    icons = [(name, icon("OPENMOJI", name.replace(" ", "-"))) for name in names]
    icons = Icons(icons + [(name, noto(name)) for name in names])
    rows = [
        (name, SEEN[:-1][(i + 2 * k) % 5])
        for i, name in enumerate(painted)
        for k in range(2)
    ]

    def look(when):
        for words in (" in comic style", ""):
            prompts = [f"{said(name)}{words} {on(ground)}" for name, ground in rows]
            pictures = paint(model, prompts, 700)
            seen = [judge.window(each, judge.find_object(each)) for each in pictures]
            styles = classifier.predict(judge.to_unit(seen), verbose=0).argmax(-1)
            right = [
                icons.nearest(picture, ground) == name
                for picture, (name, ground) in zip(pictures, rows, strict=True)
            ]
            print(
                f"| {words.strip() or 'without the words'}, {when} | style "
                f"{share(styles == 1)} | thing {share(right)} |",
                flush=True,
            )

    look("before")
    model.load_adapter(path)
    look("after")
    model.remove_adapter()


def _is_in_both(name: str) -> bool:
    try:
        return icon("OPENMOJI", name.replace(" ", "-")) is not None
    except KeyError:
        return False


if __name__ == "__main__":
    toy = StableDiffusion.from_preset("emoji")
    for what, path in zip((judge_thing, judge_style), sys.argv[1:]):
        if path != "-":
            what(toy, path)
