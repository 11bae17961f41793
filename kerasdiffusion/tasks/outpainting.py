"""Pictures that go on beyond their edges: `outpaint`."""

from __future__ import annotations

from operator import itemgetter
from typing import NamedTuple

import numpy as np

from kerasdiffusion.pictures.read import LARGEST
from kerasdiffusion.pictures.regions import (
    Box,
    canvas_for,
    feathered,
    filled,
    laid,
    outward,
)
from kerasdiffusion.requests.kinds import Whole
from kerasdiffusion.tasks.image_to_image import Start, begin, read_asked
from kerasdiffusion.tasks.inpainting import (
    alike,
    check_takes_masks,
    following,
    paint_in,
)
from kerasdiffusion.tasks.plan import Painting, Plan


class Window(NamedTuple):
    """A part of the canvas that is painted at once.

    Args:
        box: Where it is.
        there: What is there already: bool of the box's height and width.
    """

    box: Box
    there: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """What is painted: 1 in place of `there`'s false."""
        return 1.0 - self.there.astype(np.float32)


def plan(model, request) -> Plan:
    """What `outpaint` does, see `tasks.plan.Plan`."""
    asked = read_asked(model, request)
    names = "left", "right", "top", "bottom"
    sides = {name: getattr(request, name) for name in names}
    if not any(sides.values()):
        raise ValueError(
            "One of `left`, `right`, `top` and `bottom` must be 1 or more. "
            "Received: 0 for all"
        )
    multiple = model.config.autoencoder.downsampling
    canvas, given, wanted = canvas_for(asked.size, sides, multiple)
    if max(wanted.size) > LARGEST:
        raise ValueError(
            f"The sides of the result must be at most {LARGEST} pixels. "
            f"Received: height={wanted.size[0]}, width={wanted.size[1]}"
        )
    window = min(model.img_height, canvas[0]), min(model.img_width, canvas[1])
    step = _outward_step(model, window, request.overlap)
    feather = request.feather
    check_takes_masks(model.config, "outpaint")
    start = begin(model, request, asked, size=wanted.size, seen=window)
    more = [(0, 0), *wanted.margins(canvas), (0, 0)]
    start = following(start, lambda followed: np.pad(followed, more, mode="edge"))
    windows = windows_of(canvas, given, window, step)

    def paint(run) -> Painting:
        canvases = np.zeros((asked.count, *canvas, 3), np.uint8)
        for each, picture in alike(canvases, asked.pictures):
            each[given.inside] = picture
        for number, there in enumerate(windows):
            near = another(start, number)
            yield from paint_window(model, near, canvases, there, feather)
            if run.stopped:
                break
        return canvases[(slice(None), *wanted.inside)]

    num_steps = start.num_steps * len(windows)
    return Plan(model, request, start.settings, num_steps, paint)


def windows_of(canvas, given: Box, window, step) -> list[Window]:
    """Windows from a picture outward, over what is not there yet.

    Args:
        canvas: Height and width.
        given: Where the picture is.
        window: Height and width of each window.
        step: Rows and columns that a window adds.
    """
    known, windows = np.zeros(canvas, bool), []
    known[given.inside] = True
    for box in outward(canvas, given, window, step):
        there = known[box.inside].copy()
        if not there.all():
            windows.append(Window(box, there))
        known[box.inside] = True
    return windows


def paint_window(model, start: Start, canvases, window: Window, feather: int):
    """Paints a window on each canvas, in place; it gives loops as `Painting` does."""
    inside = (slice(None), *window.box.inside)
    parts = [filled(each, window.there) for each in canvases[inside]]
    near = following(start, itemgetter(inside))
    new = yield from paint_in(model, near, parts, [window.mask])
    height, width = window.there.shape
    cover, whole = feathered(window.mask, feather), Box(0, height, 0, width)
    canvases[inside] = [
        laid(part, each, cover, whole) for part, each in zip(parts, new, strict=True)
    ]


def another(start: Start, number: int) -> Start:
    """The same prompts and settings, other noise: 0 has the seeds' own."""
    if number == 0:
        return start

    def mixed(seeds):
        return seeds and [
            int(np.random.SeedSequence([seed, number]).generate_state(1, "uint64")[0])
            for seed in seeds
        ]

    settings = start.settings
    return start._replace(
        settings=settings._replace(
            seeds=mixed(settings.seeds),
            variation_seeds=mixed(settings.variation_seeds),
        )
    )


def _outward_step(model, window, overlap) -> tuple[int, int]:
    """Rows and columns that a window adds, whole latents."""
    least = min(model.img_height, model.img_width)
    if overlap is not None:
        Whole(1, least - 1, "a whole number of pixels").check(overlap, "overlap")
    multiple = model.config.autoencoder.downsampling
    height, width = (
        max(multiple, (side - (overlap or side // 2)) // multiple * multiple)
        for side in window
    )
    return height, width
