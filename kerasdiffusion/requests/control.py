"""A picture to follow, as a caller asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: What a control is told beside its network, with its default.
TOLD = {"scale": 1.0, "start": 0.0, "end": 1.0}


@dataclass(frozen=True, eq=False)
class Control:
    """A picture that the result shall follow, and the network that sees to it.

    Args:
        network: What the picture shows, for the usual network of the model's family:
            `"canny"`, `"depth"`, `"openpose"`, `"scribble"`, ..., `"t2i-canny"`, see
            `presets.controls`; the name of a repository there; `hf://owner/name`; a
            folder or a file of diffusers', lllyasviel's or TencentARC's. Or a network,
            as from `control_network`.
        picture: As the network was trained to see it: white edges on black, near in
            white, a pose. A path, a PIL image or an array (uint8, or float in [0, 1]),
            of the result's height and width; or a list of them, for as many results.
            Where a task paints a part of the result, the network sees that part.
        scale: How much the network counts; 0 is nothing, 1 as it was trained.
        start: The share of the steps after which it begins to count, from 0 to 1.
        end: The share of the steps after which it counts no more, above `start`.
        guess_mode: Whether the negative prompt goes without it, and what it says counts
            the less the finer it is, so that it guesses without a prompt.

    Example:

    >>> edges = canny_edges("photo.png")
    >>> model = StableDiffusion.from_preset("sd1.5")
    >>> model.text_to_image("a snowman", control=Control("canny", edges, scale=0.8))

    Reference:
        Zhang et al. 2023, "Adding Conditional Control to Text-to-Image Diffusion
        Models"; Mou et al. 2023, "T2I-Adapter".
    """

    network: Any
    picture: Any
    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0
    guess_mode: bool = False
