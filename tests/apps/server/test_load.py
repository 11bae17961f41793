"""Many clients at once: nothing lost, nothing mixed up, nobody forgotten.

`KERASDIFFUSION_LOAD` is how many seconds it goes on for, a minute by default; ten of
them are a proof.
"""

import base64
import io
import json
import os
import random
import threading
import time
import urllib.request
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from kerasdiffusion.apps.server.web_ui_fields import sampling
from kerasdiffusion.apps.server.web_ui_options import OPTIONS
from kerasdiffusion.requests.request import Request
from kerasdiffusion.tasks.sized import Sized
from tests.apps.server.conftest import call, serving
from tests.tiny import TEXTS

pytestmark = pytest.mark.heavy
SECONDS = float(os.environ.get("KERASDIFFUSION_LOAD", "60"))
CLIENTS, SEEDS, STEPS = 64, 4, 2
SIZES = ((32, 32), (32, 48))


def picture_of(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def by_web_ui(ask, what):
    text, seed, (height, width) = what
    values = {"prompt": text, "seed": seed, "height": height, "width": width}
    values |= {"steps": STEPS, "sampler_name": "Euler a"}
    answer = ask("/sdapi/v1/txt2img", values)
    return answer.status, answer.status == 200 and picture_of(answer.body["images"][0])


def by_openai(ask, what):
    text, seed, (height, width) = what
    values = {"prompt": text, "seed": seed, "size": f"{width}x{height}", "steps": STEPS}
    answer = ask("/v1/images/generations", values)
    if answer.status != 200:
        return answer.status, None
    return 200, picture_of(answer.body["data"][0]["b64_json"])


def by_jobs(ask, what):
    text, seed, (height, width) = what
    values = {"task": "text_to_image", "prompt": text, "seed": seed}
    values |= {"num_steps": STEPS, "height": height, "width": width}
    answer = ask("/jobs", values)
    if answer.status != 202:
        return answer.status, None
    id = answer.body["id"]
    while (found := ask(f"/jobs/{id}", None)).body["state"] in ("queued", "running"):
        time.sleep(0.05)
    assert found.body["state"] == "done", found.body
    content = ask(found.body["pictures"][0], None).body
    return 200, np.asarray(Image.open(io.BytesIO(content)))


WAYS = {"web_ui": by_web_ui, "openai": by_openai, "jobs": by_jobs}


def wanted(model, way, what):
    """The picture that Python paints alone."""
    text, seed, size = what
    fields = {"num_steps": STEPS}
    if way == "web_ui":
        settings = {name: option.default for name, option in OPTIONS.items()}
        fields = sampling("Euler a", None, STEPS, {}, settings, model.config)
    request = Request(task="text_to_image", prompt=text, seed=seed, **fields)
    return Sized(model, *size).run(request).pictures()[0].astype(int)


def compile_all(model):
    """What is compiled once for each size of a picture and of a batch."""
    for size in SIZES:
        for count in (1, 2, 4, 8, 16):
            request = Request(
                task="text_to_image", prompt="", batch_size=count, num_steps=1
            )
            for _ in Sized(model, *size).run(request).glances():
                pass


def memory():
    """What this process has, in MiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.fixture
def own(models, request):
    from kerasdiffusion.apps.server.core import Settings

    found = serving(Settings(models, queue=getattr(request, "param", 96)))
    yield found
    found.end()


def asker(url, name):
    def ask(path, values):
        method = "GET" if values is None else "POST"
        return call(url, method, path, values, X_Client=name)

    return ask


@pytest.mark.parametrize("own", [256], indirect=True)
def test_sixty_four_clients_get_what_they_asked_for_in_turn(own, models):
    model = models.get("emoji")
    compile_all(model)
    seen, waits, failures = {}, {}, []
    end = time.monotonic() + SECONDS

    def client(number):
        choose, ask = random.Random(number), asker(own.url, str(number))
        waits[number] = []
        way = list(WAYS)[number % 3]
        while time.monotonic() < end:
            what = choose.choice(TEXTS), choose.randrange(SEEDS), choose.choice(SIZES)
            began = time.monotonic()
            try:
                status, picture = WAYS[way](ask, what)
                assert status == 200, status
            except Exception as error:
                failures.append((number, repr(error)))
                return
            waits[number].append(time.monotonic() - began)
            seen.setdefault((way, what), []).append(picture)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(CLIENTS)]
    sizes = []
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(SECONDS / 20)
        sizes.append(memory())
    assert not failures
    counts = [len(each) for each in waits.values()]
    print(f"\n{sum(counts)} pictures, {min(counts)} to {max(counts)} a client")
    print(f"MiB: {[round(size) for size in sizes]}")
    assert min(counts) * 2 >= max(counts) - 1
    for (way, what), pictures in seen.items():
        picture = wanted(model, way, what)
        for each in pictures:
            assert np.abs(each.astype(int) - picture).max() <= 1, (way, what)
    half = len(sizes) // 2
    assert max(sizes[half:]) < 1.1 * max(sizes[:half]) + 100


def test_ten_times_too_much_is_shed_and_it_says_that_it_lives(own):
    statuses, slowest = Counter(), 0.0
    lock = threading.Lock()

    def client(number):
        ask = asker(own.url, f"crowd {number}")
        values = {"prompt": TEXTS[0], "steps": STEPS, "batch_size": 16}
        answer = ask("/sdapi/v1/txt2img", values)
        with lock:
            statuses[answer.status] += 1
        if answer.status == 429:
            assert int(answer.headers["Retry-After"]) >= 1
            assert "ask again later" in answer.body["detail"]

    threads = [threading.Thread(target=client, args=(i,)) for i in range(60)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        began = time.monotonic()
        with urllib.request.urlopen(f"{own.url}/health") as answer:
            assert json.loads(answer.read())["status"] == "ok"
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.05)
    print(f"\n{dict(statuses)}, /health within {slowest:.3f} s")
    assert set(statuses) == {200, 429} and statuses[429] > statuses[200] >= 3


def test_equal_requests_are_painted_in_few_batches(own):
    def paint(seed, ask):
        values = {"prompt": TEXTS[0], "steps": STEPS, "seed": seed}
        assert ask("/sdapi/v1/txt2img", values).status == 200

    def together():
        threads = [
            threading.Thread(target=paint, args=(i, asker(own.url, str(i))))
            for i in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def alone():
        for seed in range(16):
            paint(seed, asker(own.url, "one"))

    taken = {}
    for way in (alone, together):
        way()  # what is compiled, is
        began = time.monotonic()
        way()
        taken[way] = time.monotonic() - began
    print(f"\n16 together are {taken[alone] / taken[together]:.2f} times as fast")
    text = own.core.metrics.text().decode()
    batches = {
        line.split('le="')[1].split('"')[0]: float(line.split()[-1])
        for line in text.splitlines()
        if line.startswith("kerasdiffusion_batch_pictures_bucket")
    }
    print(batches)
    assert batches["+Inf"] - batches["4.0"] >= 2  # of eight, or of sixteen
