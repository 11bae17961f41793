"""Painting for a tab: handing in, how it goes, and what came of it."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator, Mapping

from starlette.concurrency import run_in_threadpool

from kerasdiffusion.apps.page.asking import Asking, asking
from kerasdiffusion.apps.page.handed import Handed
from kerasdiffusion.apps.page.sessions import API, Session, Shown
from kerasdiffusion.apps.server.core import Core, Watching
from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.jobs import record
from kerasdiffusion.apps.server.pictures import encoded, to_base64
from kerasdiffusion.apps.server.work import DONE, QUEUED, Job
from kerasdiffusion.pictures.formats import open_image
from kerasdiffusion.pictures.read import size_of

#: Seconds between looks at how it goes, at least and at most.
SOONEST, LATEST = 0.25, 1.0
#: Seconds within which a picture is written.
_WRITTEN = 30.0
#: Pictures that a tab's gallery shows.
MOST_SHOWN = 60


class Painting:
    """Hands in what a tab asks for, and tells how it goes.

    Args:
        core: The server's parts.
        handed: Where files for browsers are.
    """

    def __init__(self, core: Core, handed: Handed):
        self.core, self.handed = core, handed

    def ask(self, session: Session, values: Mapping) -> Job:
        """A job of what widgets say, in the queue with those of all other clients.

        Raises:
            Refused: If it cannot be done.
        """
        return self.hand_in(session, asking(values, self.core.models))

    def hand_in(self, session: Session, asked: Asking) -> Job:
        """A job of a tab; its pictures are kept when it ends."""
        job = self.core.desk.hand_in(
            asked.request, session.client, asked.model, asked.size, API
        )
        self.core.keep(job, lambda job: record(self.core, job))
        session.jobs.append(job)
        return job

    async def follow(self, session: Session, jobs: list[Job]) -> AsyncIterator[str]:
        """How a tab's jobs go, as HTML, until some have ended."""
        for job in jobs:
            async with Watching(job) as changes:
                while not job.has_ended:
                    yield await run_in_threadpool(self.told, session)
                    await asyncio.sleep(SOONEST)
                    if not job.has_ended:
                        await changes.next(LATEST)

    async def finish(self, session: Session, jobs: list[Job]) -> list[str]:
        """Has a tab show what came of jobs.

        Returns:
            What went wrong, a sentence each.
        """
        problems = []
        for job in jobs:
            if job in session.jobs:
                session.jobs.remove(job)
            if job.error is not None:
                problems.append(job.error[1])
            if job.state == DONE and job.pictures:
                try:
                    session.shown[:0] = await self.kept(job)
                    session.chosen = 0
                except Refused as error:
                    problems.append(error.message)
        del session.shown[MOST_SHOWN:]
        return list(dict.fromkeys(problems))

    async def kept(self, job: Job) -> list[Shown]:
        """The pictures of a job that is done, when they are written.

        Raises:
            Refused: If they cannot be written.
        """
        for _ in range(int(_WRITTEN / 0.05)):
            found = self.core.kept.get(job.id)
            if found is not None:
                return await run_in_threadpool(self.shown, found)
            if job.is_lost:
                break
            await asyncio.sleep(0.05)
        raise Refused(
            507,
            "The picture cannot be written: is the disk full? As long as the server "
            f"runs it is at /jobs/{job.id}/pictures/0.",
        )

    def shown(self, kept: Mapping) -> list[Shown]:
        """The pictures of a kept record."""
        found = []
        for number, text in enumerate(kept["parameters"]):
            path = self.core.kept.picture(kept["id"], number)
            if path is not None:
                size = open_image(path, size_of)
                found.append(Shown(kept["id"], number, path, text, size))
        return found

    def gallery(self, shown: list[Shown]) -> list[tuple[str, str]]:
        """What a gallery is given: files as they were kept, and a line under each."""
        return [(self.handed.picture(x.path, x.text), caption(x)) for x in shown]

    def told(self, session: Session) -> str:
        """How a tab's jobs go: the one that is painted, and the others' places."""
        jobs = [job for job in session.jobs if not job.has_ended]
        if not jobs:
            return ""
        jobs.sort(key=lambda job: job.state == QUEUED)
        first, *others = jobs
        look = first.preview()
        picture = '<div class="kd-blank"></div>'
        if look is not None:
            source = f"data:image/png;base64,{to_base64(encoded(look))}"
            picture = f'<img alt="What is being painted" src="{source}">'
        lines = [self._line(first)]
        lines += [f"then {self._line(job)}" for job in others[:5]]
        lines += [f"and {len(others) - 5} more"] * (len(others) > 5)
        text = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
        bar = f'<div class="kd-bar"><i style="width:{first.progress:.1%}"></i></div>'
        return f'<div class="kd-now" role="status">{picture}{bar}{text}</div>'

    def _line(self, job: Job) -> str:
        left = self.core.queue.seconds_left(job)
        about = f", about {waited(left)} left" if left > 0.5 else ""
        what = what_of(job.request)
        if job.state == QUEUED:
            ahead = self.core.queue.position(job)
            where = f"{ahead} ahead" if ahead else "next"
            return f"{what}: waits, {where}{about}"
        return f"{what}: step {int(job.step)} of {job.steps}{about}"


def what_of(request) -> str:
    """A request in few words."""
    text = request.instruction or request.prompt
    text = text[0] if isinstance(text, tuple) else str(text or "")
    short = text if len(text) <= 60 else f"{text[:57]}..."
    return short or request.task.replace("_", " ")


def waited(seconds: float) -> str:
    """Seconds as people say them.

    Example:

    >>> waited(75.0)
    '1 min 15 s'
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{max(1, seconds)} s"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes} min {rest} s" if minutes < 10 else f"{minutes} min"


def caption(shown: Shown) -> str:
    """The line under a picture."""
    height, width = shown.size
    return f"seed {shown.text.get('seed')}, {width}x{height}"


def problem(messages: list[str]) -> str:
    """What went wrong, as HTML."""
    lines = "".join(f"<p>{html.escape(each)}</p>" for each in messages)
    return f'<div class="kd-problem" role="alert">{lines}</div>' if lines else ""


def seed_of(job: Job) -> str:
    """The first seed of a job."""
    seed = job.request.seed
    return str(seed[0] if isinstance(seed, tuple) else seed)
