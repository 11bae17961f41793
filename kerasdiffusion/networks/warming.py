"""Programs compiled ahead of the first picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import ops

from kerasdiffusion.compute.within import Within
from kerasdiffusion.sampling import loop

_warming = Within("warming", False)
#: Tasks that begin with a picture, and what they take beside it and a prompt.
OF_PICTURES = {
    "image_to_image": lambda size: {},
    "inpaint": lambda size: {"mask": np.ones(size, bool)},
}


class Warming:
    """What a `LatentDiffusion` compiles ahead."""

    def warm_up(
        self,
        sizes: Sequence[tuple[int, int]] | None = None,
        batch_sizes: Sequence[int] = (1,),
        tasks: Sequence[str] = ("text_to_image",),
        **keywords,
    ) -> None:
        """Compiles what pictures of these sizes and batches will need; paints nothing.

        The first picture of a size, of a batch and of a kind of guidance is compiled
        for, which takes from seconds to minutes. What counts is how many there are and
        how large; prompts, seeds, steps, samplers and scales compile nothing anew.

        Args:
            sizes: Heights and widths, in pixels; the model's own by default. Those of
                `"text_to_image"` other than that are compiled as a picture of it is.
            batch_sizes: Pictures of one call: `batch_size`, or times as many prompts.
            tasks: Names of methods: `"text_to_image"`, `"image_to_image"`, `"inpaint"`.
            **keywords: Of the tasks, where they change what is computed: no guidance
                (`unconditional_guidance_scale=1.0`), `control`, `pag_scale`, ...

        Raises:
            TypeError: If the tasks take no such keyword.
            ValueError: If there is no such task, or a value is out of its range.

        Example:

        >>> model = StableDiffusion.from_preset("emoji")
        >>> model.warm_up(batch_sizes=(1, 4))
        >>> pictures = model.text_to_image("a cat", batch_size=4)  # compiles nothing
        """
        own = (self.img_height, self.img_width)
        known = ("text_to_image", *OF_PICTURES)
        tasks = [tasks] if isinstance(tasks, str) else list(tasks)
        for task in tasks:
            if task not in known:
                raise ValueError(
                    f"`tasks` must be of {', '.join(known)}. Received: {task!r}"
                )
        keywords = {"num_steps": 1, "seed": 0, "progress_bar": False, **keywords}
        for size in [own] if sizes is None else sizes:
            for batch_size in batch_sizes:
                for task in tasks:
                    self._warm(task, tuple(size), batch_size, keywords)

    def _warm(self, task: str, size, batch_size: int, keywords) -> None:
        more = {"batch_size": batch_size, **keywords}
        with _warming.set(True):
            if task == "text_to_image" and size == (self.img_height, self.img_width):
                self.text_to_image("", **more)
                return
            task = "image_to_image" if task == "text_to_image" else task
            if task == "image_to_image":  # all of the table's steps
                more.setdefault("strength", 1.0)
            picture = np.full((*size, 3), 128, np.uint8)
            beside = OF_PICTURES[task](size)
            getattr(self, task)(picture, prompt="", **beside, **more)


def is_warming() -> bool:
    """Whether what this thread paints is for its programs alone."""
    return _warming.get()


def without_steps(program, args: tuple) -> loop.Carry:
    """Compiles a program of `loop.run`, and gives latents of zeros.

    Args:
        program: A `backend.Program`.
        args: Of `loop.run`, and what is ahead of them.
    """
    carry = args[-6]
    # A program of one row at each call has to make that.
    program(*(loop.without_rows(*args) if program.goes_round else args))
    return carry._replace(x=ops.zeros_like(carry.x))
