"""How a picture was made, as other programs say it in JSON: a table of their names.

A row says where a program's text stands, what it calls the arguments of
`generation_parameters.format_parameters`, and which of its values change no picture.
Whatever else is there comes out under its own name, so that it can be named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from kerasdiffusion.pictures.program_names import (
    DRAW_THINGS,
    EASY,
    EASY_LABELS,
    FOOOCUS,
    INVOKE,
    INVOKE_2,
    NOVEL,
    SWARM,
    Names,
)
from kerasdiffusion.storage.reading import parse_json

#: Those whose pictures are read, as a message names them.
PROGRAMS = (
    *("AUTOMATIC1111's web UI", "ComfyUI", "SwarmUI", "Fooocus", "InvokeAI"),
    *("NovelAI", "Draw Things", "Easy Diffusion"),
)
_STRINGS = ("prompt", "negative_prompt", "sampler", "schedule_type", "model", "version")
_EMPTY = (None, "", "None", False)


def translated(values: Mapping, names: Names, version: object = None) -> dict:
    """A program's values by our names.

    Args:
        values: As the program has them.
        names: What it calls them.
        version: Its version, where it does not stand in `values`.

    Returns:
        Arguments of `format_parameters`; what has no such name keeps its own.
    """
    found = {"prompt": "", "negative_prompt": ""}
    for name, value in values.items():
        neutral = names.neutral.get(name, _EMPTY)
        neutral = neutral if isinstance(neutral, tuple) else (neutral,)
        ours = names.known.get(name)
        if name in names.harmless or name == names.version:
            continue
        if any(value is each or value == each for each in (*neutral, None)):
            if ours not in ("prompt", "negative_prompt"):
                continue
        if isinstance(value, (list, dict)) and not value:
            continue
        if ours in _STRINGS and value is not None:
            found[ours] = value if isinstance(value, str) else _written(value)
        elif ours == "size":
            size = re.fullmatch(r"(\d{1,6})x(\d{1,6})", str(value))
            if size:
                found["width"], found["height"] = int(size[1]), int(size[2])
            else:
                found[name] = _written(value)
        elif ours:
            found[ours] = number_of(value)
        elif value not in _EMPTY:
            # A name of ours would be taken for what it is here.
            own = name if name not in ("size", "model_hash", *found) else f"its {name}"
            found[own] = _written(value)
    version = values.get(names.version) if names.version else version
    said = str(version or "").removeprefix(names.program).strip(" v")
    found["version"] = f"{names.program} {said}".strip()
    return found


def number_of(value):
    """A number that may be written as text; anything else as it is, on one line."""
    if isinstance(value, str) and len(value) < 40:
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    return _written(value)


def _written(value) -> str | int | float:
    """A value on one line."""
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return value
    return json.dumps(value, ensure_ascii=False)


def parse_json_parameters(text: str) -> dict | None:
    """Reads the JSON that stands where the web UI has its text.

    Args:
        text: The text of `parameters` or of a comment.

    Returns:
        As `translated`; `None` if the text is no JSON object.

    Raises:
        ValueError: If it is an object of no known program.
    """
    start = text.lstrip()
    if not start.startswith("{") or not text.rstrip().endswith("}"):
        return None
    try:
        values = parse_json(text, "a picture's text")
    except ValueError:
        if re.match(r'\{\s*"', start):
            raise
        return None  # A prompt may begin with a bracket.
    for marks, read in _BY_MARKS:
        if all(mark in values for mark in marks):
            return read(values)
    raise ValueError(
        "A picture's JSON must be that of a known program "
        f"({', '.join(PROGRAMS)}). Received: an object of "
        f"{', '.join(map(repr, list(values)[:8]))}"
    )


def _swarm(values: Mapping) -> dict:
    params = _object(values, "sui_image_params")
    extra = values.get("sui_extra_data")
    params = {**(extra if isinstance(extra, dict) else {}), **params}
    found = translated({"sampler": "euler", "scheduler": "normal"} | params, SWARM)
    layer = found.pop("clipstopatlayer", None)
    if isinstance(layer, int) and layer < 0:
        found["clip_skip"] = -layer
    return found


def _fooocus(values: Mapping) -> dict:
    size = re.fullmatch(r"\D*(\d{1,6})\D+(\d{1,6})\D*", str(values.get("resolution")))
    rest = {name: value for name, value in values.items() if name != "resolution"}
    if rest.get("refiner_model") in (None, "None"):
        rest.pop("refiner_switch", None)
    found = translated(rest, FOOOCUS)
    if size:
        found["width"], found["height"] = int(size[1]), int(size[2])
    return found


def invoke(values: Mapping) -> dict:
    """InvokeAI from version 3 on: the values of `invokeai_metadata`, by our names."""
    values = dict(values)
    model = values.pop("model", None)
    skip = values.get("clip_skip")
    found = translated(values, INVOKE)
    if isinstance(model, Mapping):
        name = model.get("model_name") or model.get("name")
        found |= {"model": str(name)} if name else {}
    elif model:
        found["model"] = _written(model)
    if isinstance(skip, int) and skip > 0:
        found["clip_skip"] = skip + 1  # of the layers, how many are left out
    if values.get("rand_device", "cpu") != "cpu":
        found["rand_device"] = _written(values["rand_device"])
    return found


def invoke_2(values: Mapping) -> dict:
    """InvokeAI 2: the values of `sd-metadata`, by our names."""
    image = dict(_object(values, "image"))
    texts = image.pop("prompt", "")
    texts = texts if isinstance(texts, list) else [texts]
    texts = [each if isinstance(each, Mapping) else {"prompt": each} for each in texts]
    found = translated(image, INVOKE_2, values.get("app_version"))
    found |= _with_brackets(" ".join(str(each.get("prompt", "")) for each in texts))
    if len(texts) > 1 or any(each.get("weight", 1) != 1 for each in texts):
        found["prompt weights"] = _written([each.get("weight", 1) for each in texts])
    for name, ours in (("model_weights", "model"), ("model_hash", "model_hash")):
        if values.get(name):
            found[ours] = str(values[name])
    return found


def dream(text: str) -> dict:
    """InvokeAI 1 and 2: its command line, `"a prompt [negative]" -s 50 ...`."""
    match = re.fullmatch(r'\s*"(.*)"((?:\s+-.*)?)\s*', text, re.S)
    if not match:
        raise ValueError(
            f"A `Dream` must be a prompt in quotes. Received: {text[:80]!r}"
        )
    names = dict(zip("sSWHCAf", _DREAM, strict=True))
    values = {}
    for flag, value in re.findall(
        r"\s-{1,2}([A-Za-z_]\w*)((?:\s+(?!-[A-Za-z])\S+)*)", match[2]
    ):
        values[names.get(flag, f"-{flag}")] = value.strip() or True
    return translated(values, INVOKE_2) | _with_brackets(match[1])


_FLAG = re.compile(r"\s-{1,2}([A-Za-z_]\w*)((?:\s+(?!-[A-Za-z])\S+)*)")
_DREAM = ("steps", "seed", "width", "height", "cfg_scale", "sampler", "strength")


def _with_brackets(text: str) -> dict:
    """Version 2 of InvokeAI has the negative prompt in brackets within the prompt."""
    negative = " ".join(re.findall(r"\[(.*?)\]", text))
    prompt = re.sub(" +", " ", re.sub(r"\[.*?\]", " ", text)).strip()
    return {"prompt": prompt, "negative_prompt": negative}


def novel(values: Mapping) -> dict:
    """NovelAI: its chunks, by our names."""
    comment = values.get("Comment")
    if isinstance(comment, str):
        comment = parse_json(comment, "NovelAI's comment")
    if not isinstance(comment, Mapping):
        raise ValueError("NovelAI's `Comment` must be a JSON object. Received: none")
    said = {"prompt": values.get("Description"), **comment}
    for name, ours in (("v4_prompt", "prompt"), ("v4_negative_prompt", "uc")):
        caption = said.get(name)
        caption = caption.get("caption") if isinstance(caption, Mapping) else None
        if isinstance(caption, Mapping) and not caption.get("char_captions"):
            if caption.get("base_caption") == said.get(ours):
                said.pop(name)  # the same once more
    found = translated(said, NOVEL)
    if values.get("Source"):
        found["model"] = str(values["Source"])
    return found


def _draw_things(values: Mapping) -> dict:
    found = translated(values, DRAW_THINGS)
    rng = {"Torch CPU Compatible": "CPU", "Nvidia GPU Compatible": "NV"}
    if found.get("seed_mode") in rng:
        found["RNG"] = rng[found.pop("seed_mode")]
    return found


def easy(values: Mapping) -> dict:
    """Easy Diffusion: its values, by our names or those it writes for people."""
    values = {EASY_LABELS.get(name, name): value for name, value in values.items()}
    found = translated(values, EASY)
    if str(found.pop("clip_skip", None)).lower() == "true":
        found["clip_skip"] = 2
    if "model" in found:  # a path of whatever system
        found["model"] = re.split(r"[\\/]", str(found["model"]))[-1]
    return found


def _object(values: Mapping, name: str) -> Mapping:
    if not isinstance(values.get(name), Mapping):
        raise ValueError(
            f"`{name}` must be a JSON object. Received: {values.get(name)!r}"
        )
    return values[name]


# The names by which an object is known, and its reader.
_BY_MARKS: tuple[tuple[tuple[str, ...], Callable], ...] = (
    (("sui_image_params",), _swarm),
    (("base_model", "guidance_scale", "prompt"), _fooocus),
    (("positive_prompt", "cfg_scale"), invoke),
    (("image", "app_id"), invoke_2),
    (("c", "uc"), _draw_things),
    (("num_inference_steps", "use_stable_diffusion_model"), easy),
    (("Comment", "Software"), novel),
)
