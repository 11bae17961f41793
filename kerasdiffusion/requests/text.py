"""A request as the text that pictures carry, and the request in such a text.

The labels are those of the fields; what AUTOMATIC1111's web UI knows has its words.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping
from pathlib import Path

from kerasdiffusion._version import __version__
from kerasdiffusion.adapters.tags import lora_hashes
from kerasdiffusion.requests import batches
from kerasdiffusion.requests.control import TOLD
from kerasdiffusion.requests.kinds import as_list
from kerasdiffusion.requests.request import FIELDS, Request
from kerasdiffusion.requests.web_ui_names import SCHEDULE_TYPES, WEB_UI_NAMES
from kerasdiffusion.sampling.names import find_sampler
from kerasdiffusion.sampling.noise import resolve_seeds
from kerasdiffusion.weights.fingerprint import of_file

OURS = "kerasdiffusion"
#: What `format_parameters` calls some fields; the others go by their labels.
WORDS = {
    "num_steps": "steps",
    "unconditional_guidance_scale": "guidance_scale",
    "seed": "seed",
    "strength": "strength",
    "hires_strength": "strength",
    "clip_skip": "clip_skip",
    "sampler": "sampler",
}
#: The web UI's word for the files that adapters were in.
LORA_HASHES = "Lora hashes"
#: What an empty negative prompt is written as.
EMPTY_NEGATIVE = "Empty negative prompt"
#: The web UI's words for whose noise a seed stands for.
RNGS = {"torch": "CPU", "torch-cuda": "NV"}
_SPACINGS = {label: spacing for spacing, label in SCHEDULE_TYPES.items()}
SIDES = ("left", "right", "top", "bottom")
#: Most letters of a file's hash that are written.
_SHORT = 10


def seeded(request: Request) -> Request:
    """The same request with seeds drawn where it has none: one that can be written."""
    drawn = {}
    if request.seed is None:
        # Short enough to read out, also behind the largest batch.
        drawn["seed"] = random.randrange(2**32 - 2**24)
    if request.variation_strength and request.variation_seed is None:
        drawn["variation_seed"] = random.randrange(2**32 - 2**24)
    return request.replace(**drawn) if drawn else request


def described(
    request: Request, generation, size: tuple[int, int], model: str
) -> list[dict]:
    """What the text of each picture of a request says.

    Args:
        request: One with seeds, see `seeded`.
        generation: The `GenerationConfig` of the model, for what is not given.
        size: Height and width of the pictures.
        model: What the model is called.

    Returns:
        For each picture the arguments of `pictures.write.save_png`'s parameters:
        painted with them, among as many, it is the same again.
    """
    texts = as_list(_listed(request.instruction or request.prompt))
    count = len(texts) * request.batch_size
    same = request.variation_strength > 0.0 and not isinstance(request.seed, tuple)
    seeds = [request.seed] * count if same else resolve_seeds(request.seed, count)
    shared = _shared(request, generation)
    found = []
    for i in range(count):
        of, own = i // request.batch_size, dict(shared)
        for name in ("prompt_2", "negative_prompt_2"):
            if name in request.given():
                own[FIELDS[name].asked.label] = _pick(getattr(request, name), of)
        if request.variation_strength:
            variations = resolve_seeds(request.variation_seed, count)
            own[FIELDS["variation_seed"].asked.label] = variations[i]
        if count > 1:
            own |= batches.told(request, texts, i)
        found.append(
            {
                "prompt": texts[of],
                "negative_prompt": _pick(request.negative_prompt, of),
                "seed": seeds[i],
                "height": size[0],
                "width": size[1],
                "model": model,
                "version": f"{OURS} {__version__}",
                **_empty_negative(request, of),
                **own,
                **_pictures(request, of),
                **_hashes(request, texts[of]),
            }
        )
    return found


def described_walk(
    request: Request, generation, size: tuple[int, int], model: str
) -> dict:
    """What the text of a walk's animation says: its whole request.

    Args:
        request: As in `described`, of a walk.
        generation: As there.
        size: Height and width of the frames.
        model: What the model is called.
    """
    texts = as_list(request.prompt)
    return {
        "prompt": texts[0],
        "negative_prompt": _pick(request.negative_prompt, 0),
        "seed": FIELDS["seed"].asked.kind.write(request.seed),
        "height": size[0],
        "width": size[1],
        "model": model,
        "version": f"{OURS} {__version__}",
        **_empty_negative(request, 0),
        **_shared(request, generation),
        **batches.of_walk(request),
        **_hashes(request, " ".join(map(str, texts))),
    }


def _hashes(request: Request, prompt) -> dict:
    """Which files the names of adapters stood for."""
    found = lora_hashes(str(prompt), request.adapters)
    return {LORA_HASHES: found} if found else {}


def _empty_negative(request: Request, of: int) -> dict:
    """An empty negative prompt that is given: some models see zeros without one."""
    is_empty = _pick(request.negative_prompt, of) == ""
    return {EMPTY_NEGATIVE: "True"} if is_empty else {}


def _shared(request: Request, generation) -> dict:
    """What all pictures of a request have in common."""
    canonical = find_sampler(request.sampler or generation.sampler).name
    sampler, schedule_type = WEB_UI_NAMES[canonical]
    if request.spacing is not None:
        schedule_type = SCHEDULE_TYPES.get(request.spacing)
    own, scale = request.sigmas or request.timesteps or (), request.num_steps
    steps = len(own) or scale or generation.num_steps
    scale = request.unconditional_guidance_scale
    values = {
        "steps": steps,
        "sampler": sampler,
        "schedule_type": schedule_type,
        "guidance_scale": generation.guidance_scale if scale is None else scale,
    }
    if request.strength is not None:
        values["strength"] = request.strength
    if request.is_larger:
        values["strength"] = request.hires_strength
        values[FIELDS["hires_upscaler"].asked.label] = request.hires_upscaler
    if request.task != "text_to_image":
        values["Task"] = request.task
    for name, value in request.given().items():
        field, word = FIELDS[name], WORDS.get(name, FIELDS[name].asked.label)
        if word is None or word in values or name in _OF_EACH:
            continue
        if name == "spacing" and schedule_type is not None:
            continue
        text = field.asked.kind.write(value)
        values[word] = RNGS.get(text, text) if name == "rng" else text
    sides = [f"{side}={getattr(request, side)}" for side in SIDES]
    sides = [each for each in sides if not each.endswith("=0")]
    if request.task == "outpaint":
        values["Outpaint"] = ",".join(sides)
    for i, control in enumerate(request.control or (), 1):
        told = [
            f"{name}={getattr(control, name):g}"
            for name, default in TOLD.items()
            if getattr(control, name) != default
        ]
        told += ["guess_mode"] * control.guess_mode
        values[f"Control {i}"] = " ".join([str(control.network), *told])
        if isinstance(control.picture, str):
            values |= _file(f"Control {i} image", control.picture)
    return values


_OF_EACH = (
    *("seed", "variation_seed", "prompt_2", "negative_prompt_2"),
    *("image", "mask", "depth"),
)


def _pictures(request: Request, of: int) -> dict:
    """The files that a picture began with, and short hashes of them."""
    values = {}
    for name in ("image", "mask", "depth"):
        path = _pick(getattr(request, name), of)
        if isinstance(path, str):
            values |= _file(FIELDS[name].asked.label, path)
    return values


def _file(label: str, path: str) -> dict:
    if not Path(path).is_file():
        return {label: path}
    return {label: path, f"{label} hash": of_file(path)[:_SHORT]}


def _pick(value, of: int):
    """What is said to one of several prompts."""
    if not isinstance(value, tuple):
        return value
    return value[of] if len(value) > 1 else value[0]


def _listed(value):
    return list(value) if isinstance(value, tuple) else value


def is_ours(parameters: Mapping) -> bool:
    """Whether this library wrote a picture's text."""
    return str(parameters.get("version", "")).startswith(OURS)


def fields_in(parameters: Mapping, where: str = "a picture") -> dict:
    """The fields of a request in a text that this library wrote.

    Args:
        parameters: What `pictures.metadata.read_parameters` gives.
        where: Whose, for messages.

    Returns:
        The arguments of `Request` but the task, the prompts, the sides of `outpaint`
        and the controls, as far as they are given.

    Raises:
        ValueError: If a value is none that its field takes.
    """
    found, task = {}, parameters.get("Task", "text_to_image")
    for name, field in FIELDS.items():
        word = WORDS.get(name, field.asked.label)
        if word is None or word not in parameters:
            continue
        if word == "strength" and task not in field.asked.tasks:
            continue  # of a picture painted over, or of a second pass
        text = str(parameters[word])
        if name == "rng":
            text = {word: rng for rng, word in RNGS.items()}.get(text, text)
        try:
            found[name] = field.asked.kind.read(text)
        except ValueError as error:
            raise ValueError(f"{word!r} in {where} {error}") from None
    spacing = _SPACINGS.get(str(parameters.get("schedule_type", "")))
    joined = f"{found.get('sampler')}_{spacing}"
    if "spacing" not in found and joined in WEB_UI_NAMES:
        found["sampler"] = joined
    elif spacing is not None:
        found.setdefault("spacing", spacing)
    _check_hashes(parameters, found.get("adapters"), where)
    if EMPTY_NEGATIVE in parameters:
        found["negative_prompt"] = ""
    if "sigmas" in found or "timesteps" in found:
        found.pop("num_steps", None)
    return found


def _check_hashes(parameters: Mapping, adapters, where: str) -> None:
    """Warns where an adapter's name is another file here than it was there."""
    there = str(parameters.get(LORA_HASHES, ""))
    here = lora_hashes(str(parameters.get("prompt", "")), adapters)
    pairs = [each.rpartition(": ") for each in there.split(", ") if ": " in each]
    known = dict(each.rsplit(": ", 1) for each in here.split(", ") if ": " in each)
    others = [name for name, _, own in pairs if known.get(name, own) != own]
    if others:
        warnings.warn(
            "Adapters must be the files that the picture was painted with; the picture "
            f"may differ. Received: another file as {', '.join(others)} in {where}",
            UserWarning,
            stacklevel=3,
        )


def labels() -> set[str]:
    """What `fields_in` reads of a text."""
    words = {WORDS.get(name, each.asked.label) for name, each in FIELDS.items()}
    return words - {None} | {EMPTY_NEGATIVE, LORA_HASHES}
