"""KerasCV's Stable Diffusion under its own names, in front of this library.

Code and guides that were written for KerasCV run when `keras_cv` in their imports
becomes `kerasdiffusion.keras_cv`. What each name is and where it differs stands in
`docs/keras_cv.md`. A framework loads when a name is used.

```python
from kerasdiffusion import keras_cv

model = keras_cv.models.StableDiffusion(img_height=512, img_width=512)
pictures = model.text_to_image("a red apple on a blue background", batch_size=3)
```
"""

import importlib

from kerasdiffusion.keras_cv.sources import use

__all__ = ["layers", "models", "use"]


def __getattr__(name):
    if name in ("layers", "models"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}: of KerasCV it has Stable "
        "Diffusion and what its guides use, in `models` and `layers`"
    )


def __dir__():
    return sorted(__all__)
