"""Pictures to latents and back, in tiles where they would not fit."""

from __future__ import annotations

import functools

import numpy as np
from keras import ops

from kerasdiffusion.compute import backend, devices
from kerasdiffusion.networks.tiling import (
    Tiler,
    decoder_shape,
    encoder_shape,
    through,
    tile_side,
)
from kerasdiffusion.presets.config import TinyAutoencoderConfig


class Autoencoding:
    """What a `LatentDiffusion` does with its autoencoder."""

    def _encode_image(self, pictures):
        network = self._network("image_encoder")
        return ops.cast(network(backend.spread(pictures)), "float32")

    def _decode(self, latents):
        network = self._network("decoder")
        pictures = ops.cast(network(backend.spread(latents)), "float32")
        pictures = ops.round(ops.clip((pictures + 1.0) * 127.5, 0.0, 255.0))
        return ops.cast(pictures, "uint8")

    def _coarse(self, part):
        return lambda x: ops.cast(self._network(part).coarse(x), "float32")

    def encode_picture(self, picture: np.ndarray) -> np.ndarray:
        """Latents of one picture, in tiles where `tiling` asks for them.

        Args:
            picture: float32 of shape `(1, height, width, 3)` in [-1, 1], whose sides
                are multiples of the autoencoder's downsampling.

        Returns:
            float32 of shape `(1, height / 8, width / 8, 4)`.
        """
        side = self._tile_side(*picture.shape[1:3])
        if side is None:
            return backend.to_numpy(self.program("encode_image")(picture))
        shape = encoder_shape(self.config.autoencoder)
        tiler = Tiler(self._tile_program("image_encoder"), *shape, side, shrinks=True)
        return backend.to_numpy(self.program("encode_rest")(tiler(list(picture[0]))))

    def decode_latents(self, latents: np.ndarray) -> np.ndarray:
        """The picture of one's latents, in tiles where `tiling` asks for them.

        Args:
            latents: float32 of shape `(1, h, w, 4)`; without tiles, of several too.

        Returns:
            uint8 of shape `(1, 8 * h, 8 * w, 3)`.
        """
        side = self._tile_side(*self._pixels(latents))
        if side is None:
            return backend.to_numpy(self.program("decode")(latents))
        shape = decoder_shape(self.config.autoencoder)
        tiler = Tiler(self._tile_program("decoder"), *shape, side, shrinks=False)
        rows = list(backend.to_numpy(self.program("decode_begin")(latents))[0])
        picture = tiler(rows)
        return np.round(np.clip((picture + 1.0) * 127.5, 0.0, 255.0)).astype("uint8")

    def decode_all(self, latents: np.ndarray) -> np.ndarray:
        """The same of any number of pictures: as many at a time as there are devices.

        The decoder's activations are the largest of a run.
        """
        count = 1
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

    def _tile_program(self, part: str):
        """A program for each stage and number of norms, of a part's tiles."""

        def program(stage: int, norms: int) -> backend.Program:
            name = f"{part} tile {stage}.{norms}"
            if name not in self._programs:
                network = self._network(part)
                function = functools.partial(through, network.stages[stage])
                self._programs[name] = self._program(name, part, function, [network])
            return self._running(part, self._programs[name])

        return program
