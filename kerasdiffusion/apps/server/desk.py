"""Where all faces hand in what is asked, whatever API it came by."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator

from kerasdiffusion.adapters.tags import KINDS
from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.models import Models
from kerasdiffusion.apps.server.pictures import check_pixels
from kerasdiffusion.apps.server.queue import Queue
from kerasdiffusion.apps.server.work import Client, Job, Piece
from kerasdiffusion.networks.room import least_bytes
from kerasdiffusion.pictures.read import read_pictures
from kerasdiffusion.prompts.tags import split_tags
from kerasdiffusion.requests.kinds import as_list
from kerasdiffusion.requests.request import Request
from kerasdiffusion.requests.text import described, seeded
from kerasdiffusion.storage.bounds import BOUNDS, shown
from kerasdiffusion.tasks.batches import apart, likeness
from kerasdiffusion.tasks.sized import Sized

#: Fields in which prompts are that may name adapters.
_PROMPTS = ("prompt", "instruction", "prompt_2", "negative_prompt", "negative_prompt_2")


class Desk:
    """Checks what is asked against the model, and has it wait.

    Args:
        models: The `Models`.
        queue: The `Queue`.
        took: Called with each job that is taken in.
    """

    def __init__(
        self,
        models: Models,
        queue: Queue,
        took: Callable[[Job], None] = lambda job: None,
    ):
        self.models, self.queue, self._took = models, queue, took

    def hand_in(
        self,
        request: Request,
        client: Client,
        model: str | None = None,
        size: tuple[int, int] | None = None,
        api: str = "jobs",
    ) -> Job:
        """A request, checked, with seeds, and waiting.

        Args:
            request: What is asked; what it names is looked up here.
            client: Who asks.
            model: By name; the default one if not given.
            size: Height and width, of a task that takes no picture; the model's by
                default.
            api: Which API it came by, for the counts.

        Returns:
            A `Job` in the queue.

        Raises:
            Refused: If it cannot be done; nothing is left of it.
        """
        name = self.models.find(model)
        with refusing(self.models):
            request = seeded(request)
            found_here = self._looked_up(request)
            view = found = self.models.get(name)
            if size is not None:
                check_pixels(*size, "size")
                view = Sized(found, *size)
            self._check_counts(request)
            own = self._size_of(view, request)
            check_pixels(*request.final_size(own), "size")
            job = Job(request, name, client, size, api)
            steps = 0
            for i, each in enumerate(apart(found_here)):
                plan = view.plan(each)
                cost = max(1, plan.num_steps) * own[0] * own[1]
                if each.is_larger:
                    cost = _cost_of_two(each, plan.num_steps, own)
                if each.task in ("interpolate", "circular_walk"):
                    cost *= each.frames
                like = likeness(view, each)
                like = None if like is None else (name, size, like)
                final = each.final_size(own)
                least, pixels = least_bytes(found.config, final, 1), math.prod(final)
                job.pieces.append(Piece(job, i, each, like, cost, least, pixels))
                steps += max(1, plan.num_steps)
            job.steps = steps
        self.queue.put(job)
        self._took(job)
        return job

    def described(self, job: Job) -> list[dict]:
        """What the text of each picture of a job says."""
        model = self.models.get(job.model)
        pictures = job.pictures
        size = pictures[0].shape[:2] if pictures else (0, 0)
        own = job.size or (model.img_height, model.img_width)
        size = job.request.told_size(size, own)
        if job.request.task in ("interpolate", "circular_walk"):
            return [{}] * len(pictures)
        found = described(job.request, model.config.generation, size, job.model)
        for each in found:
            # (In a batch of the server others may lie beside it.)
            for word in ("Batch size", "Batch pos", "Batch prompts"):
                each.pop(word, None)
        return found[: len(pictures)]

    def _looked_up(self, request: Request) -> Request:
        """The same, where adapters and networks are files of this server's folders."""
        found = {}
        # The folder is looked through once, however many are named.
        known = functools.cache(self.models.adapter_files)
        named = len(request.adapters or ())
        _check_adapters(named)
        if request.adapters:
            found["adapters"] = [
                (self.models.adapter(source, known()), *weights)
                for source, *weights in request.adapters
            ]
        if request.control:
            found["control"] = [
                type(each)(
                    self.models.control(str(each.network)),
                    each.picture,
                    each.scale,
                    each.start,
                    each.end,
                    each.guess_mode,
                )
                for each in request.control
            ]
        if request.refiner is not None:
            name = self.models.find(request.refiner)
            found["refiner"] = self.models.get(name)
        if request.prompt_weighting != "none":
            for name in _PROMPTS:
                for text in as_list(getattr(request, name)):
                    if isinstance(text, str):
                        named += self._check_tags(text, name, known)
            _check_adapters(named)
        return request.replace(**found) if found else request

    def _check_tags(self, text: str, name: str, known: Callable) -> int:
        """That what a prompt names between < and > is here; how many there are."""
        if "<" not in text or len(text) > BOUNDS["prompt_characters"].most:
            return 0
        tags = split_tags(text)[1]
        for tag in tags:
            if tag.kind not in KINDS:
                raise Refused(
                    422,
                    f"A tag in `{name}` must name an adapter, <lora:NAME:WEIGHT>. "
                    f"Received: {shown(str(tag))}",
                    name,
                )
            if name.startswith("negative"):
                continue  # (there it is text, as in the web UI)
            self.models.adapter(tag.name, known())
        return len(tags)

    def _check_counts(self, request: Request) -> None:
        """That no request alone is more than a server may do."""
        texts = request.instruction if request.prompt is None else request.prompt
        count = len(as_list(texts)) * request.batch_size
        if request.frames is not None:
            count = request.frames
        most = BOUNDS["server_pictures"].most
        if count > most:
            raise Refused(
                422,
                f"A request must be for at most {most} pictures. Received: {count}",
                "batch_size",
            )

    def _size_of(self, view, request: Request) -> tuple[int, int]:
        """Height and width of what is painted."""
        if request.image is None:
            return view.img_height, view.img_width
        images = as_list(request.image)
        for each in images:
            height, width = _sides(each)
            check_pixels(height, width, "image")
        height, width = _sides(images[0])
        if request.task == "outpaint":
            height += request.top + request.bottom
            width += request.left + request.right
        if request.task == "upscale":
            height, width = 4 * height, 4 * width
        return height, width


def _check_adapters(count: int) -> None:
    """That a request does not hold up the device with adapters without end."""
    most = BOUNDS["server_adapters"].most
    if count > most:
        raise Refused(
            422,
            f"A request must name at most {most} adapters. Received: {count}",
            "adapters",
        )


@contextlib.contextmanager
def refusing(models: Models | None = None) -> Iterator[None]:
    """Has what a request's own checks raise refused, with the rule as it is stated."""
    try:
        yield
    except Refused:
        raise
    except MemoryError as error:
        raise Refused(422, str(error) or "There must be enough memory.") from None
    except (ValueError, TypeError) as error:
        message = str(error)
        if models is not None:
            message = models.without_places(message)
        raise Refused(422, message, _field_in(message)) from None


def _field_in(message: str) -> str | None:
    """The field that a message begins with."""
    if message.startswith("`"):
        return message[1:].partition("`")[0]
    return None


def _sides(picture) -> tuple[int, int]:
    if hasattr(picture, "shape") and len(picture.shape) in (2, 3):
        return int(picture.shape[0]), int(picture.shape[1])
    if hasattr(picture, "size") and not hasattr(picture, "shape"):
        return picture.size[1], picture.size[0]
    return read_pictures(picture)[0].shape[:2]


def seconds(value: float) -> float:
    """Seconds as JSON has them."""
    return round(value, 3) if math.isfinite(value) else 0.0


def _cost_of_two(request: Request, steps: int, size: tuple[int, int]) -> float:
    """How much of the device two passes of different sizes take."""
    later = min(request.hires_steps or steps // 2, steps)
    height, width = request.final_size(size)
    return (steps - later) * size[0] * size[1] + later * height * width
