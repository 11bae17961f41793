"""Adapters that one call asks of a model, beside those that the model has."""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections.abc import Callable, Iterator
from dataclasses import replace

from kerasdiffusion.adapters.adapter import Adapter
from kerasdiffusion.adapters.loaded import Loaded, check_weights
from kerasdiffusion.adapters.read import read_adapter
from kerasdiffusion.adapters.sources import find_adapter
from kerasdiffusion.adapters.taught import Taught
from kerasdiffusion.requests.adapters import Adapters

#: What an adapter is called that is being taught.
TAUGHT = "taught"
#: Files that requests named, kept for the next ones.
REMEMBERED = 4
#: What calls that are under way ask of models: by model, the adapters by name.
_asked: contextvars.ContextVar = contextvars.ContextVar("asked", default={})  # noqa: B039


class Asked:
    """What an `Adapted` does for calls; it has `_adapters` and learns words.

    An adapter that is being taught is a call's as well: it is used as it is when the
    call begins, and is out of the weights, which teaching reads, when the call ends.
    """

    def _wanted(self) -> tuple[Loaded, ...]:
        """The adapters that are used now: the model's, or those of this call."""
        wanted = _asked.get().get(id(self), self._adapters).values()
        return tuple(each for each in wanted if not _is_taught(each))

    @contextlib.contextmanager
    def _asking(self, adapters=None) -> Iterator[None]:
        """Within it this thread's programs have a call's adapters beside the model's.

        What the model has at the beginning counts to the end, whatever others do.

        Args:
            adapters: As `requests.adapters.Adapters` takes them.
        """
        asked = dict(_asked.get().get(id(self), self._adapters))
        taught = [name for name, loaded in asked.items() if _is_taught(loaded)]
        for name in taught:
            asked[name] = replace(asked[name], adapter=asked[name].adapter.now())
        token = _asked.set({**_asked.get(), id(self): asked})
        try:
            for name in taught:
                self._check_words(asked[name])
            for source, *weights in Adapters().check(adapters or [], "adapters") or ():
                self._ask(source, *weights)
            yield
        finally:
            # A run that was dropped half way ends in another context than its own.
            with contextlib.suppress(ValueError):
                _asked.reset(token)
            if taught:
                with self._turn():
                    self._merge_all()

    def wear_taught(self, now: Callable[[], Adapter]) -> None:
        """Paints with what is being taught from now on: an adapter called "taught".

        `set_adapters` weighs it and `remove_adapter` takes it off, as any other.

        Args:
            now: Gives it as it is, whenever a call begins.
        """
        with self._turn():
            worn = self._adapters.get(TAUGHT)
            if worn is None or not _is_taught(worn) or worn.adapter.now != now:
                self._adapters[TAUGHT] = Loaded(TAUGHT, Taught(now))

    @property
    def _is_asking(self) -> bool:
        """Whether a call is under way that may ask for adapters."""
        return id(self) in _asked.get()

    def _ask(self, source, weight, text_encoder_weight=None, find=find_adapter) -> None:
        """An adapter for this call alone; one of the model's gets another weight."""
        asked = _asked.get()[id(self)]
        settings = check_weights(self.config, weight, text_encoder_weight, None)
        name = os.fspath(source)
        if name in asked:
            weight, text, _ = settings
            asked[name] = replace(
                asked[name], weight=weight, text_encoder_weight=text, weights={}
            )
            return
        loaded = Loaded(name, self._remember(find(source)), *settings)
        self._check_words(loaded)
        asked[name] = loaded
        self._warn_of_unused(loaded)

    def _remember(self, path) -> Adapter:
        """An adapter that calls name: the last few are kept while their files stay."""
        found = os.stat(path)
        key = os.fspath(path), found.st_mtime_ns, found.st_size
        with self._turn():
            adapter = self._remembered.pop(key, None) or read_adapter(path, self.config)
            self._remembered[key] = adapter
            while len(self._remembered) > REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
        return adapter


def _is_taught(loaded: Loaded) -> bool:
    return isinstance(loaded.adapter, Taught)
