import dataclasses
import inspect

from kerasdiffusion import StableDiffusion
from kerasdiffusion.requests.options import Options


def test_the_options_stand_in_the_signature_of_every_task():
    shared = [field.name for field in dataclasses.fields(Options)]
    for task in (
        StableDiffusion.text_to_image,
        StableDiffusion.generate_image,
        StableDiffusion.image_to_image,
        StableDiffusion.interpolate,
        StableDiffusion.circular_walk,
    ):
        parameters = inspect.signature(task).parameters
        assert list(parameters)[-len(shared) :] == shared
        assert parameters["sampler"].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters["progress_bar"].default is True
        assert "options" not in parameters


def test_every_option_is_documented():
    for field in dataclasses.fields(Options):
        assert f"    {field.name}: " in Options.__doc__
