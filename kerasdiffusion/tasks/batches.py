"""Requests taken apart into single pictures, and those that go together in a batch."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kerasdiffusion.pictures.formats import open_image
from kerasdiffusion.pictures.read import size_of
from kerasdiffusion.prompts.chunks import chunks, power_of_two
from kerasdiffusion.prompts.schedule import schedule
from kerasdiffusion.prompts.syntax import Span, compose, parse_text
from kerasdiffusion.prompts.tags import split_tags
from kerasdiffusion.requests.control import Control
from kerasdiffusion.requests.kinds import as_list
from kerasdiffusion.requests.request import Request, fields_of
from kerasdiffusion.sampling.noise import resolve_seeds

#: What each picture of a batch has of its own.
_TEXTS = ("prompt", "instruction")
_BESIDE = ("negative_prompt", "prompt_2", "negative_prompt_2")
_PICTURES = ("image", "mask", "depth")
_SEEDS = ("seed", "variation_seed")
OWN = (*_TEXTS, *_BESIDE, *_PICTURES, *_SEEDS)
#: Tasks whose pictures belong together, or are no texts.
WHOLE = ("interpolate", "circular_walk", "generate_image")
# Marks by which a prompt says more than one text at all steps.
_MORE = re.compile(r"[\[<#|]|\bAND\b|\bBREAK\b")


def apart(request: Request) -> list[Request]:
    """A request as one for each of its pictures, in their order.

    Args:
        request: One with seeds, as `requests.text.seeded` gives it.

    Returns:
        Requests of one picture each: painted alone, they are the pictures of the whole,
        to the rounding of a batch. A walk is one request.

    Raises:
        ValueError: If there is not one seed for each picture.

    Example:

    >>> whole = Request(task="text_to_image", prompt=["a", "b"], batch_size=2, seed=7)
    >>> [(each.prompt, each.seed) for each in apart(whole)]
    [('a', 7), ('a', 8), ('b', 9), ('b', 10)]
    """
    if request.task in WHOLE:
        return [request]
    texts = request.instruction if request.prompt is None else request.prompt
    if hasattr(texts, "shape"):
        return [request]
    prompts, each = len(as_list(texts)), request.batch_size
    count = prompts * each
    if count == 1:
        return [request.replace(**{n: _one(getattr(request, n), 0, 1) for n in OWN})]
    same = request.variation_strength > 0.0 and not isinstance(request.seed, tuple)
    seeds = [request.seed] * count if same else resolve_seeds(request.seed, count)
    found = []
    for i in range(count):
        own = {
            name: _one(getattr(request, name), i // each, prompts)
            for name in (*_TEXTS, *_BESIDE, *_PICTURES)
        }
        own |= {"seed": seeds[i], "batch_size": 1}
        if request.variation_strength:
            own["variation_seed"] = resolve_seeds(request.variation_seed, count)[i]
        if request.control is not None:
            own["control"] = [_followed(one, i, count) for one in request.control]
        found.append(request.replace(**own))
    return found


def _one(value, i: int, count: int):
    """What is said to one of several."""
    if not isinstance(value, tuple):
        return value
    return value[i * len(value) // count] if len(value) > 1 else value[0]


def _followed(control: Control, i: int, count: int) -> Control:
    """A control with the picture that one result follows."""
    pictures = control.picture
    if not isinstance(pictures, (list, tuple)) or len(pictures) == 1:
        return control
    own = pictures[i * len(pictures) // count]
    return Control(
        control.network,
        own,
        control.scale,
        control.start,
        control.end,
        control.guess_mode,
    )


def likeness(model, request: Request) -> tuple | None:
    """What requests of one picture must have in common to be painted together.

    A batch then computes for each picture what it would alone: as many chunks of text,
    as many branches, the same table.

    Args:
        model: The `StableDiffusion`, or a `Sized` one.
        request: Of one picture, see `apart`.

    Returns:
        Something to compare; `None` for a request that goes alone.

    Raises:
        ValueError: If a prompt is over a limit.
    """
    texts = [getattr(request, name) for name in (*_TEXTS, *_BESIDE)]
    if request.task in WHOLE or any(hasattr(text, "shape") for text in texts):
        return None
    length = _length(model, request, [text for text in texts if text is not None])
    if request.control is not None or request.refiner is not None:
        return None
    said = [text for text in texts if text is not None and _MORE.search(text)]
    if said and request.prompt_weighting != "none":
        said = texts  # what changes on the way does so for all alike
    shared = {
        name: value
        for name, value in request.given().items()
        if name not in OWN and name not in ("callback", "progress_bar")
    }
    given = tuple(getattr(request, name) is None for name in (*_BESIDE, *_PICTURES))
    shapes = tuple(_size(getattr(request, name)) for name in _PICTURES)
    size = model.img_height, model.img_width
    return request.task, size, length, given, shapes, tuple(said), repr(shared)


def _length(model, request: Request, texts: Sequence[str]) -> int:
    """The most chunks that any text of a request has."""
    literal, most = request.prompt_weighting == "none", 0
    for text in texts:
        parts = [text]
        if not literal:
            composed = compose(split_tags(text)[0])
            stages = [schedule(part.text, 8) for part in composed]
            parts = [stage.text for each in stages for stage in each]
        for part in parts:
            spans = [Span(part, 1.0)] if literal else parse_text(part)
            most = max(most, len(chunks(spans, model.tokenizer)))
    return most


def _size(picture):
    if picture is None:
        return None
    if isinstance(picture, str):
        return open_image(picture, size_of)
    if hasattr(picture, "shape"):
        return tuple(picture.shape[:2])
    return picture.size[::-1]


def together(requests: Sequence[Request]) -> Request:
    """One request of what several ask for: a picture of each, in their order.

    Args:
        requests: Of one picture each, all of the same `likeness`.

    Example:

    >>> some = Request(task="text_to_image", prompt=["a", "b"], seed=7)
    >>> both = together(apart(some))
    >>> both.prompt, both.seed
    (('a', 'b'), (7, 8))
    """
    first = requests[0]
    if len(requests) == 1:
        return first
    own = {}
    for name in fields_of(first.task):
        values = [getattr(each, name) for each in requests]
        if name not in OWN or all(value is None for value in values):
            continue
        if name in _PICTURES and all(value is values[0] for value in values):
            continue
        if name in _BESIDE and all(value == values[0] for value in values):
            continue
        own[name] = tuple(values)
    return first.replace(**own)


def filled_up(requests: Sequence[Request]) -> Request:
    """The same, of a power of two pictures: few sizes mean few compiled programs.

    The last is painted again as often as need be; these pictures, behind the others,
    are left.

    Args:
        requests: As of `together`.

    Example:

    >>> some = [Request(task="text_to_image", prompt="a", seed=i) for i in range(3)]
    >>> filled_up(some).seed
    (0, 1, 2, 2)
    """
    requests = list(requests)
    more = power_of_two(len(requests)) - len(requests)
    return together(requests + requests[-1:] * more)
