"""The networks of a model, which are made and read when they are first used."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras

from kerasdiffusion.compute import backend
from kerasdiffusion.models.autoencoder import Decoder, ImageEncoder
from kerasdiffusion.models.diffusion_model import DiffusionModel
from kerasdiffusion.models.text_encoder import TextEncoder
from kerasdiffusion.networks.parts import Arrival, make_networks, make_parts


class LazyNetworks:
    """What a `LatentDiffusion` does with its networks and their weights."""

    @property
    def low_memory(self) -> bool:
        """Whether parts are in memory one at a time."""
        return self._guests is not None

    def build(self, input_shape=None):
        """Makes the networks and reads their weights, if that is still to do.

        With `low_memory` too: all are kept from then on.
        """
        if self._guests is not None:
            for part in self.config.parts:
                self._kept(part)
        elif self._arrival is not None:
            self._wait(self.config.parts)
        elif not self._parts:
            self._parts = self._make(self.config.parts)
        self.built = True
        self._quantize()

    def _make(self, names) -> dict:
        with self._place():
            return make_parts(self.config, names, self.precision, self._sources)

    @property
    def _goes_ahead(self) -> bool:
        """Whether networks are made, read and compiled while other things are done."""
        alone = keras.distribution.distribution() is None
        alone = alone and self._place is contextlib.nullcontext
        plain = self._guests is None and not self._eight_bit
        is_read = None not in self._sources.values()
        return alone and plain and is_read and backend.compiles_ahead(self.compiler)

    def _begin(self) -> None:
        """Has the networks made; most may still be under way when this returns."""
        if self._parts or self._arrival is not None:
            return
        if not self._goes_ahead:
            self.build()
            return
        how = self.precision, self._sources

        def make(part):
            return make_networks(self.config, [part], *how)[part]

        self._arrival = Arrival(make, self.config.parts, self._sources)

    def _wait(self, parts) -> None:
        """Returns when these parts have their weights; without them, there are none."""
        arrival = self._arrival
        if arrival is not None:
            with self._arriving(arrival):
                arrival.wait(parts)

    @contextlib.contextmanager
    def _arriving(self, arrival: Arrival) -> Iterator[None]:
        """Networks under way: with the last one they are the model's; or none is."""
        try:
            yield
        except BaseException:
            self._arrival = None
            self._programs.clear()
            raise
        if arrival.is_complete:
            self._parts = {part: arrival.network(part) for part in self.config.parts}
            self._arrival, self.built = None, True

    def _network(self, part: str):
        """A part to compute with: it may give up its weights when another one comes."""
        if self._guests is None:
            self._begin()
        # Asked first: another thread, which compiles, may make them the model's now.
        arrival = self._arrival
        if part in self._parts or part not in self.config.parts:
            return self._parts.get(part)
        if arrival is None:
            return self._guests.enter(part)
        with self._arriving(arrival):
            return arrival.network(part)

    def _kept(self, part: str):
        """A part for the caller, who may change it: it stays in memory."""
        if self._guests is None:
            self.build()
        elif part in self.config.parts and part not in self._parts:
            self._parts[part] = self._guests.leave(part)
            self._up_to_date(part)
        return self._parts.get(part)

    @property
    def text_encoder(self) -> TextEncoder:
        """Tokens to context."""
        return self._kept("text_encoder")

    @property
    def text_encoder_2(self) -> TextEncoder | None:
        """The second text encoder of SDXL; `None` where there is one."""
        return self._kept("text_encoder_2")

    @property
    def diffusion_model(self) -> DiffusionModel:
        """Noisy latents, timestep and context to a prediction."""
        return self._kept("diffusion_model")

    @property
    def image_encoder(self) -> ImageEncoder:
        """Pictures to latents."""
        return self._kept("image_encoder")

    @property
    def decoder(self) -> Decoder:
        """Latents to pictures."""
        return self._kept("decoder")
