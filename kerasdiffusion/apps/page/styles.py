"""Styles: words around a prompt, by name."""

from __future__ import annotations

from collections.abc import Sequence

#: Around the prompt, and what to keep away from.
STYLES = {
    "Photograph": (
        "photograph of {prompt}, natural light, fine detail, sharp focus",
        "drawing, painting, blurry, oversaturated",
    ),
    "Film": (
        "film still of {prompt}, 35 mm, grain, shallow depth of field",
        "drawing, text, watermark",
    ),
    "Watercolour": (
        "watercolour of {prompt}, wet paper, soft edges",
        "photograph, sharp lines",
    ),
    "Oil": (
        "oil painting of {prompt}, thick brush strokes, canvas",
        "photograph, flat colours",
    ),
    "Ink": (
        "ink drawing of {prompt}, black lines on white paper",
        "colour, photograph",
    ),
    "Sticker": (
        "{prompt}, sticker, thick outline, flat colours, plain background",
        "photograph, shadows, texture",
    ),
    "Pixels": ("pixel art of {prompt}, few colours", "photograph, blurry, gradients"),
    "Clay": ("{prompt} made of clay, studio light, soft shadows", "drawing, text"),
    "Isometric": ("isometric model of {prompt}, plain background", "photograph, text"),
}


def styled(prompt: str, negative: str, names: Sequence[str]) -> tuple[str, str]:
    """A prompt and a negative prompt with styles around them, in their order.

    Example:

    >>> styled("a cat", "", ["Ink"])
    ('ink drawing of a cat, black lines on white paper', 'colour, photograph')
    """
    for name in names:
        around, away = STYLES[name]
        prompt = around.replace("{prompt}", prompt)
        negative = ", ".join(filter(None, (negative, away)))
    return prompt, negative
