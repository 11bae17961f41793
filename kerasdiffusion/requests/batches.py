"""Pictures of one request that are painted or laid out together, in their texts.

Rounding is the batch's own: a picture of a batch is painted again among the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from kerasdiffusion.requests.kinds import Whole, as_list
from kerasdiffusion.requests.request import FIELDS
from kerasdiffusion.storage.reading import parse_json

#: Where in a batch a picture was, by the web UI's words.
BATCH, POSITION, PROMPTS = "Batch size", "Batch pos", "Batch prompts"
#: Seeds that do not follow each other, by the field.
SEEDS = {"seed": "Batch seeds", "variation_seed": "Batch variation seeds"}
#: What a picture of several says: columns and rows.
GRID = "Grid"
#: What a walk passes, by the field.
PASSED = {
    "prompt": "Prompts",
    "negative_prompt": "Negative prompts",
    "prompt_2": "Prompts 2",
    "negative_prompt_2": "Negative prompts 2",
}
FRAMES = FIELDS["frames"].asked.label


def told(request, texts: Sequence[str], position: int) -> dict:
    """What the text of a picture says of the others of its batch.

    Args:
        request: A `Request` with seeds, of several pictures.
        texts: Its prompts.
        position: The picture's number, from 0.
    """
    found = {BATCH: request.batch_size, POSITION: position}
    if len(texts) > 1:
        found[PROMPTS] = json.dumps(list(texts), ensure_ascii=False)
    for name, label in SEEDS.items():
        if isinstance(getattr(request, name), tuple):
            found[label] = FIELDS[name].asked.kind.write(getattr(request, name))
    return found


def of_grid(texts: Sequence[Mapping], columns: int) -> dict:
    """The text of a picture of all, side by side: the first one's, without its place.

    Args:
        texts: What each picture's text says, as `text.described` gives them.
        columns: Pictures in a row.
    """
    found = {name: value for name, value in texts[0].items() if name != POSITION}
    if len(texts) > 1:
        found[GRID] = f"{columns}x{-(-len(texts) // columns)}"
    return found


def of_walk(request) -> dict:
    """What the text of a walk says beside what its frames have in common."""
    found = {FRAMES: request.frames}
    if request.batch_size > 1:
        found[BATCH] = request.batch_size
    if request.variation_seed is not None:
        own = FIELDS["variation_seed"].asked
        found[own.label] = own.kind.write(request.variation_seed)
    for name, label in PASSED.items():
        texts, own = as_list(getattr(request, name)), FIELDS[name].asked.label
        if len(texts) > 1:
            found[label] = json.dumps(texts, ensure_ascii=False)
        elif own and texts[0] is not None:
            found[own] = texts[0]
    return found


def batch_in(parameters: Mapping) -> tuple[dict, int | None] | None:
    """The batch that a picture was painted in, and where in it.

    Args:
        parameters: As in `text.fields_in`; with a seed.

    Returns:
        Fields of the request of the whole batch, and the picture's number among its
        pictures, `None` of a grid, which shows all; or `None` where it was alone.

    Raises:
        ValueError: If the text does not say so rightly.
    """
    is_grid = GRID in parameters and BATCH in parameters
    if not (is_grid or POSITION in parameters) or "seed" not in parameters:
        return None
    position = 0 if is_grid else Whole(0).read(str(parameters[POSITION]))
    prompts = _texts(parameters, PROMPTS)
    prompts = [parameters["prompt"]] if prompts is None else prompts
    fields = {
        "prompt": FIELDS["prompt"].check(prompts, PROMPTS),
        "batch_size": FIELDS["batch_size"].asked.kind.read(str(parameters[BATCH])),
    }
    if position >= len(prompts) * fields["batch_size"]:
        raise ValueError(f"{POSITION!r} must be in the batch. Received: {position}")
    name = "variation_seed" if "Variation seed" in parameters else "seed"
    for each, label in SEEDS.items():
        if label in parameters:
            fields[each] = FIELDS[each].asked.kind.read(str(parameters[label]))
    if name not in fields:
        word = FIELDS[name].asked.label if name == "variation_seed" else name
        first = FIELDS[name].asked.kind.read(str(parameters[word]))
        if not isinstance(first, int) or first < position:
            raise ValueError(
                f"{POSITION!r} must be less than the seed. Received: {first}"
            )
        fields[name] = first - position
    return fields, None if is_grid else position


def walk_in(parameters: Mapping) -> dict:
    """The fields of a walk's request that `text.fields_in` does not read.

    Raises:
        ValueError: If one is none that its field takes.
    """
    found = {"prompt": (parameters["prompt"],)}
    if parameters.get("negative_prompt"):
        found["negative_prompt"] = parameters["negative_prompt"]
    for name, label in PASSED.items():
        texts = _texts(parameters, label)
        if texts is not None:
            found[name] = FIELDS[name].check(texts, label)
    if BATCH in parameters:
        kind = FIELDS["batch_size"].asked.kind
        found["batch_size"] = kind.read(str(parameters[BATCH]))
    return found


def labels() -> set[str]:
    """What is read here of a text."""
    return {BATCH, POSITION, PROMPTS, GRID, *SEEDS.values(), *PASSED.values()}


def _texts(parameters: Mapping, label: str) -> list | None:
    if label not in parameters:
        return None
    return parse_json(str(parameters[label]), label)
