"""Work on shares of something, here or by all devices of a cluster."""

from __future__ import annotations

from collections.abc import Callable

from kerasdiffusion.batch import environment, ray_engine

#: How often a share is begun again whose process has ended.
TRIES = 3


class Here:
    """One share, in this process."""

    def over(self, work: Callable[[int, int], object]) -> list:
        """What a function makes of each share.

        Args:
            work: Takes the number of a share, and how many there are.
        """
        return [work(0, 1)]


class OnCluster:
    """A share for each device, as `ray_engine.Cluster` has them.

    Args:
        devices: See `ray_engine.counts`.
        address: The cluster's, as `ray.init` takes it.

    Raises:
        ImportError: If Ray is not installed.
        ValueError: If the cluster has no such devices.
    """

    def __init__(self, devices: str = "auto", address: str | None = None):
        self._devices, self._address = devices, address

    def over(self, work: Callable[[int, int], object]) -> list:
        """As of `Here`; shares are taken in turn where processes end."""
        ray, is_ours = ray_engine.join(self._address)
        try:
            hosts = [each["Resources"] for each in ray.nodes() if each["Alive"]]
            kinds = ray_engine.counts(self._devices, hosts)
            places = [kind for kind, count in kinds.items() for _ in range(count)]
            cpus = ray_engine.cpus_of_each(kinds.get("cpu", 0), hosts)
            share = ray.remote(max_retries=TRIES)(_share)
            work = environment.WithHidden(work)
            return ray.get(
                [
                    share.options(**ray_engine.needs(kind, cpus)).remote(
                        work, i, len(places)
                    )
                    for i, kind in enumerate(places)
                ]
            )
        except ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            raise cause from None
        finally:
            if is_ours:
                ray.shutdown()


def _share(work: Callable, number: int, count: int):
    return work(number, count)
