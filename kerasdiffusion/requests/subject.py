"""Fields of a request: what to paint, where, and how much of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kerasdiffusion.requests.fields import (
    OF_PICTURES,
    OF_PROMPTS,
    WALKS,
    Flag,
    asked,
)
from kerasdiffusion.requests.kinds import SHARE, Choice, Kind, Number, Switch, Whole
from kerasdiffusion.requests.objects import Array, Picture, Prompts, Seed

WHAT, IN, WAY = "what to paint", "pictures in", "the way"
PATHS = ("linear", "spherical")
#: The widest side and feather in pixels, and bounds of what is counted.
LARGEST, WIDEST = 8192, 512
PIXELS = Whole(0, LARGEST, "a whole number of pixels")
_INPAINTED = ("inpaint", "outpaint")
_STRENGTH = (
    "How much is painted anew, from 0 to 1: the share of the steps that are made. At "
    "0 the picture comes back as the autoencoder sees it; 1 is `text_to_image` from "
    "the same noise."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """What is painted."""

    image: Any = asked(
        Picture(),
        help="a picture to begin with; it has a size itself",
        text="A path, a PIL image or an array (uint8, or float in [0, 1]), see "
        "`read.read_pictures`; or a list of them, one for each prompt, all of one "
        "size.",
        label="Image",
        tasks=OF_PICTURES,
        flag=Flag(metavar="FILE"),
        group=IN,
    )
    mask: Any = asked(
        Picture(),
        help="paints --image anew where this picture is white",
        text="What is painted is white, what stays is black: a picture of the same "
        "height and width, or an array of bools or of floats in [0, 1]; or a list of "
        "one for each prompt. Grey is painted with that strength, and laid over what "
        "was there with that opacity.",
        label="Mask",
        tasks=("inpaint",),
        flag=Flag(metavar="FILE"),
        group=IN,
    )
    prompt: str | Sequence[str] | Any = asked(
        Prompts(encoded=True),
        help="what to paint",
        text="What to paint; a list gives `batch_size` pictures of each. Weights, "
        "editing and `AND` are read as `kerasdiffusion.prompts` says; a text without "
        "brackets, colons, backslashes, `AND` and `BREAK` is just text, of any length. "
        "Without a picture to begin with, also what `encode_text` gives.",
        tasks=OF_PROMPTS,
        texts={
            "upscale": 'What is in it; `""` will do.',
            **dict.fromkeys(
                WALKS,
                "What to pass, in this order: a list of prompts as `text_to_image` "
                "takes them, or one.",
            ),
        },
        flag=None,
    )
    instruction: str | Sequence[str] | None = asked(
        Prompts(),
        help="changes --image as told, in place of PROMPT; for InstructPix2Pix models",
        text='What to do, `"make it snow"`; one or a list.',
        tasks=("edit",),
        flag=Flag(metavar="TEXT"),
        group=IN,
    )
    encoded_text: Any = asked(
        Array("what `encode_text` gives; `text_to_image` takes prompts"),
        help="what `encode_text` gave",
        text="What `encode_text` gave, of shape `(tokens, width)` or `(prompts, "
        "tokens, width)`.",
        tasks=("generate_image",),
        flag=None,
    )
    negative_prompt: str | Sequence[str] | Any = asked(
        Prompts(encoded=True),
        help="what to keep away from",
        text="What to keep away from: one for all prompts, or one each.",
        texts=dict.fromkeys(
            WALKS,
            "What to keep away from: one for all prompts, or one each, between which "
            "the walk goes too.",
        ),
        flag=Flag(metavar="TEXT"),
        group=WHAT,
    )
    batch_size: int = asked(
        Whole(1, 4096),
        1,
        help="pictures of each prompt (default: 1)",
        text="Pictures of each prompt, 1 or more.",
        texts={
            "generate_image": "Pictures of one prompt; with several prompts, as many "
            "or 1.",
            **dict.fromkeys(
                WALKS,
                "Frames that are painted at once, 1 or more. The last batch is filled "
                "up, so that all are of one size.",
            ),
        },
        flag=Flag(metavar="N"),
        group=WHAT,
    )
    num_steps: int | None = asked(
        Whole(1, 1000),
        help="denoising steps",
        text="Denoising steps, from 1 to 1000; the preset's by default.",
        label="Steps",
        flag=Flag("steps", metavar="N"),
        group=WHAT,
    )
    unconditional_guidance_scale: float | None = asked(
        Number(),
        help="how strongly the prompt guides; 1 is not at all",
        text="How strongly the prompt guides; 1 is not at all and takes half the time. "
        "The preset's by default.",
        label="CFG scale",
        texts={"edit": "How strongly the instruction guides; the preset's by default."},
        flag=Flag("guidance_scale", metavar="X"),
        group=WHAT,
    )
    diffusion_noise: Any = asked(
        Array("noise of the latents' shape"),
        help="noise to begin with instead of the seed's",
        text="Noise to begin with instead of the seed's: unit normal, of shape "
        "`(height / 8, width / 8, 4)`, or with a batch before it.",
        tasks=("generate_image",),
        flag=None,
    )
    seed: int | Sequence[int] | None = asked(
        Seed(),
        help="the first picture's seed; each next one has the next (default: random)",
        text="Seed of the first picture, from 0 to 2**64 - 1; the next have the next. "
        "Or a list of one for each picture. By default, and with -1, it is random: "
        "drawn from Python's `random`, which `keras.utils.set_random_seed` seeds.",
        label="Seed",
        texts={
            "interpolate": "A seed for all frames, or a list of those to pass; random "
            "by default.",
            "circular_walk": "The first noise's seed, the second has the next; or a "
            "list of both; random by default.",
        },
        flag=Flag(metavar="N"),
        group=WHAT,
    )
    pooled_text: Any = asked(
        Array("what `encode_pooled` gives"),
        help="what `encode_pooled` gave",
        text="What `encode_pooled` gave, for a model that takes it.",
        tasks=("generate_image",),
        flag=None,
    )
    depth: Any = asked(
        Picture(),
        help="keeps the depth of --image: a map of it, or `auto` to estimate one; for "
        "depth models, as --preset sd2-depth",
        text="A depth map, high (white) where something is near: a path, a PIL image "
        "or an array `(height, width)` of any range and size, see "
        "`depth_maps.read_depths`; or a list of them, one for each picture. Each is "
        "brought to [-1, 1].",
        label="Depth",
        tasks=("depth_to_image",),
        flag=Flag(metavar="FILE|auto"),
        group=IN,
    )
    depth_estimator: Callable | None = asked(
        Kind(),
        help="what makes the map where there is none",
        text="What makes the map where there is none: a function of a uint8 picture "
        "`(height, width, 3)`, or a KerasHub `DepthEstimator`. By default KerasHub's "
        'DepthAnything V2, small (`pip install ".[depth]"` in a checkout), which '
        "fetches its weights at its first use.",
        tasks=("depth_to_image",),
        flag=None,
    )
    left: int = asked(
        PIXELS,
        0,
        help="pixels that are added at the left",
        text="Pixels that are added at the left, 0 or more; also more than the picture "
        "has. One side at least gets some.",
        tasks=("outpaint",),
        flag=None,
    )
    right: int = asked(
        PIXELS, 0, help="The same at the right.", tasks=("outpaint",), flag=None
    )
    top: int = asked(
        PIXELS, 0, help="The same at the top.", tasks=("outpaint",), flag=None
    )
    bottom: int = asked(
        PIXELS, 0, help="The same at the bottom.", tasks=("outpaint",), flag=None
    )
    overlap: int | None = asked(
        Whole(1, LARGEST, "a whole number of pixels"),
        help="pixels of what is there that --outpaint goes on from, a window at a time "
        "(default: half a window)",
        text="Pixels of each window that are there already, 1 or more and less than "
        "the model's size, which it goes on from; by default the half.",
        label="Overlap",
        tasks=("outpaint",),
        flag=Flag(metavar="N"),
        group=IN,
    )
    image_guidance_scale: float = asked(
        Number(0.0),
        1.5,
        help="how strongly --image guides beside --instruction (default: 1.5)",
        text="How strongly the picture does, 0 or more: from 1.0 to 2.5 for most; more "
        "keeps more of it. Outside of `guidance_interval`, both scales are divided by "
        "the instruction's.",
        label="Image CFG scale",
        tasks=("edit",),
        flag=Flag(metavar="X"),
        group=IN,
    )
    noise_level: int = asked(
        Whole(0, 999),
        20,
        help="noise that --upscale puts on --image first (default: 20)",
        text="How much noise the small picture is given, from 0 to 350: more leaves "
        "more to the model. Drawn from the seeds.",
        label="Noise level",
        tasks=("upscale",),
        flag=Flag(metavar="N"),
        group=IN,
    )
    strength: float | None = asked(
        SHARE,
        help="how much is painted anew, 0 to 1 (default: 0.8; with --mask and "
        "--outpaint 1)",
        text=_STRENGTH,
        label="Denoising strength",
        tasks=("image_to_image", *_INPAINTED, "depth_to_image"),
        defaults={
            "image_to_image": 0.8,
            "depth_to_image": 0.8,
            **dict.fromkeys(_INPAINTED, 1.0),
        },
        texts={
            "inpaint": "How much of the masked part is painted anew, from 0 to 1, as "
            "in `image_to_image`. At 1 nothing of what was there shines through.",
            "outpaint": "As in `inpaint`. Below 1 what is painted begins with the "
            "nearest given pixels, repeated.",
        },
        flag=Flag(metavar="S"),
        group=IN,
    )
    feather: int = asked(
        Whole(0, WIDEST, "a whole number of pixels"),
        0,
        help="pixels beyond --mask over which the new fades into the old (default: 0)",
        text="Pixels outside the mask, 0 to 512, over which the new picture fades into "
        "the old one. With 0 nothing outside the mask changes.",
        label="Feather",
        tasks=_INPAINTED,
        texts={
            "outpaint": "Pixels over which a window fades into what was there, as in "
            "`inpaint`; with 0 the given pixels do not change.",
        },
        flag=Flag(metavar="N"),
        group=IN,
    )
    padding: int | None = asked(
        PIXELS,
        help="paints only what is up to so many pixels from --mask, at the model's own "
        "size",
        text="Paints only the mask's surroundings, up to that many pixels from it, at "
        "the model's own size, and lays them back scaled: a small part of a large "
        "picture gets the detail that the model can give. Their ratio is the model's "
        "where the picture is large enough. By default the picture is painted as a "
        "whole. Pictures to follow (`control`) have the picture's own height and width "
        "and are cut and scaled in the same way.",
        label="Padding",
        tasks=("inpaint",),
        flag=Flag(metavar="N"),
        group=IN,
    )
    frames: int | None = asked(
        Whole(1, 100_000),
        help="pictures",
        text="How many pictures, 1 or more. The first and the last prompt are a frame "
        "each; those between are where `frames - 1` is a multiple of the number of "
        "ways.",
        tasks=WALKS,
        defaults={"interpolate": 24, "circular_walk": 60},
        texts={"circular_walk": "How many pictures, 1 or more."},
        label="Frames",
        flag=Flag(metavar="N"),
        group=WAY,
    )
    closed: bool = asked(
        Switch(),
        False,
        help="leads back to the first prompt and seed, for a film without end",
        text="Whether the way leads back to where it began. The last frame is then the "
        "one before the first.",
        label="Closed",
        tasks=("interpolate",),
        group=WAY,
    )
    text_path: str = asked(
        Choice(PATHS),
        "linear",
        help="how text is mixed (default: linear)",
        text='How texts are mixed: `"linear"` or `"spherical"` (each token\'s vector '
        "along a circle).",
        label="Text path",
        tasks=WALKS,
        group=WAY,
    )
    noise_path: str = asked(
        Choice(PATHS),
        "spherical",
        help="how noise is mixed (default: spherical)",
        text='How noise is mixed: `"spherical"` keeps it as strong as noise must be, '
        '`"linear"` does not and gives flat pictures half way.',
        label="Noise path",
        tasks=("interpolate",),
        group=WAY,
    )
