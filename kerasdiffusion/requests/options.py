"""The keywords that all tasks share, in one place."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kerasdiffusion.requests.signatures import check_arguments
from kerasdiffusion.sampling.driver import Step

Numbers = Sequence[float] | Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the pictures of a call are made, whatever the task.

    Args:
        sampler: A name in `SAMPLERS`, or what other programs call it; the preset's by
            default.
        spacing: How the steps are spaced: `"leading"`, `"trailing"`, `"linspace"`,
            `"karras"` or another of `SPACINGS`; the sampler's own by default.
        timesteps: In place of `num_steps`, the training steps that the steps start
            from: falling numbers from 0 to 999.
        sigmas: In place of `num_steps`, the noise levels that the steps start from:
            falling numbers above 0.
        eta: Noise that is added anew, for samplers that take it: 0 or more.
        s_churn: Noise that Euler, Heun and DPM2 add ahead of each step: 0 or more.
        s_noise: What fresh noise is multiplied by: 0 or more.
        rng: Whose noise a seed stands for: `"numpy"`, the library's own; `"torch"`,
            PyTorch's on a CPU, as in diffusers; `"torch-cuda"`, PyTorch's on a GPU, as
            in AUTOMATIC1111's web UI, and `"webui-cpu"`, its noise with the source
            CPU; `"comfy"`, ComfyUI's on a GPU, `"comfy-gpu"`, the same for its samplers
            that end in `_gpu`, and `"comfy-cpu"`, its noise on a CPU. Where samplers of
            these programs begin otherwise or round no timestep, so they do here.
        variation_seed: A second seed, 0 to 2**64 - 1, or one for each picture; by
            default random. All pictures of a batch then have the same first one.
        variation_strength: How far the noise goes to the second seed's, 0 to 1.
        clip_skip: Where the text encoder is left: 1 behind its last layer, 2 behind the
            one before, as A1111 counts; the model's own by default.
        prompt_weighting: What weights in prompts do: `"a1111"` scales vectors and keeps
            their mean, `"compel"` draws them away from the empty prompt. Both read the
            language of `kerasdiffusion.prompts`; with `"none"` a prompt is plain text.
        prompt_2: What SDXL's second text encoder reads; the prompt by default.
        negative_prompt_2: What it reads for the negative prompt; that by default.
        original_size: Height and width in pixels that SDXL is told a picture had before
            it was scaled; the size of the pictures by default.
        crop: Pixels that SDXL is told were cut off at the top and at the left.
        target_size: Height and width that SDXL is told a picture has; the size of the
            pictures by default.
        aesthetic_score: How beautiful SDXL's refiner is told a picture is, 1 to 10.
        negative_aesthetic_score: The same for the negative prompt.
        refiner: A `StableDiffusion` of the same latents that takes the last steps.
        refiner_start: The share of the noise levels after which it does, over 0 and
            under 1.
        adapters: `(file, weight)`, or a list of them: LoRA and its kin that are used in
            this call beside the model's own, see `load_adapter`. A third number is the
            text encoders' weight.
        control: A `Control(network, picture)`, or a list of them: pictures that the
            result follows, their edges, depth or a pose (ControlNet, T2I-Adapter).
        callback: Called with a `Step` after each step. If it returns `False`, the run
            stops there, and the picture is as noisy as it then was.
        progress_bar: Whether a run of more than some seconds shows a bar.
        guidance_rescale: How far the guided prediction's contrast is drawn back to the
            prompt's own, from 0 to 1 (phi of Lin et al. 2024; 0.7 there).
        guidance_interval: `(low, high)`: noise levels, as sigmas, outside of which
            nothing guides (Kynkäänniemi et al. 2024).
        dynamic_thresholding: `(mimic_scale, percentile)`: brings latents into the range
            that the lower guidance scale gives them; what is beyond the percentile
            (from 0 to 1; 1 by default) is cut. As the extension of that name does it.
        apg: `(eta, norm_threshold, momentum)` of adaptive projected guidance (Sadat
            et al. 2024), which takes large scales; `True` is `(0, 7.5, -0.75)`, the
            paper's for SD 2.1. A norm threshold of 0 bounds nothing.
        pag_scale: Scale of perturbed-attention guidance (Ahn et al. 2024), 3 for
            example; 0 is none. Half as much time again; alone, twice.
        pag_applied_layers: The self-attention that it perturbs: `"mid"`, `"down"`,
            `"up"`, diffusers' name of a block or layer, or a list of them.
        sag_scale: Scale of self-attention guidance (Hong et al. 2022), 0.75 for
            example; 0 is none. Half as much time again; alone, twice.
        freeu: FreeU's factors (Si et al. 2023) `(b1, b2, s1, s2)`, of the backbone and
            of the skips, in the two coarsest blocks; `(1.5, 1.6, 0.9, 0.2)` for SD 1.
        deep_cache: Every how many steps the whole U-Net runs; in the others the outer
            layers alone, on the inner ones' features of before (DeepCache, Ma et al.
            2023), 3 for example. With `(interval, branch)` the layers as far out as the
            skip of that number; 0, the first, by default. All calls of a step (Heun's
            two) are alike.
        merge_tokens: The share of the pixels that self-attention at its finest level
            merges into others that are like them (ToMe, Bolya and Hoffman 2023): from
            0, which is none, to 0.75.

    What takes several numbers also takes a dict of them by these names.
    """

    sampler: str | None = None
    spacing: str | None = None
    timesteps: Sequence[float] | None = None
    sigmas: Sequence[float] | None = None
    eta: float | None = None
    s_churn: float | None = None
    s_noise: float | None = None
    rng: str = "numpy"
    variation_seed: int | Sequence[int] | None = None
    variation_strength: float = 0.0
    clip_skip: int | None = None
    prompt_weighting: str = "a1111"
    prompt_2: str | Sequence[str] | None = None
    negative_prompt_2: str | Sequence[str] | None = None
    original_size: tuple[int, int] | None = None
    crop: tuple[int, int] = (0, 0)
    target_size: tuple[int, int] | None = None
    aesthetic_score: float = 6.0
    negative_aesthetic_score: float = 2.5
    refiner: object = None
    refiner_start: float = 0.8
    adapters: object = None
    control: object = None
    callback: Callable[[Step], bool | None] | None = None
    progress_bar: bool = True
    guidance_rescale: float = 0.0
    guidance_interval: Numbers | None = None
    dynamic_thresholding: Numbers | None = None
    apg: Numbers | bool | None = None
    pag_scale: float = 0.0
    pag_applied_layers: str | Sequence[str] = "mid"
    sag_scale: float = 0.0
    freeu: Numbers | None = None
    deep_cache: int | Numbers | None = None
    merge_tokens: float = 0.0


def takes_options(task: Callable) -> Callable:
    """Gives a method the fields of `Options` as keywords; it is handed an `Options`.

    They stand in its signature and in its documentation as if written there.
    """
    own = inspect.signature(task)
    fields = {field.name: field for field in dataclasses.fields(Options)}

    @functools.wraps(task)
    def method(*args, **keywords):
        chosen = {name: keywords.pop(name) for name in fields if name in keywords}
        for name in keywords:
            if name not in own.parameters or name == "options":
                raise TypeError(
                    _unknown(task.__name__, name, [*own.parameters, *fields])
                )
        options = Options(**chosen)
        asking = getattr(args[0] if args else None, "_asking", None)
        with asking(options.adapters) if asking else contextlib.nullcontext():
            return task(*args, **keywords, options=options)

    parameters = [each for each in own.parameters.values() if each.name != "options"]
    shared = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=field.type,
        )
        for name, field in fields.items()
    ]
    method.__signature__ = own.replace(parameters=parameters + shared)
    return method


def check_keywords(function: Callable, keywords: Mapping) -> None:
    """That a function takes keywords; a `TypeError` with near matches if not."""
    if isinstance(function, type):
        check_arguments(function, (), keywords)
        return
    known = list(inspect.signature(function).parameters)
    for name in keywords:
        if name not in known:
            raise TypeError(_unknown(function.__name__, name, known))


def _unknown(task: str, name: str, known: list[str]) -> str:
    known = [each for each in known if each not in ("self", "options")]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"`{task}` takes {', '.join(known)}.{hint} Received: {name!r}"
