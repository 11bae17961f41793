"""What Prometheus is told."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import generate_latest as _latest

_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counts of jobs and pictures; nothing of what was asked.

    Args:
        counts: Gives how many pieces wait, and how many are painted.
        models: Gives the bytes of the models that are in memory, by name.
    """

    def __init__(self, counts: Callable, models: Callable):
        self.registry = own = CollectorRegistry()
        name = "kerasdiffusion"
        self.jobs = Counter(
            f"{name}_jobs", "Jobs that have ended.", ["api", "state"], registry=own
        )
        self.refused = Counter(
            f"{name}_refused", "Requests that were refused.", ["status"], registry=own
        )
        self.pictures = Counter(f"{name}_pictures", "Pictures painted.", registry=own)
        self.job_seconds = Histogram(
            f"{name}_job_seconds",
            "From taking a job in to its end.",
            buckets=_SECONDS,
            registry=own,
        )
        self.batch_seconds = Histogram(
            f"{name}_batch_seconds",
            "What batches took.",
            buckets=_SECONDS,
            registry=own,
        )
        self.batch_pictures = Histogram(
            f"{name}_batch_pictures",
            "Pictures of a batch.",
            buckets=_SIZES,
            registry=own,
        )
        waiting = Gauge(f"{name}_waiting", "Pictures that wait.", registry=own)
        waiting.set_function(lambda: counts()[0])
        running = Gauge(f"{name}_running", "Pictures being painted.", registry=own)
        running.set_function(lambda: counts()[1])
        memory = Gauge(f"{name}_weights_bytes", "Weights in memory.", registry=own)
        memory.set_function(lambda: sum(models().values()))

    def ended(self, job) -> None:
        """A job has ended."""
        self.jobs.labels(job.api, job.state).inc()
        self.pictures.inc(len(job.pictures))
        self.job_seconds.observe(max(0.0, job.ended - job.created))

    def painted(self, pieces, seconds: float) -> None:
        """A batch is done."""
        self.batch_pictures.observe(len(pieces))
        self.batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return _latest(self.registry)
