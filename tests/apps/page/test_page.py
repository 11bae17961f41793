"""The page, without a browser: what widgets and buttons do, by the same queue."""

import errno
import io
import os
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kerasdiffusion.apps.page import handed
from kerasdiffusion.apps.page.results import SENT
from kerasdiffusion.apps.page.widgets import label_of
from kerasdiffusion.apps.server.jobs import read_job
from kerasdiffusion.apps.server.work import Client
from kerasdiffusion.pictures.metadata import read_parameters
from kerasdiffusion.requests.request import FIELDS, Request
from tests.apps.page.conftest import Tab, fetched
from tests.apps.server.conftest import call


def opened(server, browser=""):
    """A tab whose browser has a name."""
    tab = Tab(server.url)
    load = tab.dependency("load")
    if browser:
        tab.values[load["inputs"][0]] = browser
    tab.do(None, "load")
    tab.browser = tab.values[load["inputs"][0]]
    return tab


def painted(tab, button="kd-paint"):
    """The files in the gallery, the latest first, and all that was said meanwhile."""
    states = tab.do(button)
    pictures = states[-1]["kd-gallery"]["value"]
    return [each["image"]["path"] for each in pictures], states


def test_there_is_a_widget_for_each_field_that_a_request_has(server, tab):
    labels = {each["props"].get("label") for each in tab.parts.values()}
    left_out = {"adapters", "frames", "closed", "text_path", "noise_path", "depth"}
    left_out |= {"image", "mask", "instruction", "image_guidance_scale"}
    for name, field in FIELDS.items():
        if field.asked.flag is not None and name not in left_out:
            assert label_of(name) in labels, name


def test_it_paints_by_the_queue_with_progress_and_keeps_what_it_painted(server):
    tab = opened(server)
    # (So many that they are looked at on the way.)
    tab.set(**{"kd-prompt": "two cats", "kd-seed": "7", "kd-steps": 200})
    files, states = painted(tab)
    said = [each["kd-now"] for each in states[:-1]]
    assert any("of 200" in each and "two cats" in each for each in said)
    assert any("data:image/png;base64," in each for each in said)
    assert states[-1]["kd-now"] == ""
    assert files[0].endswith("two-cats-7.png")
    content = fetched(tab, files[0])
    (record,) = [
        each
        for each in server.core.kept.all()
        if each["client"][1] == f"page-{tab.browser}"
    ]
    assert content == server.core.kept.picture(record["id"], 0).read_bytes()
    request = Request(task="text_to_image", prompt="two cats", seed=7, num_steps=200)
    alone = server.core.models.get("emoji").run(request).pictures()[0]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), alone)


def test_a_picture_says_how_it_was_made_and_its_settings_come_back(server, tmp_path):
    tab = opened(server)
    tab.set(**{"kd-prompt": "a red apple", "kd-seed": "11", "kd-steps": 2})
    tab.set(**{"kd-sampler": "euler", "FreeU": "1.1,1.2,0.9,0.2"})
    (file, *_), _ = painted(tab)
    path = tmp_path / "dropped.png"
    path.write_bytes(fetched(tab, file))
    assert read_parameters(path)["seed"] == 11
    other = opened(server)
    other.set(**{"kd-drop": other.upload(str(path)), "kd-steps": 9})
    other.do("kd-drop", "upload")
    values = {name: other.values[other.part(name)] for name in ("kd-seed", "FreeU")}
    assert values == {"kd-seed": "11", "FreeU": "1.1,1.2,0.9,0.2"}
    (again, *_), _ = painted(other)
    contents = [io.BytesIO(fetched(tab, each)) for each in (file, again)]
    np.testing.assert_array_equal(*(np.asarray(Image.open(x)) for x in contents))


def test_what_is_wrong_is_said_and_nothing_is_painted(server):
    tab = opened(server)
    tab.set(**{"kd-prompt": "a <cat>", "kd-seed": "many"})
    (state,) = tab.do("kd-paint")
    assert (
        "must be a whole number" in state["kd-now"] and "kd-problem" in state["kd-now"]
    )
    assert server.core.queue.counts() == (0, 0)


def test_cancel_ends_it_between_two_steps(server):
    tab = opened(server)
    tab.set(**{"kd-prompt": "long", "kd-steps": 1000, "kd-seed": "1"})
    done = []
    thread = threading.Thread(target=lambda: done.extend(tab.do("kd-paint")))
    thread.start()
    job = waited_for(server, tab)
    tab.do("kd-cancel", wait=False)
    thread.join(60)
    assert not thread.is_alive() and job.state == "cancelled" and job.step < 1000
    assert done[-1]["kd-gallery"]["value"] == []


def waited_for(server, tab):
    """The job of a tab, when it is painted."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for job in server.core.queue.running():
            if job.client.name == f"page-{tab.browser}" and job.step > 0:
                return job
        time.sleep(0.01)
    raise AssertionError("nothing is painted")


def test_who_leaves_is_not_painted_for_but_who_reloads_is(server):
    tab = opened(server)
    client = Client("127.0.0.1", f"page-{tab.browser}")
    request, _, _ = read_job({"task": "text_to_image", "prompt": "x", "num_steps": 900})
    from kerasdiffusion.apps.page.sessions import API, Sessions

    sessions = Sessions(server.core, away=0.2)
    sessions.get("one", client)
    job = server.core.desk.hand_in(request, client, api=API)
    sessions.leave("one")
    assert sessions.get("two", client).jobs == [job]  # loaded anew
    time.sleep(0.4)
    assert not job.has_ended
    sessions.leave("two")
    end = time.monotonic() + 30
    while not job.has_ended and time.monotonic() < end:
        time.sleep(0.01)
    assert job.state == "cancelled"


def test_history_is_the_browsers_own_and_outlives_the_server(server, models):
    tab = opened(server)
    tab.set(**{"kd-prompt": "kept", "kd-seed": "3", "kd-steps": 2})
    (file, *_), _ = painted(tab)
    again, stranger = opened(server, tab.browser), opened(server)
    (state,) = again.do("kd-past-look")
    assert [x["image"]["path"] for x in state["kd-past"]] == [file]
    (state,) = stranger.do("kd-past-look")
    assert state["kd-past"] == []
    from kerasdiffusion.apps.server.core import Settings
    from tests.apps.server.conftest import serving

    second = serving(Settings(models, results=server.results, page=True))
    try:
        later = opened(second, tab.browser)
        (state,) = later.do("kd-past-look")
        (there,) = [x["image"]["path"] for x in state["kd-past"]]
        assert fetched(later, there) == fetched(tab, file)
        (state,) = later.do("kd-past", "select", {"index": 0, "value": None})
        assert "kept" in state["kd-past-text"] and "Seed: 3" in state["kd-past-text"]
        later.do("kd-forget")
        assert later.do("kd-past-look")[0]["kd-past"] == []
    finally:
        second.end()


@pytest.mark.parametrize("label", SENT)
def test_a_picture_is_sent_on_to_what_is_done_next(server, label):
    tab = opened(server)
    tab.set(**{"kd-prompt": "first", "kd-seed": "5", "kd-steps": 2})
    painted(tab)
    tab.do(f"kd-send-{label.lower().replace(' ', '-')}")
    assert tab.values[tab.part("kd-task")] == SENT[label]
    assert tab.values[tab.part("kd-width")] == 32
    if label == "Beyond it":
        tab.set(**{"kd-left": 8})
    if label == "A part":
        return  # (a drawing is a browser's: see the tests in Chromium)
    files, _ = painted(tab)
    with Image.open(io.BytesIO(fetched(tab, files[0]))) as image:
        sizes = {"Beyond it": (40, 32), "Larger": (64, 64), "Over it": (32, 32)}
        assert image.size == sizes[label]


def test_a_picture_of_two_passes_is_sent_on_as_large_as_it_is(server):
    tab = opened(server)
    tab.set(**{"kd-prompt": "first", "kd-seed": "5", "kd-steps": 1})
    tab.set(**{label_of("hires_scale"): 1.5})
    _, states = painted(tab)
    assert states[-1]["kd-gallery"]["value"][0]["caption"] == "seed 5, 48x48"
    tab.do("kd-send-over-it")
    assert tab.values[tab.part("kd-width")] == 48


def test_a_variation_is_like_the_chosen_picture(server):
    tab = opened(server)
    tab.set(**{"kd-prompt": "first", "kd-seed": "5", "kd-steps": 2})
    painted(tab)
    (file, *_), _ = painted(tab, "kd-vary")
    record = server.core.kept.all()[-1]
    assert record["request"]["seed"] == 5 and file.endswith("first-5.png")
    assert record["request"]["variation_strength"] == pytest.approx(0.3)


def test_a_grid_is_a_sheet_of_cells_from_the_same_queue(server):
    tab = opened(server)
    tab.set(**{"kd-prompt": "a cat", "kd-seed": "9", "kd-steps": 2})
    tab.set(**{"kd-axis-x": "Steps", "kd-values-x": "1,2"})
    tab.set(**{"kd-axis-y": "Seed", "kd-values-y": "3-4"})
    files, _ = painted(tab, "kd-paint-grid")
    assert len(files) == 5
    with Image.open(io.BytesIO(fetched(tab, files[0]))) as sheet:
        assert sheet.width >= 64 and sheet.height > 64
    records = server.core.kept.all()[-5:]
    assert records[-1]["task"] == "grid"
    assert {x["request"]["seed"] for x in records[:-1]} == {3, 4}


@pytest.mark.parametrize("whose", ["kept", "handed"])
def test_a_full_disk_is_said_at_once(server, monkeypatch, whose):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    tab = opened(server)
    tab.set(**{"kd-prompt": "x", "kd-steps": 1, "kd-seed": "1"})
    if whose == "kept":
        monkeypatch.setattr(server.core.kept, "put", full)
    else:
        monkeypatch.setattr(handed, "os", SimpleNamespace(link=full))
        monkeypatch.setattr(handed, "shutil", SimpleNamespace(copyfile=full))
    began = time.monotonic()
    *_, last = tab.do("kd-paint")
    assert time.monotonic() - began < 20 and "kd-problem" in last["kd-now"]
    if whose == "handed":
        assert "cannot write its files: No space left" in last["kd-now"]
        return
    assert "is the disk full?" in last["kd-now"]
    where = last["kd-now"].rpartition("it is at ")[2].partition(".<")[0]
    assert call(server.url, "GET", where).headers["Content-Type"] == "image/png"
    tab.set(**{"kd-values-x": "1,2"})
    assert "cannot be written" in tab.do("kd-paint-grid")[-1]["kd-now"]


def test_the_seed_is_kept_where_it_shall_be(server):
    tab = opened(server)
    tab.set(**{"kd-prompt": "x", "kd-steps": 1, "kd-seed": "", "kd-keep-seed": True})
    _, states = painted(tab)
    seed = states[-1]["kd-seed"]
    assert seed.isdigit() and server.core.kept.all()[-1]["request"]["seed"] == int(seed)


def test_tokens_are_counted_while_they_are_written(server):
    tab = opened(server)
    tab.set(**{"kd-prompt": "a red apple"})
    (state,) = tab.do("kd-prompt", "change")
    assert " tokens" in next(iter(state.values()))


def test_what_a_network_follows_is_shown(server, photo):
    tab = opened(server)
    tab.set(**{"kd-control": tab.upload(photo), "What it is shown": "canny"})
    (state,) = tab.do("kd-show-followed")
    content = fetched(tab, state["kd-followed"]["path"])
    with Image.open(io.BytesIO(content)) as edges:
        assert edges.size == (64, 32)
