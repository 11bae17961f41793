"""The bundled model behind all three APIs: the same picture of the same request."""

import base64
import io
import time

import numpy as np
import openai
import pytest
import webuiapi
from PIL import Image

from kerasdiffusion.apps.server.core import Settings
from kerasdiffusion.apps.server.models import Models
from tests.apps.server.conftest import call, serving

APPLE = "a red apple on a blue background"


@pytest.fixture(scope="module")
def bundled():
    found = serving(Settings(Models()))
    yield found
    found.end()


def test_three_clients_paint_one_apple(bundled):
    values = {"prompt": APPLE, "num_steps": 4, "seed": 1, "sampler": "euler"}
    values |= {"unconditional_guidance_scale": 5.0, "rng": "torch-cuda"}
    client = openai.OpenAI(base_url=f"{bundled.url}/v1", api_key="any")
    extra = {name: value for name, value in values.items() if name != "prompt"}
    answer = client.images.generate(
        prompt=APPLE, extra_body=extra | {"spacing": "normal"}
    )
    by_openai = Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json)))

    web_ui = webuiapi.WebUIApi(baseurl=f"{bundled.url}/sdapi/v1")
    found = web_ui.txt2img(
        prompt=APPLE,
        steps=4,
        seed=1,
        sampler_name="Euler",
        cfg_scale=5,
        width=128,
        height=128,
    )
    job = {"task": "text_to_image", **values, "spacing": "normal"}
    id = call(bundled.url, "POST", "/jobs", job).body["id"]
    while (told := call(bundled.url, "GET", f"/jobs/{id}").body)["state"] != "done":
        assert told["state"] in ("queued", "running"), told
        time.sleep(0.05)
    content = call(bundled.url, "GET", told["pictures"][0]).body
    pictures = [by_openai, found.image, Image.open(io.BytesIO(content))]
    first, *others = (np.asarray(each) for each in pictures)
    assert first.shape == (128, 128, 3)
    assert all(np.array_equal(first, each) for each in others)
