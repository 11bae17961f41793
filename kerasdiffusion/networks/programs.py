"""The compiled programs of a model: made when they are first used, run in turn."""

from __future__ import annotations

import functools
import math
from collections import UserDict

import keras
import numpy as np
from keras import ops

from kerasdiffusion.compute import backend, heap
from kerasdiffusion.networks.control import controller
from kerasdiffusion.networks.lazy import SMALLEST
from kerasdiffusion.networks.warming import is_warming, without_steps
from kerasdiffusion.requests.cheaper_steps import cheapened
from kerasdiffusion.sampling import loop
from kerasdiffusion.sampling.axes import denoising_axes
from kerasdiffusion.sampling.denoiser import denoiser

# The part that each program is of.
PROGRAMS = {
    "encode": "text_encoder",
    "encode_2": "text_encoder_2",
    "denoise": "diffusion_model",
    "encode_image": "image_encoder",
    "encode_rest": "image_encoder",
    "decode": "decoder",
    "decode_begin": "decoder",
}
#: Numbers of a network's weights from which its graph is worth looking for.
LARGE = 2**24
# Where the batch is, in those that may be divided.
AXES = {
    "denoise": denoising_axes,
    "decode": (lambda _: (0,), lambda _: 0),
    "encode_image": (lambda _: (0,), lambda _: 0),
}


class Programs:
    """What a `LatentDiffusion` computes with its networks, compiled.

    A program is of networks, not of names: others have another one.
    """

    def _own_programs(self) -> None:
        # No dict, for Keras would look for layers in it, and exporters for weights.
        self._programs = UserDict()

    def program(self, name: str, followers: tuple = ()):
        """A compiled function, made at its first use; calls wait for their turn.

        Args:
            name: `"encode"` (tokens, and a dict of what else the text encoder takes,
                to context, and to pooled text where it projects), `"encode_2"` (the
                same of the second text encoder), `"denoise"` (see
                `sampling.loop.run`), `"encode_image"` (pictures in [-1, 1] to latents),
                `"decode"` (latents to uint8 pictures), or what is not tiled of these
                two, `"encode_rest"` and `"decode_begin"`.
            followers: The networks that follow pictures as `"denoise"` runs.
        """
        run = functools.partial(self._run, name, followers)
        if name == "denoise" and self.compiler == "openvino":
            return loop.row_by_row(run)
        return run

    def _run(self, name: str, followers: tuple, *args):
        """A program of the networks that there are now, in the model's turn."""
        with self._turn():
            self._compile_bare(name, followers, args)
            network, arrival = self._ready_to_run(PROGRAMS[name])
            program = self._compiled(name, network, followers, arrival)
            if name == "denoise" and is_warming():
                return without_steps(program, args)
            with heap.trimmed(self.low_memory == SMALLEST):
                outputs = program(*args)
        if name in ("encode", "encode_2"):
            return self._seen(name, outputs, args)
        return outputs

    def _compile_bare(self, name: str, followers: tuple, args: tuple) -> None:
        """With `low_memory`: the first program of a part, ahead of its weights.

        What compiling takes is free again when they come.
        """
        part = PROGRAMS[name]
        if self._guests is None or part in self._parts or not self._compiles_ahead:
            return
        network = self._guests.bare(part) if part in self.config.parts else None
        if network is not None:
            program = self._compiled(name, network, followers)
            program.compile_soon(*args)
            program.settle()

    def _ready_to_run(self, part: str) -> tuple:
        """What `_found` gives, with the changes of the adapters that are asked for."""
        if self._wanted() and self._guests is None:
            self.build()  # they change weights that are there
        found = self._found(part)
        self._up_to_date(part)
        return found

    def _seen(self, name: str, outputs, args):
        """What a text encoder gives, on the host; computed again where it is lost."""
        found = keras.tree.map_structure(backend.to_numpy, outputs)
        if all(np.isfinite(each).all() for each in keras.tree.flatten(found)):
            return found

        def encoded(twin):
            outputs = self._compiled(name, twin)(*args)
            return keras.tree.map_structure(backend.to_numpy, outputs)

        return self._in_float32(PROGRAMS[name], encoded, found)

    def _part_program(self, name: str, twin=None):
        """A program of a part, or of its twin, for which the turn is the caller's."""
        return self.program(name) if twin is None else self._compiled(name, twin)

    @property
    def traces(self) -> dict[str, int]:
        """How often each program was traced, and so compiled, by its name."""
        with self._guard:
            programs = list(self._programs.items())
        found = {name: 0 for (name, *_), _ in programs}
        for (name, *_), program in programs:
            found[name] += program.traces
        return found

    def _compiled(
        self, name: str, network, followers: tuple = (), arrival=None
    ) -> backend.Program:
        """The program of networks, made where there is none yet.

        Args:
            name: As in `program`.
            network: The part that it is of, or a twin of that.
            followers: As in `program`.
            arrival: What the part's weights may still be under way in.
        """
        key, part = (name, network, *followers), PROGRAMS[name]
        with self._guard:
            if key not in self._programs:
                function = {
                    "encode": self._encode,
                    "encode_2": self._encode,
                    "denoise": functools.partial(self._denoise, followers),
                    "encode_image": self._encode_image,
                    "encode_rest": self._coarse,
                    "decode": self._decode,
                    "decode_begin": self._coarse,
                }[name]
                self._programs[key] = self._program(
                    name,
                    functools.partial(function, network),
                    [network, *followers],
                    functools.partial(self._ready, part, arrival),
                )
            return self._programs[key]

    def _program(self, name: str, function, networks, ready) -> backend.Program:
        if not self.low_memory and not backend.has_accelerator():
            heap.keep_freed_pages()
        ready = ready if self._goes_ahead else None
        idle = loop.without_rows if name == "denoise" else None
        facts = repr((name, self.precision, self.config))
        how = ready, idle, facts, bool(self.low_memory) and _is_large(networks[0])
        return backend.Program(function, networks, self.compiler, AXES.get(name), *how)

    def _ready(self, part: str, arrival) -> None:
        """Returns when a program of a part, just compiled, can run for the first time.

        While the U-Net does, the decoder's is compiled.
        """
        # With the decoder, the last of a picture, all are there: the model is built.
        self._wait(arrival, self.config.parts if part == "decoder" else (part,))
        latents = np.zeros((1, *self.latent_shape), "float32")
        if part == "diffusion_model" and "decode" not in self.traces:
            if self._tile_side(*self._pixels(latents)) is None:
                network, arrival = self._found("decoder")
                soon = self._compiled("decode", network, arrival=arrival)
                soon.compile_soon(latents)

    def _encode(self, network, tokens, how):
        # `how` has `layers`, `vectors` and `seen` where a prompt asks for them.
        outputs = network(tokens, **how)
        return keras.tree.map_structure(lambda x: ops.cast(x, "float32"), outputs)

    def _denoise(
        self, followers, network, branches, scale, shares, methods, controls, *state
    ):
        methods = dict(methods)
        if "pag" in methods:
            # One entry for each layer: names are no tensors, but keys may differ.
            layers = methods.pop("pag_layers")
            network = functools.partial(network, perturbed_layers=tuple(layers))
        network = cheapened(network, methods)
        control = controller(followers, controls)
        denoise = denoiser(network, branches, scale, shares, methods, control)
        return loop.run(denoise, *state)


def _is_large(network) -> bool:
    """Whether a network is such that what tracing it leaves behind counts."""
    return sum(math.prod(each.shape) for each in network.variables) >= LARGE
