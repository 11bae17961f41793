"""OpenAI's images API, asked by OpenAI's own client: against a real server."""

import asyncio
import base64
import io

import numpy as np
import openai
import pytest
from PIL import Image

from kerasdiffusion.pictures.generation_parameters import parse_parameters
from kerasdiffusion.requests.request import Request
from tests.apps.server.test_web_ui import near, noise
from tests.tiny import TEXTS

SHORT = {"steps": 2, "seed": 7}


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)


def pictures(answer):
    contents = [base64.b64decode(each.b64_json) for each in answer.data]
    return [Image.open(io.BytesIO(content)) for content in contents]


def png(image, mode="RGB"):
    out = io.BytesIO()
    image.convert(mode).save(out, "PNG")
    return out.getvalue()


def hole():
    """A mask as OpenAI has them: clear where something is to be painted."""
    mask = Image.new("RGBA", (32, 32), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (8, 8, 24, 24))
    out = io.BytesIO()
    mask.save(out, "PNG")
    return out.getvalue()


def test_it_paints_what_python_paints(client, models):
    answer = client.images.generate(
        prompt=TEXTS[0],
        n=2,
        size="auto",
        extra_body={**SHORT, "negative_prompt": "blurry", "guidance_scale": 4.0},
    )
    request = Request(
        task="text_to_image",
        prompt=TEXTS[0],
        batch_size=2,
        num_steps=2,
        seed=7,
        negative_prompt="blurry",
        unconditional_guidance_scale=4.0,
    )
    wanted = models.get("emoji").run(request).pictures()
    assert all(map(near, pictures(answer), wanted))
    assert (answer.size, answer.output_format) == ("32x32", "png")
    said = parse_parameters(pictures(answer)[1].info["parameters"])
    assert (said["seed"], said["guidance_scale"]) == (8, 4.0)


def test_sizes_formats_and_qualities(client):
    answer = client.images.generate(
        prompt=TEXTS[0],
        model="emoji",
        size="48x32",
        quality="low",
        output_format="webp",
        output_compression=50,
        background="opaque",
        user="me",
    )
    (picture,) = pictures(answer)
    assert picture.size == (48, 32) and picture.format == "WEBP"
    low = client.images.generate(prompt="", quality="low")
    said = parse_parameters(pictures(low)[0].info["parameters"])
    assert said["steps"] == 2  # the model's four, halved


def test_an_address_leads_to_the_picture(client, ask, server):
    answer = client.images.generate(
        prompt=TEXTS[0], response_format="url", extra_body=SHORT
    )
    (url,) = [each.url for each in answer.data]
    assert url.startswith(server.url)
    content = ask("GET", url.removeprefix(server.url)).body
    assert Image.open(io.BytesIO(content)).size == (32, 32)


@pytest.mark.parametrize("kind", ["generate", "edit"])
def test_it_streams_previews_and_then_the_picture(client, kind):
    more = {"image": png(noise())} if kind == "edit" else {}
    call = getattr(client.images, kind)
    events = list(
        call(
            prompt=TEXTS[0],
            stream=True,
            partial_images=2,
            extra_body={"steps": 60, "seed": 1},
            **more,
        )
    )
    name = "image_generation" if kind == "generate" else "image_edit"
    assert [event.type for event in events] == [
        f"{name}.partial_image",
        f"{name}.partial_image",
        f"{name}.completed",
    ]
    assert [event.partial_image_index for event in events[:2]] == [0, 1]
    for event in events:
        Image.open(io.BytesIO(base64.b64decode(event.b64_json))).load()
    assert events[2].usage.total_tokens == 0


def test_it_serves_the_asynchronous_client(server):
    async def paint():
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="any"
        ) as client:
            calls = [
                client.images.generate(prompt=text, extra_body=SHORT)
                for text in TEXTS[:2]
            ]
            return await asyncio.gather(*calls)

    first, second = asyncio.run(paint())
    assert not near(pictures(first)[0], pictures(second)[0])


def test_a_mask_says_what_is_painted(client):
    before = noise()
    answer = client.images.edit(
        image=png(before), mask=hole(), prompt=TEXTS[1], extra_body=SHORT
    )
    changed = np.asarray(pictures(answer)[0]) != np.asarray(before)
    assert changed[8:24, 8:24].any()
    changed[8:24, 8:24] = False
    assert not changed.any()


def test_several_pictures_are_painted_over_each(client):
    answer = client.images.edit(
        image=[png(noise()), png(noise(1))],
        prompt=TEXTS[1],
        extra_body={**SHORT, "strength": 0.5},
    )
    assert len(answer.data) == 2


@pytest.mark.filterwarnings("ignore:deprecated")
def test_variations_are_like_the_picture(client):
    answer = client.images.create_variation(
        image=png(noise()), n=2, extra_body={**SHORT, "strength": 0.75}
    )
    found = [np.asarray(each).astype(int) for each in pictures(answer)]
    assert len(found) == 2 and np.abs(found[0] - found[1]).max() > 1


def test_models_are_listed(client):
    assert [each.id for each in client.models.list()] == ["emoji"]
    assert client.models.retrieve("emoji").owned_by == "kerasdiffusion"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("dall-e-3")


@pytest.mark.parametrize(
    "more, name",
    [
        ({"n": 65}, "n"),
        ({"n": 0}, "n"),
        ({"size": "9x"}, "size"),
        ({"size": "99999x99999"}, "size"),
        ({"size": "8192x8192"}, "size"),
        ({"quality": "best"}, "quality"),
        ({"background": "transparent"}, "background"),
        ({"output_format": "svg"}, "output_format"),
        ({"partial_images": 4}, "partial_images"),
        ({"extra_body": {"num_step": 2}}, "num_step"),
        ({"extra_body": {"seed": -2}}, "seed"),
        ({"extra_body": {"adapters": [["/etc/passwd", 1.0]]}}, "adapters"),
        ({"extra_body": {"image": "http://169.254.0.1/"}, "n": 99}, "n"),
        ({"extra_body": {"refiner": "/etc"}}, "refiner"),
    ],
)
def test_what_is_wrong_is_said_in_openais_way(client, more, name):
    with pytest.raises(openai.BadRequestError) as error:
        client.images.generate(**{"prompt": "", **more})
    assert error.value.param == name and error.value.type == "invalid_request_error"


def test_a_model_that_is_not_here_is_an_error_and_no_other_paints(client):
    with pytest.raises(openai.NotFoundError, match="this server has .emoji."):
        client.images.generate(prompt="", model="dall-e-3")


@pytest.mark.parametrize(
    "image, mask, rule",
    [
        (b"no picture", None, "`image` must be a picture"),
        (png(noise()), b"", "`mask` must be a picture"),
        (png(noise()), png(noise()), "`mask` must be a PNG that is clear"),
    ],
)
def test_what_is_no_picture_is_refused(client, image, mask, rule):
    more = {} if mask is None else {"mask": mask}
    with pytest.raises(openai.BadRequestError, match=rule):
        client.images.edit(image=image, prompt="", **more)


def test_a_form_is_a_form(ask):
    assert ask("POST", "/v1/images/edits", {"prompt": ""}).status == 400
    answer = ask("POST", "/v1/images/generations", b"{")
    assert answer.status == 400 and answer.body["error"]["message"]
