"""The networks of a model: made when they are first used, kept or given up after."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from queue import SimpleQueue

import keras

from kerasdiffusion.compute import backend, heap, memory
from kerasdiffusion.compute.precision import policy
from kerasdiffusion.compute.shortage import shortage_told
from kerasdiffusion.models.autoencoder import Decoder, ImageEncoder
from kerasdiffusion.models.diffusion_model import DiffusionModel
from kerasdiffusion.models.eight_bit import made_small
from kerasdiffusion.models.text_encoder import TextEncoder
from kerasdiffusion.models.tiny_autoencoder import TinyDecoder, TinyImageEncoder
from kerasdiffusion.networks import kept_weights, vocabularies
from kerasdiffusion.presets.config import ModelConfig, TinyAutoencoderConfig
from kerasdiffusion.prompts.tokenizer import Tokenizer
from kerasdiffusion.weights import hub, load

PARTS = {
    "text_encoder": (TextEncoder, "text_encoder"),
    "text_encoder_2": (TextEncoder, "text_encoder_2"),
    "diffusion_model": (DiffusionModel, "diffusion_model"),
    "image_encoder": (ImageEncoder, "autoencoder"),
    "decoder": (Decoder, "autoencoder"),
}
TINY = {"image_encoder": TinyImageEncoder, "decoder": TinyDecoder}
#: What no picture needs that is painted from a text alone.
LATER = ("image_encoder",)


def make_parts(
    config: ModelConfig,
    names,
    precision: str,
    sources: Mapping[str, object],
    eight_bit: Container[str] = (),
    keeps: bool = False,
) -> dict:
    """The networks of some parts, with their weights.

    Args:
        config: What the model is made of.
        names: Of the parts.
        precision: The dtype policy's name.
        sources: Where the weights of each are; random ones for `None`.
        eight_bit: Those parts whose kernels are in 8 bits, as they are read.
        keeps: As in `read`.

    Returns:
        A dict by name.

    Raises:
        WeightsError: If there are none, or they do not fit.
    """
    parts = make_networks(config, names, precision, sources, eight_bit=eight_bit)
    read(parts, sources, keeps)
    return parts


def precision_of(part: str, config: ModelConfig, precision: str) -> str:
    """The dtype policy of one part: float32 for an autoencoder beyond float16.

    As in diffusers' pipelines of SDXL and of the upscaler; its others pass by what the
    autoencoder says.

    Args:
        part: Its name.
        config: What the model is made of.
        precision: The model's dtype policy.
    """
    network = config.diffusion_model
    heeded = network.vector_width > 0 or network.noise_levels > 0
    own = getattr(config, PARTS[part][1])
    if heeded and getattr(own, "force_upcast", False):
        if policy(precision).compute_dtype == "float16":
            return "float32"
    return precision


def make_networks(
    config: ModelConfig,
    names,
    precision: str,
    sources: Mapping[str, object],
    classes: Mapping[str, type] = {},
    eight_bit: Container[str] = (),
) -> dict:
    """The same, without the weights of those that have a source.

    `classes` are of parts that are networks of another class than usual.
    """
    parts = {}
    for part in names:
        own = getattr(config, PARTS[part][1])
        is_tiny = isinstance(own, TinyAutoencoderConfig)
        usual = TINY[part] if is_tiny else PARTS[part][0]
        network = usual if is_tiny else classes.get(part, usual)
        is_read = sources[part] is not None
        paused = memory.collector_paused()
        small = made_small(part in eight_bit)
        with shortage_told(), paused, backend.empty_weights(is_read), small:
            dtype = precision_of(part, config, precision)
            parts[part] = network(config=own, dtype=policy(dtype), name=part)
    return parts


def read(parts: Mapping, sources: Mapping[str, object], keeps: bool = False) -> None:
    """The weights of networks, those of one source together: all of them or none.

    Args:
        parts: Networks by name.
        sources: Where the weights of each are; what has none is left as it is.
        keeps: Whether they are kept as OpenVINO wants them, and taken from there.
    """
    by_source: dict = {}
    for part in parts:
        source = sources[part]
        if source is not None:
            by_source.setdefault(_key(source), (source, []))[1].append(part)
    for source, served in by_source.values():
        own = {name: parts[name] for name in served}
        with shortage_told():
            places = kept_weights.places(own, source) if keeps else {}
            for name, place in places.items():
                if kept_weights.take(own[name], place):
                    del own[name]
            if own:
                load.load_weights(own, source)
            for name, place in places.items():
                if name in own:
                    kept_weights.keep(name, own[name], place)


class Arrival:
    """Networks that are made in one thread and read in another.

    Meanwhile programs are traced and run, of those that are there. A part that is asked
    for comes next. A program that ends waits for the part that is under way, and for no
    other.

    Args:
        make: A function of a part's name that makes its network, without weights.
        names: Of the parts, in the order in which they come where nobody asks.
        sources: Where the weights of each are.
        keeps: As in `read`.
    """

    def __init__(
        self,
        make: Callable,
        names: Sequence[str],
        sources: Mapping,
        keeps: bool = False,
    ):
        self._made = {name: Future() for name in names}
        self._read = {name: Future() for name in names}
        self._asked, order = deque(), SimpleQueue()
        settings = backend.thread_settings()

        def with_weights(name):
            read({name: self._made[name].result()}, sources, keeps)

        def make_all():
            for name in self._to_make():
                order.put(name)
                yield name

        for names, function, futures in (
            (make_all(), make, self._made),
            ((order.get() for _ in self._read), with_weights, self._read),
        ):
            args = (names, function, futures, settings())
            # No daemon: one that is at work as the interpreter ends can abort it.
            threading.Thread(target=_fill, args=args).start()

    def _to_make(self) -> Iterator[str]:
        """The parts that are still to make: those that were asked for come first."""
        left = list(self._made)
        while left:
            name = self._asked.popleft() if self._asked else left[0]
            if name in left:
                left.remove(name)
                yield name

    def network(self, name: str):
        """A part's network as soon as it is made; it may have no weights yet.

        Raises:
            ValueError: If its configuration is none.
        """
        if not self._made[name].done():
            self._asked.append(name)
        return self._made[name].result()

    def wait(self, names: Iterable[str]) -> None:
        """Returns when these have their weights.

        Raises:
            WeightsError: If there are none, or they do not fit.
        """
        for name in names:
            self._read[name].result()

    @property
    def has_failed(self) -> bool:
        """Whether one could not be made or read: nor will be those behind it."""
        futures = [*self._made.values(), *self._read.values()]
        return any(each.done() and each.exception() for each in futures)

    @property
    def is_complete(self) -> bool:
        """Whether all are made and read."""
        return all(each.done() and not each.exception() for each in self._read.values())


def _fill(names: Iterable[str], function: Callable, futures: Mapping, settings) -> None:
    """A result for each name, or for all that are left the error of one."""
    error = None
    with settings:
        for name in names:
            future = futures[name]
            try:
                if not threading.main_thread().is_alive():
                    raise RuntimeError("The program has ended: nothing more is read")
                if error is None:
                    future.set_result(function(name))
                    continue
            except BaseException as raised:  # whoever waits is told
                error = raised
            future.set_exception(error)


class Guests:
    """Networks of which one at a time has its values in memory.

    They are read again each time that another has been there in between. What a caller
    may have changed must not be here: `leave` hands a network over for good.

    Args:
        make: A function of parts' names that makes networks, without weights.
        sources: Where the weights of each part are.
        names: Of the parts.
        dress: Is handed the name and the network of each part that was read.
        sparing: Whether what reading frees goes back before it is much.

    Raises:
        ValueError: If a part has no source, so that it could not be read again.
    """

    def __init__(
        self,
        make: Callable,
        sources: Mapping,
        names: Sequence[str],
        dress: Callable = lambda part, network: None,
        sparing: bool = False,
    ):
        without = [part for part in names if sources[part] is None]
        if without:
            raise ValueError(
                "With `low_memory`, weights are read each time that they are needed: "
                f"all parts must have a source. Received: none for {', '.join(without)}"
            )
        self._make, self._sources = make, sources
        self._networks, self._present = {}, None
        self._dress, self._sparing = dress, sparing

    def enter(self, part: str, dressed: bool = True):
        """The network of a part, with its values; the one before gives up its own."""
        if self._present == part:
            return self._networks[part]
        self.clear()
        network = self.bare(part)
        if network is None:
            network = self._networks[part]
            memory.take_back(keras.backend.backend(), network.variables)
        with heap.trimmed(self._sparing):
            read({part: network}, self._sources)
        heap.trim()
        if dressed:
            try:
                self._dress(part, network)
            except BaseException:  # it is not what it should be
                memory.give_up(keras.backend.backend(), network.variables)
                raise
        self._present = part
        return network

    def bare(self, part: str):
        """The network of a part, made without values; `None` if it was made before."""
        if part in self._networks:
            return None
        self.clear()
        self._networks[part] = self._make([part])[part]
        return self._networks[part]

    def present(self, part: str):
        """The network of a part, if its values are in memory; else `None`."""
        return self._networks[part] if self._present == part else None

    def clear(self) -> None:
        """Has no network's values in memory."""
        if self._present is not None:
            before, self._present = self._networks[self._present], None
            memory.give_up(keras.backend.backend(), before.variables)

    def leave(self, part: str):
        """The network of a part, with its values, which are its own affair now."""
        self.clear()
        network = self.enter(part, dressed=False)
        del self._networks[part]
        self._present = None
        return network


def _key(source):
    """What tells sources apart."""
    return str(sorted(source.items()) if isinstance(source, Mapping) else source)


def read_tokenizer(sources: Sequence, config: ModelConfig) -> Tokenizer:
    """The tokenizer of the first of some sources that has one, or CLIP's."""
    # A refiner has the second alone.
    names = "tokenizer", "tokenizer_2"
    return _tokenizer_of(sources, names, config.tokenizer) or Tokenizer(
        config.tokenizer
    )


def read_tokenizer_2(sources: Sequence, config: ModelConfig) -> Tokenizer | None:
    """The second tokenizer, or `None` where the first one's vocabulary is for both.

    It has another where words were added.
    """
    return _tokenizer_of(sources, ("tokenizer_2",), config.tokenizer_2)


def _tokenizer_of(sources, names, config) -> Tokenizer | None:
    for source in sources:
        if isinstance(source, (str, os.PathLike)):
            root = hub.resolve(source, configs_only=True)
            own = vocabularies.of_file(root) if root.is_file() else None
            if own is not None:
                return Tokenizer(config, own)
            for name in names:
                if (root / name).is_dir():
                    return Tokenizer.from_folder(root / name, config)
    return None


def check_tokenizer(tokenizer: Tokenizer, encoder) -> Tokenizer:
    """The tokenizer, if a text encoder has a vector for each of its tokens.

    Args:
        tokenizer: A `Tokenizer`.
        encoder: A `TextEncoderConfig`.

    Raises:
        ValueError: If not.
    """
    size = encoder.vocabulary_size
    if tokenizer.vocabulary_size > size:
        raise ValueError(
            f"The tokenizer must have no more tokens than the text encoder's {size}; "
            f"pass the model's own as `tokenizer`. Received: "
            f"{tokenizer.vocabulary_size} tokens"
        )
    return tokenizer
