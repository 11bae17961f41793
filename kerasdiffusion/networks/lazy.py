"""The networks of a model, which are made and read when they are first used."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import keras

from kerasdiffusion.compute import backend, heap
from kerasdiffusion.compute.turns import Turn
from kerasdiffusion.models.autoencoder import Decoder, ImageEncoder
from kerasdiffusion.models.diffusion_model import DiffusionModel
from kerasdiffusion.models.text_encoder import TextEncoder
from kerasdiffusion.networks.parts import (
    LATER,
    Arrival,
    Guests,
    make_networks,
    make_parts,
)
from kerasdiffusion.networks.quantization import check_quantization

#: The parts one at a time, and what may be in 8 bits is.
SMALLEST = "smallest"


def check_low_memory(low_memory) -> bool | str:
    """`True`, `False` or `"smallest"`.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(low_memory, bool) or low_memory == SMALLEST:
        return low_memory
    raise ValueError(
        f'`low_memory` must be True, False or "{SMALLEST}". Received: {low_memory!r}'
    )


class LazyNetworks:
    """What a `LatentDiffusion` does with its networks and their weights.

    Several threads may ask at once. A program has the model's `_turn` while it runs,
    and so has whatever gives up weights or exchanges variables. `_guard` is held to
    look at the model's networks and programs, to exchange them, and to make them where
    that is done at once; never while waiting for a turn, for networks that arrive, or
    for a compiler. Who needs both has the turn first.
    """

    def _own_networks(self, low_memory: bool | str) -> None:
        """Nothing is made yet."""
        self._low_memory = check_low_memory(low_memory)
        self._eight_bit = {}
        if low_memory == SMALLEST:
            dtype = self.compute_dtype
            names = check_quantization("int8", None, self.config.parts, dtype)
            self._eight_bit = dict.fromkeys(names, False)
        self._guard, self._turn = threading.RLock(), Turn()
        self._parts, self._arrival, self._guests = {}, None, None
        if low_memory:
            heap.give_freed_pages_back()
            parts = self.config.parts
            how = self._dress, low_memory == SMALLEST
            self._guests = Guests(self._make_bare, self._sources, parts, *how)

    @property
    def low_memory(self) -> bool | str:
        """Whether parts are in memory one at a time; or `"smallest"`."""
        return self._low_memory

    def build(self, input_shape=None):
        """Makes the networks and reads their weights, if that is still to do.

        With `low_memory` too: all are kept from then on.
        """
        if self._guests is not None:
            with self._turn():
                for part in self.config.parts:
                    self._kept(part)
        else:
            with self._guard:
                arrival = self._arrival
                if arrival is None and not self._parts:
                    self._parts = self._make(self.config.parts)
            self._wait(arrival, self.config.parts)
        self.built = True
        self._quantize()
        for part in self._parts:
            self._up_to_date(part)

    @property
    def _read_small(self) -> list[str]:
        """Parts whose kernels are read into 8 bits, and never are there as floats."""
        return [part for part, rounds in self._eight_bit.items() if not rounds]

    def _make(self, names) -> dict:
        with self._place():
            return make_parts(
                *(self.config, names, self.precision, self._sources),
                eight_bit=self._read_small,
                keeps=self._keeps,
            )

    @property
    def _keeps(self) -> bool:
        """Whether weights are kept as the compiler wants them."""
        return self.compiler == "openvino"

    def _make_bare(self, names) -> dict:
        """Networks that are read next."""
        with self._place():
            return make_networks(
                *(self.config, names, self.precision, self._sources),
                eight_bit=self._read_small,
            )

    @property
    def _goes_ahead(self) -> bool:
        """Whether networks are made, read and compiled while other things are done."""
        plain = self._guests is None and not self._eight_bit
        return self._compiles_ahead and plain and None not in self._sources.values()

    @property
    def _compiles_ahead(self) -> bool:
        """Whether programs can be compiled before the weights are there."""
        alone = keras.distribution.distribution() is None
        alone = alone and self._place is contextlib.nullcontext
        return alone and backend.compiles_ahead()

    def _begun(self) -> tuple[dict, Arrival | None]:
        """The networks that are there, or those that most may still be under way."""
        with self._guard:
            if not self._parts and self._arrival is None and self._goes_ahead:
                how = self.precision, self._sources

                def make(part):
                    return make_networks(self.config, [part], *how)[part]

                order = sorted(self.config.parts, key=lambda part: part in LATER)
                self._arrival = Arrival(make, order, self._sources, self._keeps)
            parts, arrival = self._parts, self._arrival
        if not parts and arrival is None:
            self.build()
            parts = self._parts
        return parts, arrival

    def _wait(self, arrival: Arrival | None, parts) -> None:
        """Returns when these parts have their weights; without them, there are none."""
        if arrival is not None:
            with self._arriving(arrival):
                arrival.wait(parts)

    @contextlib.contextmanager
    def _arriving(self, arrival: Arrival) -> Iterator[None]:
        """Networks under way: with the last one they are the model's; or none is."""
        try:
            yield
        finally:
            with self._guard:
                # Another thread may have seen to it; who is interrupted goes on later.
                if self._arrival is arrival and arrival.has_failed:
                    self._arrival = None
                    self._programs.clear()
                if self._arrival is arrival and arrival.is_complete:
                    parts = self.config.parts
                    self._parts = {part: arrival.network(part) for part in parts}
                    self._arrival, self.built = None, True

    def _undisturbed(self):
        """The turn for several calls, where others would give up a part in between."""
        return self._turn() if self.low_memory else contextlib.nullcontext()

    def _network(self, part: str):
        """A part to compute with: it may give up its weights when another one comes."""
        return self._found(part)[0]

    def _found(self, part: str) -> tuple:
        """A part, and the arrival that its weights may still be under way in.

        Where parts give up their weights, the turn is the caller's.
        """
        if part not in self.config.parts:
            return None, None
        if self._guests is not None:
            with self._turn():
                if part not in self._parts:
                    self._undress_guests()
                    return self._guests.enter(part), None
                return self._parts[part], None
        parts, arrival = self._begun()
        if part in parts:
            return parts[part], None
        with self._arriving(arrival):
            return arrival.network(part), arrival

    def _kept(self, part: str):
        """A part for the caller, who may change it: it stays in memory."""
        if self._guests is None:
            self.build()
        elif part in self.config.parts and part not in self._parts:
            with self._turn():
                if part not in self._parts:
                    network = self._parts[part] = self._guests.leave(part)
                    network.has_adapters = False  # it was read anew
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
