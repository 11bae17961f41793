"""An adapter that is being taught: another one whenever it is looked at."""

from __future__ import annotations

from collections.abc import Callable

from kerasdiffusion.adapters.adapter import Adapter


class Taught:
    """Stands for an `Adapter`, with the attributes that it has at the moment.

    Args:
        now: Gives the adapter as it is.
    """

    def __init__(self, now: Callable[[], Adapter]):
        self.now = now

    def __getattr__(self, name):
        return getattr(self.now(), name)
