"""The networks themselves, as Keras models."""


def __getattr__(name):
    hint = ""
    if name.startswith("StableDiffusion"):
        hint = (
            f": the model is `kerasdiffusion.StableDiffusion`, and KerasCV's "
            f"`kerasdiffusion.keras_cv.models.{name}`"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
