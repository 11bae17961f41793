"""The engine for clusters: an actor of Ray for each device, with the model read once.

Ray starts the actors and says when one has ended; what is done is the index's to say.
An actor that ends is replaced as soon as the cluster has room; its batches go to
whoever is there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kerasdiffusion.batch import environment
from kerasdiffusion.batch.engines import Lost
from kerasdiffusion.batch.grouping import Batch
from kerasdiffusion.batch.index import Run
from kerasdiffusion.batch.local import IN_HAND
from kerasdiffusion.batch.painter import same_model
from kerasdiffusion.batch.worker import Worker

#: Kinds of devices, by the name that Ray has for what a host offers.
KINDS = {"gpu": "GPU", "tpu": "TPU", "cpu": "CPU"}
#: How often an actor may end that has never begun.
TRIES = 3


def is_running() -> bool:
    """Whether this process has a cluster already."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


@dataclass(eq=False)
class _Actor:
    """An actor and what it has in hand."""

    handle: object
    kind: str
    in_hand: int = 0
    seen: set = field(default_factory=set)


class Cluster:
    """Has batches painted by the actors of a cluster.

    Args:
        make: As of `Worker`; it is sent to the actors.
        name: As there.
        run: As there; its folder is one that all hosts see.
        place: As there.
        devices: See `counts`.
        address: The cluster's; by default the one that this process or machine has,
            else a new one.
        options: Of `ray.init`, where there is none yet.

    Raises:
        ImportError: If Ray is not installed.
        ValueError: If the cluster has no such devices.
    """

    def __init__(
        self,
        make: Callable,
        name: str,
        run: Run,
        place,
        devices: str = "auto",
        address: str | None = None,
        options: Mapping | None = None,
    ):
        ray, self._is_ours = join(address, options)
        self._ray = ray
        self._arguments = environment.WithHidden(make), name, run, place
        self._starting, self._in_hand = {}, {}
        self._ready: list[_Actor] = []
        self._never, self._fingerprint = 0, None
        hosts = [each["Resources"] for each in ray.nodes() if each["Alive"]]
        self._kinds = counts(devices, hosts)
        self._cpus = cpus_of_each(self._kinds.get("cpu", 0), hosts)
        for kind, count in self._kinds.items():
            for _ in range(count):
                self._start(kind)

    def begin(self) -> dict[str, str]:
        """Waits for the first actor; returns the model's fingerprint."""
        while self._fingerprint is None:
            self.wait()
        return self._fingerprint

    @property
    def busy(self) -> int:
        """Batches that are in the hands of actors."""
        return len(self._in_hand)

    @property
    def has_room(self) -> bool:
        """Whether an actor takes another batch now."""
        return any(each.in_hand < IN_HAND for each in self._ready)

    def submit(self, batch: Batch) -> None:
        """Gives a batch to an actor: one that has painted its like, if one has room."""
        free = [each for each in self._ready if each.in_hand < IN_HAND]
        like = batch.likeness
        actor = min(free, key=lambda each: (each.in_hand, like not in each.seen))
        actor.in_hand += 1
        actor.seen.add(like)
        self._in_hand[actor.handle.work.remote(batch)] = batch, actor

    def wait(self) -> list[tuple[Batch, list[dict] | Exception]]:
        """Batches that have ended; see `local.Local`. None where an actor has begun."""
        waiting = [*self._in_hand, *self._starting]
        if not waiting:
            raise RuntimeError("There is no process left that paints.")
        ended, _ = self._ray.wait(waiting, num_returns=1)
        found = []
        for each in ended:
            result = self._result(each)
            if each in self._starting:
                self._has_begun(self._starting.pop(each), result)
                continue
            batch, actor = self._in_hand.pop(each)
            actor.in_hand -= 1
            if isinstance(result, Lost) and actor in self._ready:
                self._ready.remove(actor)
                self._kill(actor)
                self._start(actor.kind)
            found.append((batch, result))
        return found

    def close(self) -> None:
        """Ends the actors; and the cluster, if it was begun here."""
        for actor in [*self._ready, *self._starting.values()]:
            self._kill(actor)
        if self._is_ours:
            self._ray.shutdown()

    def _start(self, kind: str) -> None:
        options = {"max_restarts": 0, "max_concurrency": IN_HAND + 1}
        options |= needs(kind, self._cpus)
        remote = self._ray.remote(Worker).options(**options)
        actor = _Actor(remote.remote(*self._arguments), kind)
        self._starting[actor.handle.begin.remote()] = actor

    def _has_begun(self, actor: _Actor, result) -> None:
        """An actor has read the model, or could not."""
        if isinstance(result, Lost):
            self._never += 1
            self._kill(actor)
            if self._never >= TRIES and not self._ready:
                raise RuntimeError(
                    f"The processes that paint have ended {TRIES} times as they began; "
                    f"Ray says why: {result}"
                )
            self._start(actor.kind)
            return
        if isinstance(result, Exception):
            raise result
        if self._fingerprint is None:
            self._fingerprint = result
        other = same_model(self._fingerprint, result)
        if other is not None:
            raise RuntimeError(
                "All hosts must paint with the same model; where they are of several "
                "kinds, with a --precision that is given. "
                f"Received: hosts that differ in {other}"
            )
        self._never = 0
        self._ready.append(actor)

    def _result(self, reference):
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            return error.cause if isinstance(error.cause, Exception) else error
        except errors.RayError as error:
            return Lost(" ".join(str(error).split())[:500])

    def _kill(self, actor: _Actor) -> None:
        try:
            self._ray.kill(actor.handle)
        except (ValueError, self._ray.exceptions.RayError):
            pass  # it has ended


def join(address: str | None = None, options: Mapping | None = None) -> tuple:
    """Ray, in a cluster; and whether that was joined or begun here.

    Args:
        address: The cluster's; by default the one that this process or machine has,
            else a new one.
        options: Of `ray.init`, where there is none yet.

    Raises:
        ImportError: If Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            'A cluster needs Ray: pip install ".[ray]" in a checkout; '
            "--engine local computes in this process"
        ) from error
    is_ours = not ray.is_initialized()
    if is_ours:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(address, log_to_driver=False, **(options or {}))
    return ray, is_ours


def needs(kind: str, cpus: int) -> dict:
    """What a process needs, as Ray's options have it.

    Args:
        kind: One of `KINDS`.
        cpus: Processors of one that has no other device.
    """
    given = environment.shown()
    options: dict = {"scheduling_strategy": "SPREAD", "num_cpus": 1}
    if kind == "gpu":
        options["num_gpus"] = 1
    elif kind == "tpu":
        options["resources"] = {"TPU": 1}
    else:
        options["num_cpus"] = cpus
        given["CUDA_VISIBLE_DEVICES"] = ""
    return {**options, "runtime_env": {"env_vars": given}}


def counts(devices: str, hosts: Sequence[Mapping[str, float]]) -> dict[str, int]:
    """How many actors of each kind there are to be.

    Args:
        devices: `"auto"`: one for each GPU and TPU, and where there are none, one for
            each host; or kinds with commas between, each with a number or all of it.
        hosts: What each host offers, by Ray's names.

    Raises:
        ValueError: If that is none, or the hosts do not have it.

    Example:

    >>> counts("auto", [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0}])
    {'gpu': 2}
    >>> counts("gpu:1,cpu", [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0}])
    {'gpu': 1, 'cpu': 2}
    """
    there = {
        kind: int(sum(host.get(name, 0) for host in hosts))
        for kind, name in KINDS.items()
    }
    hosts_of_cpus = sum(host.get("CPU", 0) >= 1 for host in hosts)
    if devices == "auto":
        found = {kind: there[kind] for kind in ("gpu", "tpu") if there[kind]}
        return found or {"cpu": max(1, hosts_of_cpus)}
    found = {}
    for each in devices.split(","):
        kind, colon, number = each.strip().lower().partition(":")
        if kind not in KINDS or (colon and not number.isdigit()) or kind in found:
            raise ValueError(
                "`devices` must be auto, or some of gpu, tpu and cpu, each with how "
                f"many, as gpu:4,cpu:2. Received: {devices}"
            )
        every = hosts_of_cpus if kind == "cpu" else there[kind]
        found[kind] = int(number) if colon else every
        if not 0 < found[kind] <= there[kind]:
            raise ValueError(
                f"`devices` must be what the cluster has, {there[kind]} of {kind}. "
                f"Received: {devices}"
            )
    return found


def cpus_of_each(count: int, hosts: Sequence[Mapping[str, float]]) -> int:
    """Processors of each of so many processes, so that all find a host."""
    own = [int(host.get("CPU", 0)) for host in hosts if host.get("CPU", 0) >= 1]
    if not count or not own:
        return 1
    return max(1, min(min(own), sum(own) // count))
