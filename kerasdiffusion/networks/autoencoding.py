"""Pictures to latents and back, in tiles where they would not fit."""

from __future__ import annotations

import functools

import numpy as np
from keras import ops

from kerasdiffusion.compute import backend, devices
from kerasdiffusion.networks.tiling import (
    NotFinite,
    Tiler,
    decoder_shape,
    encoder_shape,
    through,
    tile_side,
)
from kerasdiffusion.networks.wider import looks_lost
from kerasdiffusion.presets.config import TinyAutoencoderConfig


class Autoencoding:
    """What a `LatentDiffusion` does with its autoencoder."""

    def _encode_image(self, network, pictures):
        return ops.cast(network(backend.spread(pictures)), "float32")

    def _decode(self, network, latents):
        pictures = ops.cast(network(backend.spread(latents)), "float32")
        pictures = ops.round(ops.clip((pictures + 1.0) * 127.5, 0.0, 255.0))
        return ops.cast(pictures, "uint8")

    def _coarse(self, network, x):
        return ops.cast(network.coarse(x), "float32")

    def encode_picture(self, picture: np.ndarray) -> np.ndarray:
        """Latents of one picture, in tiles where `tiling` asks for them.

        Args:
            picture: float32 of shape `(1, height, width, 3)` in [-1, 1], whose sides
                are multiples of the autoencoder's downsampling.

        Returns:
            float32 of shape `(1, height / 8, width / 8, 4)`.
        """
        with self._undisturbed():
            latents = self._encoded(picture)
            if not np.isfinite(latents).all():
                encoded = functools.partial(self._encoded, picture)
                latents = self._in_float32("image_encoder", encoded, latents)
        return latents

    def _encoded(self, picture: np.ndarray, twin=None) -> np.ndarray:
        """The same by the image encoder or by its twin; NaN where values overflow."""
        side = self._tile_side(*picture.shape[1:3])
        if side is None:
            return backend.to_numpy(self._part_program("encode_image", twin)(picture))
        shape = encoder_shape(self.config.autoencoder)
        program = self._tile_program("image_encoder", twin)
        tiler = Tiler(program, *shape, side, shrinks=True)
        try:
            rest = tiler(list(picture[0]))
        except NotFinite:
            autoencoder = self.config.autoencoder
            size = [n // autoencoder.downsampling for n in picture.shape[1:3]]
            return np.full((1, *size, autoencoder.latent_channels), np.nan, "float32")
        return backend.to_numpy(self._part_program("encode_rest", twin)(rest))

    def decode_latents(self, latents: np.ndarray) -> np.ndarray:
        """The picture of one's latents, in tiles where `tiling` asks for them.

        Args:
            latents: float32 of shape `(1, h, w, 4)`; without tiles, of several too.

        Returns:
            uint8 of shape `(1, 8 * h, 8 * w, 3)`.
        """
        with self._undisturbed():
            pictures = self._decoded(latents)
            lost = looks_lost(pictures)
            if not np.isfinite(latents).all():
                self._warn_of_lost("diffusion_model")
            elif lost.any():
                decoded = functools.partial(self._decoded, latents)
                again = self._in_float32("decoder", decoded, pictures)
                pictures = np.where(lost[:, None, None, None], again, pictures)
        return pictures

    def _decoded(self, latents: np.ndarray, twin=None) -> np.ndarray:
        """The same by the decoder or by its twin; black where values overflow."""
        side = self._tile_side(*self._pixels(latents))
        if side is None:
            return backend.to_numpy(self._part_program("decode", twin)(latents))
        shape = decoder_shape(self.config.autoencoder)
        tiler = Tiler(self._tile_program("decoder", twin), *shape, side, shrinks=False)
        begun = backend.to_numpy(self._part_program("decode_begin", twin)(latents))
        try:
            picture = tiler(list(begun[0]))
        except NotFinite:
            channels = self.config.autoencoder.image_channels
            return np.zeros((1, *self._pixels(latents), channels), "uint8")
        return np.round(np.clip((picture + 1.0) * 127.5, 0.0, 255.0)).astype("uint8")

    def decode_all(self, latents: np.ndarray) -> np.ndarray:
        """The same of any number of pictures: as many at a time as there are devices.

        The decoder's activations are the largest of a run.
        """
        count = 1
        with self._undisturbed():
            if self._tile_side(*self._pixels(latents)) is None:
                count = devices.devices(self._network("decoder").variables)
            count = count if len(latents) % count == 0 else 1
            groups = [latents[i : i + count] for i in range(0, len(latents), count)]
            return np.concatenate([self.decode_latents(each) for each in groups])

    def _pixels(self, latents):
        return [n * self.config.autoencoder.downsampling for n in latents.shape[1:3]]

    def _tile_side(self, height: int, width: int) -> int | None:
        # A tiny autoencoder takes little memory.
        is_tiny = isinstance(self.config.autoencoder, TinyAutoencoderConfig)
        return None if is_tiny else tile_side(self.tiling, height, width)

    def _tile_program(self, part: str, twin=None):
        """A program for each stage and number of norms, of a part's tiles."""

        def program(stage: int, norms: int):
            name = f"{part} tile {stage}.{norms}"

            def run(*args):
                with self._turn():
                    found = (
                        (twin, None) if twin is not None else self._ready_to_run(part)
                    )
                    return self._of_tiles(name, part, stage, *found)(*args)

            return run

        return program

    def _of_tiles(self, name: str, part: str, stage: int, network, arrival):
        with self._guard:
            key = name, network
            if key not in self._programs:
                function = functools.partial(through, network.stages[stage])
                ready = functools.partial(self._ready, part, arrival)
                self._programs[key] = self._program(name, function, [network], ready)
            return self._programs[key]
