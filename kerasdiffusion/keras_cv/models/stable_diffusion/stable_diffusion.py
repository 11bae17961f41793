"""KerasCV's StableDiffusion: its arguments, defaults and conventions."""

from __future__ import annotations

import keras
import numpy as np

from kerasdiffusion.compute import backend
from kerasdiffusion.keras_cv import sources
from kerasdiffusion.keras_cv.models.stable_diffusion.clip_tokenizer import (
    SimpleTokenizer,
)
from kerasdiffusion.keras_cv.models.stable_diffusion.decoder import Decoder
from kerasdiffusion.keras_cv.models.stable_diffusion.diffusion_model import (
    DiffusionModel,
)
from kerasdiffusion.keras_cv.models.stable_diffusion.image_encoder import ImageEncoder
from kerasdiffusion.keras_cv.models.stable_diffusion.text_encoder import TextEncoder
from kerasdiffusion.networks import parts
from kerasdiffusion.requests.arguments import check_count, check_prompts
from kerasdiffusion.storage.bounds import shown
from kerasdiffusion.tasks import stable_diffusion

MAX_PROMPT_LENGTH = 77

_NETWORKS = {
    "text_encoder": TextEncoder,
    "diffusion_model": DiffusionModel,
    "image_encoder": ImageEncoder,
    "decoder": Decoder,
}


class StableDiffusion(stable_diffusion.StableDiffusion):
    """Stable Diffusion 1 by KerasCV's arguments, and all else that this library has.

    A call gives KerasCV's pictures: its 50 steps of DDIM from 999 to 0, its noise for a
    seed (which is the Keras backend's), prompts that are plain text of 77 tokens.
    `_text_encoder`, `_diffusion_model`, `_image_encoder` and `_decoder` may be set to
    networks of `kerasdiffusion.keras_cv`, which are used from then on.

    Args:
        img_height: Height of the pictures in pixels. A multiple of 8 is taken as it
            is, another is rounded to a multiple of 128 as in KerasCV.
        img_width: Width of the pictures in pixels, the same.
        jit_compile: Whether to compile by XLA; `"auto"` does on GPUs and TPUs.
        **options: The keywords of `kerasdiffusion.StableDiffusion`.

    Example:

    >>> model = StableDiffusion(128, 128, weights="emoji")
    >>> model.text_to_image("a red apple", batch_size=2, num_steps=4).shape
    (2, 128, 128, 3)
    """

    version = 1
    saved_as = "kerasdiffusion.keras_cv"

    def __init__(
        self,
        img_height: int = 512,
        img_width: int = 512,
        jit_compile: bool | str = "auto",
        **options,
    ):
        if options.get("config") is None:
            options.setdefault("weights", sources.preset(self.version))
        size = _rounded(img_height), _rounded(img_width)
        super().__init__(*size, jit_compile, **options)
        if tuple(self.config.parts) != tuple(_NETWORKS):
            raise ValueError(
                "KerasCV's Stable Diffusion has one text encoder; "
                "`kerasdiffusion.StableDiffusion` takes models of others. "
                f"Received: a model of {', '.join(self.config.parts)}"
            )

    def encode_text(self, prompt) -> np.ndarray:
        """The context of a prompt of at most 77 tokens, read as plain text.

        Args:
            prompt: A string, or a list of them.

        Returns:
            float32 array of shape `(prompts, 77, width)`.

        Raises:
            ValueError: If the prompt is longer, or has a token that was added to the
                tokenizer and not to the text encoder.
        """
        most = self.tokenizer.config.context_length
        size = self.config.text_encoder.vocabulary_size
        for text in check_prompts(prompt):
            ids = self.tokenizer.encode(text)
            if len(ids) > most:
                raise ValueError(
                    f"Prompt is too long (should be <= {most} tokens); "
                    "`kerasdiffusion.StableDiffusion` takes any length. Received: "
                    f"{len(ids)} tokens in {shown(text)}"
                )
            if max(ids) >= size:
                raise ValueError(
                    f"A prompt's tokens must be below {size}, the text encoder's "
                    "vocabulary: with tokens that were added, set `_text_encoder` to a "
                    "`TextEncoder` of a larger `vocab_size`. Received: token "
                    f"{max(ids)} in {shown(text)}"
                )
        return super().encode_text(prompt, prompt_weighting="none")

    def text_to_image(
        self,
        prompt,
        negative_prompt=None,
        batch_size: int = 1,
        num_steps: int = 50,
        unconditional_guidance_scale: float = 7.5,
        seed: int | None = None,
        **options,
    ) -> np.ndarray:
        """Pictures of a prompt; see `generate_image`."""
        count = check_count(batch_size, "batch_size")
        encoded = np.repeat(self.encode_text(prompt), count, axis=0)
        return self.generate_image(
            encoded,
            negative_prompt,
            len(encoded),
            num_steps,
            unconditional_guidance_scale,
            seed=seed,
            **options,
        )

    def generate_image(
        self,
        encoded_text,
        negative_prompt=None,
        batch_size: int = 1,
        num_steps: int = 50,
        unconditional_guidance_scale: float = 7.5,
        diffusion_noise=None,
        seed: int | None = None,
        **options,
    ) -> np.ndarray:
        """Pictures of an encoded prompt.

        Args:
            encoded_text: What `encode_text` gives, of shape `(77, width)` or with a
                batch before it.
            negative_prompt: What to keep away from, a string or its context.
            batch_size: Pictures of one prompt; with several, as many or 1.
            num_steps: Denoising steps.
            unconditional_guidance_scale: How strongly the prompt guides.
            diffusion_noise: Noise to begin with, unit normal, of shape `(height / 8,
                width / 8, 4)` or with a batch before it.
            seed: A whole number, in place of noise.
            **options: The keywords of `kerasdiffusion.StableDiffusion`.

        Returns:
            uint8 array of shape `(pictures, height, width, 3)`.

        Raises:
            ValueError: If noise and a seed are given.
        """
        if diffusion_noise is not None and seed is not None:
            raise ValueError(
                "`diffusion_noise` and `seed` should not both be passed to "
                "`generate_image`: a seed stands for noise. Received: both"
            )
        if isinstance(negative_prompt, str):
            negative_prompt = self.encode_text(negative_prompt)
        encoded = np.asarray(backend.to_numpy(encoded_text))
        count = len(encoded) if encoded.ndim == 3 and len(encoded) > 1 else batch_size
        if diffusion_noise is None and "rng" not in options:
            shape = (check_count(count, "batch_size"), *self.latent_shape)
            diffusion_noise = keras.random.normal(shape, dtype="float32", seed=seed)
            seed = None
        if diffusion_noise is not None:
            diffusion_noise = np.asarray(backend.to_numpy(diffusion_noise))
        return super().generate_image(
            encoded,
            negative_prompt,
            batch_size,
            unconditional_guidance_scale=unconditional_guidance_scale,
            diffusion_noise=diffusion_noise,
            seed=seed,
            **{"prompt_weighting": "none", **_steps(num_steps, options), **options},
        )

    def inpaint(
        self,
        prompt,
        image,
        mask,
        negative_prompt=None,
        num_resamples: int = 1,
        batch_size: int = 1,
        num_steps: int = 25,
        unconditional_guidance_scale: float = 7.5,
        diffusion_noise=None,
        seed: int | None = None,
        verbose: bool = True,
        **options,
    ) -> np.ndarray:
        """Pictures of which a part is painted anew, by KerasCV's order and mask.

        Those of its first versions: KerasCV 0.9 has no `inpaint`.

        Args:
            prompt: A string.
            image: Numbers in [0, 255], of shape `(height, width, 3)`.
            mask: 1 where the picture **stays**, 0 where it is painted, of shape
                `(height, width)`. (In `kerasdiffusion.StableDiffusion.inpaint` it is
                the other way round.)
            verbose: Whether there is a progress bar.

        The other arguments and the result are those of `generate_image`.

        Raises:
            TypeError: If the prompt is no string.
            ValueError: If the mask is not of 0 and 1, or for `num_resamples` other than
                1 and `diffusion_noise`, which this library does not have here.
        """
        if not isinstance(prompt, str):
            raise TypeError(
                "The order is `inpaint(prompt, image, mask)`, as in KerasCV, and the "
                f"prompt is a string. Received: {shown(prompt)}"
            )
        if num_resamples != 1 or diffusion_noise is not None:
            raise ValueError(
                "`inpaint` draws its noise once, from a seed: `num_resamples` must be "
                f"1 and `diffusion_noise` None. Received: {num_resamples}, "
                f"{type(diffusion_noise).__name__}"
            )
        picture = np.squeeze(np.asarray(backend.to_numpy(image), "float32"))
        stays = np.squeeze(np.asarray(backend.to_numpy(mask)))
        if not np.isin(stays, (0, 1)).all():
            raise ValueError(
                "`mask` must be of 0 (painted) and 1 (stays). Received: values from "
                f"{stays.min()} to {stays.max()}"
            )
        return super().inpaint(
            np.clip(np.round(picture), 0, 255).astype("uint8"),
            stays == 0,
            prompt,
            negative_prompt,
            batch_size,
            num_steps,
            unconditional_guidance_scale,
            seed,
            **{
                "prompt_weighting": "none",
                "progress_bar": verbose,
                "sampler": "ddim",
                "spacing": "linspace",
                **options,
            },
        )

    @property
    def tokenizer(self) -> SimpleTokenizer:
        """Prompts to tokens, with `encode` and `add_tokens`."""
        if not isinstance(self._tokenizer, SimpleTokenizer):
            self._tokenizer = SimpleTokenizer.of(super().tokenizer)
        return self._tokenizer

    def __setattr__(self, name, value):
        if name.removeprefix("_") in _NETWORKS and name.startswith("_"):
            self._replace(name.removeprefix("_"), value)
        else:
            super().__setattr__(name, value)

    def __getattr__(self, name):
        if name.removeprefix("_") in _NETWORKS and name.startswith("_"):
            return getattr(self, name.removeprefix("_"))
        return super().__getattr__(name)

    def _replace(self, part: str, network) -> None:
        """A network in place of another, from now on."""
        if not isinstance(network, _NETWORKS[part]):
            raise TypeError(
                f"`_{part}` must be a `kerasdiffusion.keras_cv` "
                f"{_NETWORKS[part].__name__}. Received: {type(network).__name__}"
            )
        self.build()
        self._tracker.unlock()
        self._parts.pop(part)
        self._parts[part] = network
        self._tracker.lock()
        self.config = self.config.replace(**{parts.PARTS[part][1]: network.config})
        self._programs.clear()

    @property
    def _goes_ahead(self) -> bool:
        # Networks of KerasCV's kind are made in `_make` alone.
        return False

    def _make(self, names) -> dict:
        how = self.precision, self._sources
        with self._place():
            made = parts.make_networks(self.config, names, *how, _NETWORKS)
            parts.read(made, self._sources)
        return made


class StableDiffusionV2(StableDiffusion):
    """Stable Diffusion 2 by KerasCV's arguments: 2.1 of 512 pixels."""

    version = 2


def _rounded(size):
    """As KerasCV rounds what no autoencoder takes."""
    return size if not isinstance(size, int) or size % 8 == 0 else _to_128(size)


def _to_128(size: int) -> int:
    return max(round(size / 128), 1) * 128


def _steps(num_steps, options) -> dict:
    """KerasCV's steps: DDIM at even training steps, with the first and the last."""
    if options.get("timesteps") is not None or options.get("sigmas") is not None:
        return {}
    if options.get("sampler") is not None or options.get("spacing") is not None:
        return {"num_steps": num_steps}
    count = check_count(num_steps, "num_steps")
    if count > 1000:
        raise ValueError(f"`num_steps` must be from 1 to 1000. Received: {count}")
    steps = np.round(np.arange(count) * (999 / max(count - 1, 1))).astype(int)
    timesteps = [999] if count == 1 else steps[::-1].tolist()
    return {"sampler": "ddim", "timesteps": timesteps}
