"""StableDiffusion: the Keras model, and its tasks as methods.

A method makes a `Request`; the task's page (`tasks.pages`) makes a `Plan` of it; a
`Run` paints what is planned.
"""

from __future__ import annotations

import numpy as np

from kerasdiffusion.requests.request import Request
from kerasdiffusion.requests.signatures import check_arguments, takes_request
from kerasdiffusion.tasks.pages import PAGES
from kerasdiffusion.tasks.plan import Plan
from kerasdiffusion.tasks.refining import with_refiner
from kerasdiffusion.tasks.run import Run
from kerasdiffusion.tasks.words import ReadsWords
from kerasdiffusion.weights.load import Source


class StableDiffusion(ReadsWords):
    """Text in, pictures out: Stable Diffusion as a Keras model.

    The constructor is KerasCV's and makes Stable Diffusion 1.4, `from_preset` any other
    model. Nothing is fetched or built before it is used.

    Args:
        img_height: Height of the pictures in pixels, a multiple of 8.
        img_width: Width of the pictures in pixels, a multiple of 8.
        jit_compile: Whether to compile by XLA; `"auto"` does on GPUs and TPUs.
            `"openvino"` compiles by OpenVINO, on CPUs and the TensorFlow backend; it
            has a copy of the weights, and compiles anew where they have changed.
        precision: Dtype policy of the networks, one of `backend.PRECISIONS`. `"auto"`
            takes the global policy where one was set, else half precision on a GPU
            or TPU, bfloat16 on a CPU with AMX (TensorFlow, PyTorch) and float32 on
            others.
        config: What the model is made of, a `ModelConfig`; by default what `weights`
            says, or Stable Diffusion 1.
        weights: Where the weights are, as in `from_preset`; `None` begins with random
            ones.
        vae: Where another autoencoder comes from: a folder, a file or a dict of files
            by part; a tiny one (TAESD) too. `weights` may lack parts that are given.
        text_encoder: The same for the (first) text encoder.
        text_encoder_2: The same for SDXL's second one.
        unet: The same for the U-Net: a distilled one (Lightning, Hyper-SD) in SDXL.
        strict: Whether tensors that no network has are an error, or left out.
        prediction_type: `"epsilon"`, `"v_prediction"` or `"sample"`, where the weights
            do not say: a single file of Stable Diffusion 2 is taken to predict v
            unless its name has `base`, `512` or `turbo` in it. Try the other for noise.
        zero_terminal_snr: Whether the last training step is noise alone, likewise.
        tokenizer: A `Tokenizer`; by default that of the weights, or CLIP's.
        tiling: Whether the autoencoder takes pictures in overlapping tiles, which needs
            less memory and some five times as long: `True`, `False`, or the side of a
            tile in pixels, 192 by default. `"auto"` does for more pixels than
            1536 x 1536 have. Tiles share the whole picture's statistics and see beyond
            their edges: the result is the untiled one's, to rounding. A tiny
            autoencoder never does.
        low_memory: Whether the text encoder, the U-Net and the autoencoder's halves
            are in memory one at a time: each is read when a picture needs it, every
            time, and given up after. The pictures are the same. A part that you take
            from the model (`model.diffusion_model`), train or save stays, with all
            that it learns. `"smallest"` does so too, and reads the kernels of text
            encoder and U-Net into 8 bits, as `quantize` keeps them: the least memory,
            and pictures that differ a little.

    Raises:
        ValueError: If the size is no multiple of 8, or an option is none of those.

    Example:

    >>> model = StableDiffusion.from_preset("emoji")
    >>> pictures = model.text_to_image("a red apple on a blue background", seed=1)
    >>> pictures.shape, pictures.dtype
    ((1, 128, 128, 3), dtype('uint8'))

    Reference:
        Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion
        Models".
    """

    @classmethod
    def from_preset(cls, source: Source, **overrides) -> StableDiffusion:
        """A model by name, from the hub, a folder or a file; its weights are read.

        Args:
            source: A name in `PRESETS` (`"emoji"` is in the package); `hf://owner/name`;
                a folder in diffusers' layout or with KerasCV's files; a file
                (`.safetensors`, `.ckpt`); or a dict from part to file.
            **overrides: Arguments of the constructor.

        Returns:
            A `StableDiffusion`.

        Raises:
            TypeError: If the constructor takes no such argument.
            WeightsError: If the source is no model, or cannot be read.
        """
        check_arguments(cls, (), overrides)
        model = cls(weights=source, **overrides)
        if not model.low_memory:
            model.build()
        return model

    def plan(self, request: Request) -> Plan:
        """What a request asks for, checked against this model: nothing is computed yet.

        Args:
            request: A `Request`.

        Returns:
            A `Plan`, for a `Run`.

        Raises:
            TypeError: If something is of the wrong type.
            ValueError: If it is out of its range, or not for this model.
        """
        if not isinstance(request, Request):
            raise TypeError(
                f"`request` must be a `Request(task=..., ...)`. Received: {request!r}"
            )
        return PAGES[request.task](self, with_refiner(self, request))

    def run(self, request: Request) -> Run:
        """A request as steps to iterate, watch and stop; nothing is computed yet.

        Every task is `model.run(request).pictures()`. The arguments and the errors are
        those of `plan`.

        Returns:
            A `Run`.

        Example:

        >>> model = StableDiffusion.from_preset("emoji")
        >>> run = model.run(Request(task="text_to_image", prompt="a cat", num_steps=3))
        >>> [step.step for step in run], run.pictures().shape
        ([1, 2, 3], (1, 128, 128, 3))
        """
        return Run(self.plan(request))

    def _painted(self, request: Request) -> np.ndarray:
        return self.run(request).pictures(request.callback, request.progress_bar)

    @takes_request("text_to_image")
    def text_to_image(self, request: Request) -> np.ndarray:
        """Pictures of a prompt.

        Returns:
            uint8 array of shape `(pictures, height, width, 3)`.

        Raises:
            TypeError: If a prompt is no string, a number no number, or there is no such
                option.
            ValueError: If a value is out of its range.

        Example:

        >>> model = StableDiffusion.from_preset("emoji")
        >>> model.text_to_image(["a cat", "a dog"], batch_size=2, seed=0).shape
        (4, 128, 128, 3)
        """
        return self._painted(request)

    @takes_request("generate_image")
    def generate_image(self, request: Request) -> np.ndarray:
        """Pictures of encoded prompts, the second half of `text_to_image`.

        Returns:
            As `text_to_image`, which has the same errors.
        """
        return self._painted(request)

    @takes_request("image_to_image")
    def image_to_image(self, request: Request) -> np.ndarray:
        """Pictures of a prompt that begin with a picture, as an example or a sketch.

        The picture becomes latents, these become noisy, and the last steps paint from
        there. The results have the picture's own size: where that is no multiple of the
        autoencoder's 8 pixels, the right and lower edge are repeated up to one, and cut
        off in the end.

        Returns:
            uint8 array of shape `(pictures, height, width, 3)`.

        Example:

        >>> model = StableDiffusion.from_preset("emoji")
        >>> sketch = np.full((128, 128, 3), 255, "uint8")
        >>> sketch[32:96, 32:96] = (220, 30, 30)
        >>> model.image_to_image(sketch, "a red apple", strength=0.7).shape
        (1, 128, 128, 3)

        Reference:
            Meng et al. 2022, "SDEdit: Guided Image Synthesis and Editing with
            Stochastic Differential Equations", section 3; CompVis `scripts/img2img.py`.
        """
        return self._painted(request)

    @takes_request("inpaint")
    def inpaint(self, request: Request) -> np.ndarray:
        """Pictures of which a part is painted anew; all else is the input's own pixels.

        Returns:
            uint8 array of shape `(pictures, height, width, 3)`.

        Example:

        >>> model = StableDiffusion.from_preset("emoji")
        >>> picture = model.text_to_image("a red apple on a blue background", seed=1)[0]
        >>> mask = np.zeros((128, 128), bool)
        >>> mask[16:112, 16:112] = True
        >>> painted = model.inpaint(picture, mask, "a dog on a blue background")
        >>> print((painted[0] == picture)[~mask].all())
        True

        Reference:
            Lugmayr et al. 2022, "RePaint: Inpainting using Denoising Diffusion
            Probabilistic Models", equation 8; CompVis latent-diffusion
            `ldm/models/diffusion/ddim.py` (`mask`); for U-Nets that are told, runwayml
            stable-diffusion `scripts/inpaint_st.py`.
        """
        return self._painted(request)

    @takes_request("outpaint")
    def outpaint(self, request: Request) -> np.ndarray:
        """Pictures that go on beyond their edges; the given pixels stay as they are.

        The new pixels are painted in windows of the model's own size, from the picture
        outward. Each window overlaps what is there already, and is inpainted. Pictures
        to follow (`control`) have the result's height and width; each window follows
        its part of them.

        Returns:
            uint8 array of shape `(pictures, top + height + bottom, left + width +
            right, 3)`.

        Example:

        >>> model = StableDiffusion.from_preset("emoji")
        >>> picture = model.text_to_image("a red apple on a blue background", seed=1)[0]
        >>> wide = model.outpaint(picture, "a blue background", left=32, right=32)
        >>> print(wide.shape, (wide[0, :, 32:160] == picture).all())
        (1, 128, 192, 3) True
        """
        return self._painted(request)

    @takes_request("depth_to_image")
    def depth_to_image(self, request: Request) -> np.ndarray:
        """Pictures of a prompt that keep a picture's shapes: for depth models.

        As `image_to_image`, by a U-Net that sees a depth map beside the latents. So
        even at full strength what is in the picture stays where it is.

        Returns:
            uint8 array of shape `(pictures, height, width, 3)`.

        Raises:
            TypeError: If something has the wrong type.
            ValueError: If a value is out of its range, the U-Net takes no depth map
                (5 channels), or there is none and nothing to estimate it.

        Example:

        ```python
        model = StableDiffusion.from_preset("sd2-depth")
        pictures = model.depth_to_image("room.jpg", "a room in a palace", depth="z.png")
        ```

        Reference:
            Stability-AI/stablediffusion `scripts/gradio/depth2img.py`; Ranftl et al.
            2022, "Towards Robust Monocular Depth Estimation" (MiDaS).
        """
        return self._painted(request)

    @takes_request("edit")
    def edit(self, request: Request) -> np.ndarray:
        """The picture as an instruction changes it: for InstructPix2Pix.

        Returns:
            uint8 array of shape `(pictures, height, width, 3)`.

        Raises:
            TypeError: If something has the wrong type.
            ValueError: If a value is out of its range, or the U-Net does not take a
                picture's latents beside the others (8 channels).

        Example:

        ```python
        model = StableDiffusion.from_preset("instruct-pix2pix")
        pictures = model.edit("street.jpg", "make it winter", image_guidance_scale=1.2)
        ```

        Reference:
            Brooks et al. 2023, "InstructPix2Pix: Learning to Follow Image Editing
            Instructions", section 3.2.1.
        """
        return self._painted(request)

    @takes_request("upscale")
    def upscale(self, request: Request) -> np.ndarray:
        """The picture four times as high and wide: for the x4 upscaler.

        A large result is decoded in tiles, see `tiling` of `StableDiffusion`.

        Returns:
            uint8 array of shape `(pictures, 4 * height, 4 * width, 3)`.

        Raises:
            TypeError: If something has the wrong type.
            ValueError: If a value is out of its range, or the model is no upscaler.

        Example:

        ```python
        model = StableDiffusion.from_preset("sd2-upscaler")
        pictures = model.upscale("small.png", "a cat on a sofa")
        ```

        Reference:
            Ho et al. 2022, "Cascaded Diffusion Models for High Fidelity Image
            Generation", section 4; Stability-AI/stablediffusion
            `ldm/models/diffusion/ddpm.py`, `LatentUpscaleDiffusion`.
        """
        return self._painted(request)

    @takes_request("interpolate")
    def interpolate(self, request: Request) -> np.ndarray:
        """Pictures on the way from prompt to prompt, and from seed to seed.

        Prompts and seeds are spread evenly over the frames, each on their own: three
        prompts and two seeds are at the first, the middle and the last frame, and at
        the first and the last. Everything that a prompt may say goes along: editing
        and `AND`, the pooled text of SDXL, the negative prompt. The noise that samplers
        add on the way is mixed like the first. A callback that returns `False` ends the
        walk. A control has one picture for all frames or one for each.

        Returns:
            uint8 array of shape `(frames, height, width, 3)`, for
            `animations.save_animation`.

        Raises:
            TypeError: If an argument is not of its type.
            ValueError: If there is nowhere to walk, one prompt and one seed, or an
                argument is out of its range.

        Example:

        >>> model = StableDiffusion.from_preset("emoji")
        >>> model.interpolate(["a cat", "a dog"], frames=3, num_steps=2, seed=1).shape
        (3, 128, 128, 3)

        Reference:
            Song et al. 2021, "Denoising Diffusion Implicit Models", section 5.3 and
            appendix D.5 (spherical); keras.io, "A walk through latent space with Stable
            Diffusion".
        """
        return self._painted(request)

    @takes_request("circular_walk")
    def circular_walk(self, request: Request) -> np.ndarray:
        """Pictures of a prompt around a circle through noise.

        Two noises span the circle: the frame at an angle begins with the cosine of it
        times the first and the sine of it times the second. The last frame is the one
        before the first. Several prompts make a closed walk beside.

        Returns:
            As `interpolate`, which has the same errors.

        Example:

        >>> model = StableDiffusion.from_preset("emoji")
        >>> model.circular_walk("a cat", frames=3, num_steps=2, seed=1).shape
        (3, 128, 128, 3)

        Reference:
            keras.io, "A walk through latent space with Stable Diffusion", the circular
            walk through the noise of one prompt.
        """
        return self._painted(request)
