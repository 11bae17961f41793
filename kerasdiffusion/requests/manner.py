"""Fields of a request: how it is painted: steps, noise, guidance, cheaper steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kerasdiffusion.requests.fields import Flag, asked
from kerasdiffusion.requests.kinds import SHARE, Choice, Layers, Name, Number
from kerasdiffusion.requests.objects import Seed
from kerasdiffusion.requests.several import Numbers, Series, Size
from kerasdiffusion.requests.subject import LARGEST
from kerasdiffusion.requests.web_ui_names import ALONE

Several = Sequence[float] | Mapping[str, float]
STEPS, GUIDANCE, CHEAPER = "steps and noise", "guidance", "cheaper steps"
#: Whose noise a seed may stand for; `sampling.noise.RNGS` is the same, with numpy.
RNGS = ("numpy", "torch", "torch-cuda", "webui-cpu", "comfy", "comfy-gpu", "comfy-cpu")
#: Of a square of two by two tokens one stays.
MOST_MERGED = 0.75
ANY = (-math.inf, math.inf)
FROM_0, ONE = (0.0, math.inf), (0.0, 1.0)
#: Of the steps, where calls may be left out.
PART, MIDDLE = {"start": ONE, "end": ONE}, {"start": 0.15, "end": 0.95}


@dataclass(frozen=True, kw_only=True, eq=False)
class Manner:
    """How it is painted."""

    sampler: str | None = asked(
        Name("kerasdiffusion.sampling.names:find_sampler"),
        help=f"one of {', '.join(ALONE)}, most also with _karras or _exponential "
        "behind; or what other programs call it",
        text="A name in `SAMPLERS`, or what other programs call it; the preset's by "
        "default.",
        label="Sampler",
        flag=Flag(metavar="NAME"),
        group=STEPS,
    )
    spacing: str | None = asked(
        Name("kerasdiffusion.sampling.spacings:find_spacing"),
        help="how the steps are spaced: karras, trailing, sgm_uniform and others "
        "(default: the sampler's own)",
        text='How the steps are spaced: `"leading"`, `"trailing"`, `"linspace"`, '
        '`"karras"` or another of `SPACINGS`; the sampler\'s own by default.',
        label="Spacing",
        flag=Flag(metavar="NAME"),
        group=STEPS,
    )
    timesteps: Sequence[float] | None = asked(
        Series(),
        help="in place of --steps: training steps, falling numbers from 999 to 0",
        text="In place of `num_steps`, the training steps that the steps start from: "
        "falling numbers from 0 to 999.",
        label="Timesteps",
        flag=Flag(metavar="T,T,..."),
        group=STEPS,
    )
    sigmas: Sequence[float] | None = asked(
        Series(),
        help="in place of --steps: noise levels, falling numbers above 0",
        text="In place of `num_steps`, the noise levels that the steps start from: "
        "falling numbers above 0.",
        label="Sigmas",
        flag=Flag(metavar="S,S,..."),
        group=STEPS,
    )
    eta: float | None = asked(
        Number(),
        help="fresh noise, for samplers that take it: 0 is none",
        text="Noise that is added anew, for samplers that take it: 0 or more.",
        label="Eta",
        flag=Flag(metavar="X"),
        group=STEPS,
    )
    s_churn: float | None = asked(
        Number(),
        help="noise ahead of steps, for some samplers",
        text="Noise that Euler, Heun and DPM2 add ahead of each step: 0 or more.",
        label="Sigma churn",
        flag=Flag(metavar="X"),
        group=STEPS,
    )
    s_noise: float | None = asked(
        Number(),
        help="what fresh noise is multiplied by",
        text="What fresh noise is multiplied by: 0 or more.",
        label="Sigma noise",
        flag=Flag(metavar="X"),
        group=STEPS,
    )
    rng: str = asked(
        Choice(RNGS),
        "numpy",
        help="whose noise a seed stands for: this library's, diffusers' and ComfyUI's, "
        "or the web UI's (default: numpy)",
        text='Whose noise a seed stands for: `"numpy"`, the library\'s own; '
        '`"torch"`, PyTorch\'s on a CPU, as in diffusers; `"torch-cuda"`, PyTorch\'s '
        'on a GPU, as in AUTOMATIC1111\'s web UI, and `"webui-cpu"`, its noise with '
        'the source CPU; `"comfy"`, ComfyUI\'s on a GPU, `"comfy-gpu"`, the same for '
        'its samplers that end in `_gpu`, and `"comfy-cpu"`, its noise on a CPU. Where '
        "samplers of these programs begin otherwise or round no timestep, so they do "
        "here.",
        label="RNG",
        flag=Flag(choices=RNGS[:3]),
        group=STEPS,
    )
    variation_seed: int | Sequence[int] | None = asked(
        Seed(),
        help="a seed to go towards",
        text="A second seed, 0 to 2**64 - 1, or one for each picture; by default "
        "random. All pictures of a batch then have the same first one.",
        label="Variation seed",
        flag=Flag(metavar="N"),
        group=STEPS,
    )
    variation_strength: float = asked(
        SHARE,
        0.0,
        help="how far to go towards it, 0 to 1",
        text="How far the noise goes to the second seed's, 0 to 1.",
        label="Variation seed strength",
        flag=Flag(metavar="X"),
        group=STEPS,
    )
    seed_resize_from: Sequence[int] | None = asked(
        Size(most=LARGEST),
        help="the size whose noise lies in the middle, as 512x512: much of what the "
        "seed gives at that size stays",
        text="Height and width in pixels, at most 8192 each. The noise that the seed "
        "has at that size lies in the middle of its own, so that the picture is like "
        "the one of that size; as in AUTOMATIC1111's web UI.",
        label="Seed resize from",
        flag=Flag(metavar="WxH"),
        group=STEPS,
    )
    guidance_rescale: float = asked(
        SHARE,
        0.0,
        help="draws contrast back to the prompt's own, 0 to 1 (Lin et al. 2024)",
        text="How far the guided prediction's contrast is drawn back to the prompt's "
        "own, from 0 to 1 (phi of Lin et al. 2024; 0.7 there).",
        label="Guidance rescale",
        flag=Flag(metavar="X"),
        group=GUIDANCE,
    )
    guidance_interval: Several | None = asked(
        Numbers(
            {"low": FROM_0, "high": FROM_0},
            {"low": 0.0, "high": math.inf},
            rule=("be (low, high) with low <= high", lambda low, high: low <= high),
        ),
        help="guides only at these noise levels, as sigmas (Kynkäänniemi et al. 2024)",
        text="`(low, high)`: noise levels, as sigmas, outside of which nothing guides "
        "(Kynkäänniemi et al. 2024).",
        label="Guidance interval",
        flag=Flag(metavar="LOW,HIGH"),
        group=GUIDANCE,
    )
    dynamic_thresholding: Several | None = asked(
        Numbers({"mimic_scale": FROM_0, "percentile": (0.0, 1.0)}, {"percentile": 1.0}),
        help="the range of this lower guidance scale; what is beyond the share is cut",
        text="`(mimic_scale, percentile)`: brings latents into the range that the "
        "lower guidance scale gives them; what is beyond the percentile (from 0 to 1; "
        "1 by default) is cut. As the extension of that name does it.",
        label="Dynamic thresholding",
        flag=Flag(metavar="SCALE[,SHARE]"),
        group=GUIDANCE,
    )
    apg: Several | bool | None = asked(
        Numbers(
            {"eta": ANY, "norm_threshold": FROM_0, "momentum": (-1.0, 1.0)},
            {"eta": 0.0, "norm_threshold": 7.5, "momentum": -0.75},
            short=True,
        ),
        help="adaptive projected guidance, for large scales: 0,7.5,-0.75 as in Sadat "
        "et al. 2024",
        text="`(eta, norm_threshold, momentum)` of adaptive projected guidance (Sadat "
        "et al. 2024), which takes large scales; `True` is `(0, 7.5, -0.75)`, the "
        "paper's for SD 2.1. A norm threshold of 0 bounds nothing.",
        label="APG",
        flag=Flag(metavar="ETA[,NORM[,MOMENTUM]]"),
        group=GUIDANCE,
    )
    pag_scale: float = asked(
        Number(0.0),
        0.0,
        help="perturbed-attention guidance, 3 for example (Ahn et al. 2024)",
        text="Scale of perturbed-attention guidance (Ahn et al. 2024), 3 for example; "
        "0 is none. Half as much time again; alone, twice.",
        label="PAG scale",
        flag=Flag(metavar="X"),
        group=GUIDANCE,
    )
    pag_applied_layers: str | Sequence[str] = asked(
        Layers(),
        "mid",
        help="the self-attention that it perturbs: mid, down, up or a layer (default: "
        "mid)",
        text='The self-attention that it perturbs: `"mid"`, `"down"`, `"up"`, '
        "diffusers' name of a block or layer, or a list of them.",
        label="PAG layers",
        flag=Flag(metavar="NAME,..."),
        group=GUIDANCE,
    )
    sag_scale: float = asked(
        Number(0.0),
        0.0,
        help="self-attention guidance, 0.75 for example (Hong et al. 2022)",
        text="Scale of self-attention guidance (Hong et al. 2022), 0.75 for example; 0 "
        "is none. Half as much time again; alone, twice.",
        label="SAG scale",
        flag=Flag(metavar="X"),
        group=GUIDANCE,
    )
    freeu: Several | None = asked(
        Numbers(dict.fromkeys(("b1", "b2", "s1", "s2"), ANY)),
        help="FreeU's factors (Si et al. 2023), 1.5,1.6,0.9,0.2 for SD 1",
        text="FreeU's factors (Si et al. 2023) `(b1, b2, s1, s2)`, of the backbone and "
        "of the skips, in the two coarsest blocks; `(1.5, 1.6, 0.9, 0.2)` for SD 1.",
        label="FreeU",
        flag=Flag(metavar="B1,B2,S1,S2"),
        group=GUIDANCE,
    )
    deep_cache: int | Several | None = asked(
        Numbers(
            {"interval": (1, math.inf), "branch": FROM_0},
            {"branch": 0},
            alone=True,
            whole=True,
        ),
        help="runs the whole U-Net in every N-th step, its outer layers alone in the "
        "others (DeepCache, Ma et al. 2023)",
        text="Every how many steps the whole U-Net runs; in the others the outer "
        "layers alone, on the inner ones' features of before (DeepCache, Ma et al. "
        "2023), 3 for example. With `(interval, branch)` the layers as far out as the "
        "skip of that number; 0, the first, by default. All calls of a step (Heun's "
        "two) are alike.",
        label="DeepCache",
        flag=Flag(metavar="N[,BRANCH]"),
        group=CHEAPER,
    )
    ucache: float | Several | bool | None = asked(
        Numbers(
            {"threshold": FROM_0, **PART, "decay": ONE, "relative": ONE, "reset": ONE},
            {"threshold": 1.0, **MIDDLE, "decay": 1.0, "relative": 1.0, "reset": 1.0},
            short=True,
            alone=True,
            rule=(
                "have start < end, and relative and reset of 0 or 1",
                lambda _, start, end, __, *switches: (
                    start < end and set(switches) <= {0.0, 1.0}
                ),
            ),
        ),
        help="leaves out U-Net calls until the estimated error reaches the threshold, "
        "1 for example (UCache of stable-diffusion.cpp)",
        text="`(threshold, start, end, decay, relative, reset)`, or the first alone: "
        "leaves out U-Net calls for as long as the estimated change of the prediction "
        "adds up to less than the threshold (UCache of stable-diffusion.cpp); from the "
        "shares `start` to `end` of the steps. `decay` multiplies the error in each "
        "step, `relative` (0 or 1) measures it by the prediction's size, `reset` (0 or "
        "1) forgets it at each computed step. Each picture is judged by itself, and a "
        "call is left out where all of a batch do without. `True` is `(1, 0.15, 0.95, "
        "1, 1, 1)`; a threshold of 0 leaves out none.",
        label="UCache",
        flag=Flag(metavar="T[,START,END,...]"),
        group=CHEAPER,
    )
    easy_cache: float | Several | bool | None = asked(
        Numbers(
            {"threshold": FROM_0, **PART},
            {"threshold": 0.2, **MIDDLE},
            short=True,
            alone=True,
            rule=("have start < end", lambda _, start, end: start < end),
        ),
        help="the same by a plainer estimate, 0.2 for example (EasyCache, Zhou et al. "
        "2025)",
        text="`(threshold, start, end)`, or the first alone: the same by a plainer "
        "estimate, which is measured by the prediction's size alone and grows with no "
        "step left out (EasyCache, Zhou et al. 2025). `True` is `(0.2, 0.15, 0.95)`.",
        label="EasyCache",
        flag=Flag(metavar="T[,START,END]"),
        group=CHEAPER,
    )
    noise_cache: int | Several | None = asked(
        Numbers(
            {"interval": (1.0, math.inf), **PART, "threshold": FROM_0},
            {"start": 0.0, "end": 1.0, "threshold": math.inf},
            alone=True,
            rule=(
                "have a whole interval, and start < end",
                lambda interval, start, end, _: (
                    start < end and interval == int(interval)
                ),
            ),
        ),
        help="runs the U-Net in every N-th step and takes the noise that it found "
        "again in the others (Ye et al. 2024)",
        text="Every how many steps the U-Net runs, 2 for example; in the others the "
        "noise that it found is taken again (as in AdaptiveDiffusion, Ye et al. 2024). "
        "With `(interval, start, end, threshold)` from the shares `start` to `end` of "
        "the steps, and for as long as UCache's estimate of the noise's change stays "
        "under the threshold, for each picture by itself. The first two steps and the "
        "last always run, and all calls of a step (Heun's two) are alike.",
        label="Noise cache",
        flag=Flag(metavar="N[,START,END[,T]]"),
        group=CHEAPER,
    )
    spectrum: Several | bool | None = asked(
        Numbers(
            {
                **{"w": ONE, "m": (1.0, 5.0), "lam": FROM_0, "window": (1.0, 1000.0)},
                **{"flex": FROM_0, "warmup": FROM_0, "stop": ONE},
            },
            {
                **{"w": 0.4, "m": 3.0, "lam": 1.0, "window": 2.0},
                **{"flex": 0.5, "warmup": 4.0, "stop": 0.9},
            },
            short=True,
            rule=(
                "have whole numbers for m, window and warmup",
                lambda _, m, __, window, ___, warmup, ____: all(
                    each == int(each) for each in (m, window, warmup)
                ),
            ),
        ),
        help="foretells steps from those before: 0.4,3,1,2,0.5,4,0.9 by default "
        "(Spectrum, Han et al. 2026)",
        text="`(w, m, lam, window, flex, warmup, stop)`: foretells what steps would "
        "give from those before (Spectrum, Han et al. 2026, in stable-diffusion.cpp's "
        "form): `w` of Chebyshev polynomials of degree `m`, fitted with a ridge of "
        "`lam`, the rest of a straight line. One of `window` steps is computed, and "
        "that grows by `flex` with each; so are all of the first `warmup` and those "
        "behind the share `stop`. `True` is `(0.4, 3, 1, 2, 0.5, 4, 0.9)`.",
        label="Spectrum",
        flag=Flag(metavar="W[,M,LAM,WINDOW,...]"),
        group=CHEAPER,
    )
    merge_tokens: float = asked(
        Number(0.0, MOST_MERGED),
        0.0,
        help="the share of pixels that self-attention merges, 0 to 0.75 (ToMe, Bolya "
        "and Hoffman 2023)",
        text="The share of the pixels that self-attention at its finest level merges "
        "into others that are like them (ToMe, Bolya and Hoffman 2023): from 0, which "
        "is none, to 0.75.",
        label="Token merging ratio",
        flag=Flag(metavar="X"),
        group=CHEAPER,
    )
