"""Methods whose signature and docstring come from the fields."""

import inspect

import pytest

from kerasdiffusion.requests.fields import POSITIONAL
from kerasdiffusion.requests.request import Request, fields_of
from kerasdiffusion.requests.signatures import check_arguments, takes_request


class Face:
    @takes_request("inpaint")
    def inpaint(self, request: Request) -> Request:
        """Paints a part.

        Returns:
            The request.
        """
        return request


def test_the_signature_has_every_field_of_the_task():
    parameters = inspect.signature(Face.inpaint).parameters
    names = list(parameters)
    assert names[: 1 + len(POSITIONAL["inpaint"])] == ["self", *POSITIONAL["inpaint"]]
    assert set(names) == {"self", *fields_of("inpaint")}
    assert parameters["strength"].default == 1.0
    assert parameters["sampler"].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters["image"].default is inspect.Parameter.empty


def test_the_docstring_has_every_field_ahead_of_what_is_returned():
    text = Face.inpaint.__doc__
    for name in fields_of("inpaint"):
        assert f"\n    {name}: " in text
    assert text.startswith("Paints a part.\n\nArgs:\n    image: ")
    assert text.rstrip().endswith("Returns:\n    The request.")
    assert max(map(len, text.splitlines())) <= 84


def test_what_is_passed_by_position_and_name_is_one_request():
    found = Face().inpaint("a.png", "m.png", "x", "dark", 2, 3, 7.5, 4, feather=8)
    assert found == Request(
        task="inpaint",
        image="a.png",
        mask="m.png",
        prompt="x",
        negative_prompt="dark",
        batch_size=2,
        num_steps=3,
        unconditional_guidance_scale=7.5,
        seed=4,
        feather=8,
    )


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"guidance_scale": 3}, "no `guidance_scale`: it is `unconditional_guidance"),
        ({"num_inference_steps": 3}, "it is `num_steps` here"),
        ({"generator": 3}, "it is `seed` here"),
        ({"denoising_strength": 0.5}, "it is `strength` here"),
        ({"height": 64}, "the size is the model's, StableDiffusion.from_preset"),
        ({"frames": 3}, "takes no `frames`: it is for interpolate, circular_walk"),
        ({"smapler": "ddim"}, "Did you mean sampler"),
        ({"options": 3}, "`inpaint` takes image, mask, prompt"),
    ],
)
def test_a_wrong_keyword_leads_to_the_right_one(keywords, message):
    with pytest.raises(TypeError, match=message) as caught:
        Face().inpaint("a.png", "m.png", "x", **keywords)
    assert "Received: " in str(caught.value)
    if "options" not in keywords:
        assert len(str(caught.value)) < 200


class Base:
    def __init__(self, img_height=None, precision="auto"):
        pass


class Derived(Base):
    def __init__(self, mine=None, **options):
        super().__init__(**options)


@pytest.mark.parametrize(
    ("cls", "args", "keywords", "message"),
    [
        (Base, (), {"height": 3}, "`Base` takes no `height`: it is `img_height` here"),
        (Derived, (), {"dtype": 3}, "`Derived` takes no `dtype`: it is `precision`"),
        (Derived, (), {"precison": 3}, "`Derived` .* Did you mean precision"),
        (Base, (), {"cfg_scale": 3}, "tasks take it, as `unconditional_guidance_scal"),
        (Base, (1, 2, 3), {}, "`Base`: too many positional arguments"),
    ],
)
def test_a_class_refuses_under_the_name_that_was_called(cls, args, keywords, message):
    with pytest.raises(TypeError, match=message):
        check_arguments(cls, args, keywords)
    check_arguments(Derived, (), {"mine": 1, "img_height": 2})


def test_what_is_missing_is_said():
    with pytest.raises(TypeError, match="`inpaint`: missing a required argument: 'mas"):
        Face().inpaint("a.png")
