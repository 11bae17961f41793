"""Fields of a request: a second pass, larger, over what the first painted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kerasdiffusion.requests.fields import Flag, asked
from kerasdiffusion.requests.kinds import SHARE, Choice, Name, Number, Text, Whole
from kerasdiffusion.requests.several import Size

LARGER = "a second, larger pass"
TASKS = ("text_to_image",)
#: How the first picture is enlarged, by AUTOMATIC1111's names: latents, or pixels.
OF_LATENTS = {
    "Latent": ("bilinear", False),
    "Latent (antialiased)": ("bilinear", True),
    "Latent (bicubic)": ("bicubic", False),
    "Latent (bicubic antialiased)": ("bicubic", True),
    "Latent (nearest)": ("nearest", False),
    "Latent (nearest-exact)": ("nearest-exact", False),
}
OF_PIXELS = ("Lanczos", "Nearest")
UPSCALERS = (*OF_LATENTS, *OF_PIXELS)


@dataclass(frozen=True, kw_only=True, eq=False)
class Larger:
    """The second pass that AUTOMATIC1111 calls "Hires. fix".

    A model paints well at the size that it was trained at: so the first pass gives the
    composition, and the second, over the enlarged first, the detail.
    """

    hires_scale: float | None = asked(
        Number(1.0, 8.0),
        help="paints the picture once more over itself, so many times as large",
        text='Paints the pictures once more over themselves ("hires fix"), so many '
        "times as high and wide: from 1 to 8; sides are cut to a multiple of 8.",
        label="Hires upscale",
        tasks=TASKS,
        flag=Flag(metavar="X"),
        group=LARGER,
    )
    hires_size: Sequence[int] | None = asked(
        Size(),
        help="the same to this size, as 1024x768; what has another ratio is cut",
        text="In place of `hires_scale`, the height and width of the result; one of "
        "them may be 0, and follows from the other. Where their ratio is another than "
        "the first pass's, the middle of its picture is painted over.",
        label="Hires resize",
        tasks=TASKS,
        flag=Flag(metavar="WxH"),
        group=LARGER,
    )
    hires_upscaler: str = asked(
        Choice(UPSCALERS),
        "Latent",
        help=f"how the first picture is enlarged: {', '.join(UPSCALERS)} (default: "
        "Latent)",
        text='How the first pictures are enlarged: `"Latent"` and its kin mix '
        "latents, which wants a strength over 0.5; "
        '`"Lanczos"` and `"Nearest"` enlarge the picture.',
        label="Hires upscaler",
        tasks=TASKS,
        flag=Flag(metavar="NAME"),
        group=LARGER,
    )
    hires_strength: float = asked(
        SHARE,
        0.7,
        help="how much the second pass paints anew, 0 to 1 (default: 0.7)",
        text="How much the second pass paints anew, from 0 to 1.",
        label="Denoising strength",
        tasks=TASKS,
        flag=Flag(metavar="S"),
        group=LARGER,
    )
    hires_steps: int | None = asked(
        Whole(1, 1000),
        help="steps of the second pass (default: as many as the first has)",
        text="Steps that the second pass makes, whatever its strength; as many as the "
        "first by default.",
        label="Hires steps",
        tasks=TASKS,
        flag=Flag(metavar="N"),
        group=LARGER,
    )
    hires_sampler: str | None = asked(
        Name("kerasdiffusion.sampling.names:find_sampler"),
        help="its sampler (default: the first's)",
        text="Its sampler; the first's by default.",
        label="Hires sampler",
        tasks=TASKS,
        flag=Flag(metavar="NAME"),
        group=LARGER,
    )
    hires_spacing: str | None = asked(
        Name("kerasdiffusion.sampling.spacings:find_spacing"),
        help="how its steps are spaced (default: as the first's)",
        text="How its steps are spaced; as the first's by default.",
        label="Hires schedule type",
        tasks=TASKS,
        flag=Flag(metavar="NAME"),
        group=LARGER,
    )
    hires_prompt: str | None = asked(
        Text(),
        help="its prompt (default: the first's)",
        text="Its prompt, for all pictures; the first's by default.",
        label="Hires prompt",
        tasks=TASKS,
        flag=Flag(metavar="TEXT"),
        group=LARGER,
    )
    hires_negative_prompt: str | None = asked(
        Text(),
        help="what it keeps away from (default: as the first)",
        text="What it keeps away from; the first's by default.",
        label="Hires negative prompt",
        tasks=TASKS,
        flag=Flag(metavar="TEXT"),
        group=LARGER,
    )

    @property
    def is_larger(self) -> bool:
        """Whether there is a second pass."""
        return self.hires_scale is not None or self.hires_size is not None

    def told_size(self, painted: Sequence[int], own: Sequence[int]) -> tuple[int, int]:
        """Height and width that a text tells: the first pass's, where there are two.

        Args:
            painted: Of the pictures.
            own: Of the first pass.
        """
        return tuple(own if self.is_larger else painted)

    def final_size(self, size: Sequence[int], multiple: int = 8) -> tuple[int, int]:
        """Height and width of the pictures, of those of the first pass."""
        return self.enlarged_sizes(size, multiple)[1]

    def enlarged_sizes(self, size: Sequence[int], multiple: int = 8):
        """What the first picture is enlarged to, and what is left of that.

        Args:
            size: Height and width of the first pass.
            multiple: What sides are cut to a multiple of.

        Returns:
            Two of height and width; one and the same with `hires_scale`.
        """
        if not self.is_larger:
            return tuple(size), tuple(size)
        height, width = size
        if self.hires_size is None:
            cover = [int(side * self.hires_scale + 1e-9) for side in size]
            wanted = cover
        else:
            tall, wide = self.hires_size
            if not wide or (tall and width * tall > wide * height):
                cover = [tall, tall * width // height]
            else:
                cover = [wide * height // width, wide]
            wanted = [tall or cover[0], wide or cover[1]]
        cover, wanted = (
            tuple(max(side // multiple, 1) * multiple for side in each)
            for each in (cover, wanted)
        )
        return cover, wanted
