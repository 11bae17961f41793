"""Jobs against a real server."""

import io
import json
import threading
import time
import urllib.request

import numpy as np
import pytest
from PIL import Image

from kerasdiffusion.pictures.generation_parameters import parse_parameters
from kerasdiffusion.requests.binary import to_png
from kerasdiffusion.requests.request import Request
from tests.apps.server.conftest import call

APPLE = {
    "task": "text_to_image",
    "prompt": "a red apple on a blue background",
    "num_steps": 2,
    "seed": 7,
}


def until_it_ends(ask, id):
    """What is said of a job when it has ended."""
    while True:
        found = ask("GET", f"/jobs/{id}").body
        if found["state"] not in ("queued", "running"):
            return found
        time.sleep(0.02)


def picture_of(ask, path):
    return Image.open(io.BytesIO(ask("GET", path).body))


def events_of(server, id):
    """Names and values of a job's events."""
    with urllib.request.urlopen(f"{server.url}/jobs/{id}/events") as stream:
        blocks = stream.read().decode().split("\n\n")
    for block in blocks:
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line)
        if "event" in lines:
            yield lines["event"], json.loads(lines["data"])


def test_a_job_is_painted_as_python_paints_it(server, ask, models):
    taken = ask("POST", "/jobs", {**APPLE, "batch_size": 3})
    assert taken.status == 202 and taken.headers["Location"].startswith("/jobs/")
    job = until_it_ends(ask, taken.body["id"])
    assert (job["state"], job["progress"], job["step"]) == ("done", 1.0, 6)
    assert len(job["pictures"]) == 3  # painted as four
    request = Request(**APPLE, batch_size=3)
    wanted = models.get("emoji").run(request).pictures()
    for i, path in enumerate(job["pictures"]):
        picture = picture_of(ask, path)
        assert np.abs(np.asarray(picture).astype(int) - wanted[i]).max() <= 1
        said = parse_parameters(picture.info["parameters"])
        assert (said["prompt"], said["seed"]) == (APPLE["prompt"], 7 + i)


def test_what_a_step_takes_is_known_of_what_was_painted(server, ask):
    """So that no step of the next one like it is walked alone to find out."""
    known = server.core.painter._known
    known.clear()
    for seed in (1, 2):
        until_it_ends(ask, ask("POST", "/jobs", {**APPLE, "seed": seed}).body["id"])
    (found,) = known.values()
    assert list(found) == [0] and 0.0 < found[0] < 60.0


def test_a_job_may_have_a_size_and_no_seed(ask):
    values = {**APPLE, "width": 48, "height": 32, "seed": -1}
    job = until_it_ends(ask, ask("POST", "/jobs", values).body["id"])
    picture = picture_of(ask, job["pictures"][0])
    assert picture.size == (48, 32)
    assert parse_parameters(picture.info["parameters"])["seed"] >= 0


def test_events_tell_how_it_goes(server, ask):
    values = {**APPLE, "num_steps": 100, "seed": 3}
    id = ask("POST", "/jobs", values).body["id"]
    found = list(events_of(server, id))
    assert found[-1][0] == "done" and len(found) > 2
    progress = [values for name, values in found if name == "progress"]
    steps = [values["step"] for values in progress]
    assert steps == sorted(steps) and any(values.get("preview") for values in progress)
    assert all(values["seconds_left"] >= 0 for values in progress)


def test_a_job_is_cancelled_within_a_step(ask):
    began = time.monotonic()
    id = ask("POST", "/jobs", {**APPLE, "num_steps": 1000}).body["id"]
    while ask("GET", f"/jobs/{id}").body["step"] < 2:
        time.sleep(0.01)
    assert ask("DELETE", f"/jobs/{id}").body["state"] == "cancelled"
    after = until_it_ends(ask, ask("POST", "/jobs", APPLE).body["id"])
    assert after["state"] == "done"
    assert ask("GET", f"/jobs/{id}").body["step"] < 1000
    assert time.monotonic() - began < 60


def test_one_of_a_batch_is_cancelled_and_the_others_are_painted(server, ask):
    blocker = ask("POST", "/jobs", {**APPLE, "num_steps": 100}).body["id"]
    ids = [ask("POST", "/jobs", {**APPLE, "seed": i}).body["id"] for i in range(4)]
    ask("DELETE", f"/jobs/{ids[1]}")
    ask("DELETE", f"/jobs/{blocker}")
    states = [until_it_ends(ask, id)["state"] for id in ids]
    assert states == ["done", "cancelled", "done", "done"]


def test_positions_count_those_ahead(ask):
    blocker = ask("POST", "/jobs", {**APPLE, "num_steps": 1000}).body["id"]
    second = ask("POST", "/jobs", {**APPLE, "batch_size": 3}).body
    third = ask("POST", "/jobs", APPLE).body
    assert (second["position"], third["position"]) == (1, 4)
    assert ask("GET", f"/jobs/{third['id']}").body["seconds_left"] > 0
    for id in (blocker, second["id"], third["id"]):
        ask("DELETE", f"/jobs/{id}")


def test_what_is_wrong_is_said_at_once(ask):
    for more, rule in (
        ({"num_steps": 0}, "`num_steps` must be a whole number from 1 to 1000"),
        ({"task": "paint"}, "`task` must be one of"),
        ({"strenght": 1}, "fields that are known"),
        ({"width": 101}, "multiples of"),
        ({"width": 10**9}, "from 8 to 8192"),
        ({"width": 4096, "height": 4096}, "at most 4194304 pixels"),
        ({"batch_size": 65}, "at most 64 pictures"),
        ({"model": "sd1.5"}, "must be one that this server has"),
        ({"refiner": "sdxl-refiner"}, "must be one that this server has"),
        ({"adapters": [["nothing", 1.0]]}, "must be one that this server has"),
        ({"prompt": "a cat <lora:nothing:1>"}, "must be one that this server has"),
        ({"prompt": "a cat <style:ink>"}, "must name an adapter"),
        ({"prompt": "(" * 300}, "brackets open at once"),
        ({"task": "image_to_image", "image": "/etc/passwd"}, "base64 of a PNG"),
    ):
        values = {**APPLE, **more}
        if "width" in more:
            values.setdefault("height", 64)
        answer = ask("POST", "/jobs", values)
        assert answer.status in (404, 422), (more, answer.body)
        assert rule in answer.body["error"]["message"], (more, answer.body)


def test_what_a_part_is_painted_at_may_be_said(ask):
    """A size goes with a picture where a part of it is painted at another."""
    picture = to_png(Image.new("RGB", (40, 40), "white"), "image")
    mask = Image.new("L", (40, 40))
    mask.paste(255, (4, 4, 20, 20))
    values = {**APPLE, "task": "inpaint", "image": picture, "padding": 4}
    values |= {"mask": to_png(mask, "mask"), "width": 32, "height": 32}
    job = until_it_ends(ask, ask("POST", "/jobs", values).body["id"])
    assert picture_of(ask, job["pictures"][0]).size == (40, 40)
    values.pop("padding")
    answer = ask("POST", "/jobs", values)
    assert answer.status == 422 and "`width`" in answer.body["error"]["message"]


def test_what_is_not_there_is_said(ask):
    for method, path in (
        ("GET", "/jobs/nothing"),
        ("DELETE", "/jobs/nothing"),
        ("GET", "/jobs/nothing/events"),
        ("GET", "/jobs/nothing/pictures/0"),
        ("GET", "/jobs/..%2F..%2Fetc/pictures/0"),
        ("GET", "/nothing"),
    ):
        assert ask(method, path).status == 404


def test_results_are_found_again_after_a_restart(server, ask, models):
    from kerasdiffusion.apps.server.core import Settings
    from tests.apps.server.conftest import serving

    id = ask("POST", "/jobs", APPLE).body["id"]
    job = until_it_ends(ask, id)
    content = ask("GET", job["pictures"][0]).body
    while server.core.kept.get(id) is None:
        time.sleep(0.02)
    folder = server.core.kept.folder
    half = folder / ("x" * 22)
    half.mkdir()
    (half / "0.png").touch()  # what a server leaves that was killed
    other = serving(Settings(models, results=folder))
    try:
        assert call(other.url, "GET", f"/jobs/{id}").body["state"] == "done"
        assert call(other.url, "GET", job["pictures"][0]).body == content
        assert id in [x["id"] for x in call(other.url, "GET", "/jobs").body["jobs"]]
        assert not half.exists()
        call(other.url, "DELETE", f"/jobs/{id}")
        assert not (folder / id).exists()
    finally:
        other.end()


def test_it_lives_and_counts(ask):
    assert ask("GET", "/health").body == {"status": "ok"}
    text = ask("GET", "/metrics").body.decode()
    assert 'kerasdiffusion_jobs_total{api="jobs",state="done"}' in text
    assert APPLE["prompt"] not in text


def test_who_opens_its_address_is_led_to_what_describes_it(ask):
    assert b"/openapi.json" in ask("GET", "/").body


def test_it_describes_itself(ask):
    found = ask("GET", "/openapi.json").body
    schema = found["paths"]["/jobs"]["post"]["requestBody"]["content"]
    tasks = schema["application/json"]["schema"]["oneOf"]
    assert {"model", "width", "prompt"} <= set(tasks[0]["properties"])


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"task": NaN}', b"\xff"])
def test_what_is_no_json_is_refused(ask, content):
    assert ask("POST", "/jobs", content).status == 422


def test_the_end_finishes_what_is_painted_and_says_no_to_the_rest(models):
    from kerasdiffusion.apps.server.core import Settings
    from tests.apps.server.conftest import serving

    own = serving(Settings(models))

    def ask(*args):
        return call(own.url, *args)

    running = ask("POST", "/jobs", {**APPLE, "num_steps": 50}).body["id"]
    while ask("GET", f"/jobs/{running}").body["state"] == "queued":
        time.sleep(0.01)
    waiting = ask("POST", "/jobs", {**APPLE, "num_steps": 3}).body["id"]
    ending = threading.Thread(target=own.core.stop)
    ending.start()
    while ask("GET", "/health").status == 200:
        time.sleep(0.01)
    assert ask("POST", "/jobs", APPLE).status == 503
    found = ask("GET", f"/jobs/{waiting}").body
    assert (found["state"], found["error"]["status"]) == ("failed", 503)
    ending.join()
    assert ask("GET", f"/jobs/{running}").body["state"] == "done"
    own.end()
