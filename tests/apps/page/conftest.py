"""A server with a page, on the tiny model; and a tab without a browser."""

import json
import urllib.parse
import urllib.request
import uuid
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.apps.server.conftest import models, serving  # noqa: F401


@pytest.fixture(scope="module")
def server(models, tmp_path_factory):  # noqa: F811
    """A server with a page, whose results outlive it."""
    from kerasdiffusion.apps.server.core import Settings

    results = tmp_path_factory.mktemp("results")
    found = serving(Settings(models, results=results, page=True))
    found.core.painter.glance = 0.0
    found.results = results
    yield found
    found.end()


@pytest.fixture
def tab(server):
    """A tab that has been opened."""
    return Tab(server.url)


@pytest.fixture
def photo(tmp_path):
    """A file of a picture, twice as wide as high."""
    rows = np.arange(32)[:, None, None] * 8
    columns = np.arange(64)[None, :, None] * 4
    pixels = (rows + columns * np.array([1, 0, 2])) % 256
    path = tmp_path / "photo.png"
    Image.fromarray(pixels.astype("uint8")).save(path)
    return str(path)


class Tab:
    """What Gradio's own code does in a browser, as far as requests go."""

    def __init__(self, url, browser="", headers=None):
        self.url, self.hash = f"{url}/page", uuid.uuid4().hex[:10]
        self.headers, self.browser = headers or {}, browser
        self.config = json.loads(self.get("/config"))
        self.parts = {each["id"]: each for each in self.config["components"]}
        self.values = {
            id: each["props"].get("value") for id, each in self.parts.items()
        }
        for id, each in self.parts.items():
            if each["type"] == "browserstate":
                self.values[id] = each["props"].get("default_value")

    def get(self, path):
        asked = urllib.request.Request(self.url + path, headers=self.headers)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.read()

    def post(self, path, values):
        content = json.dumps(values).encode()
        headers = {"Content-Type": "application/json"} | self.headers
        asked = urllib.request.Request(self.url + path, content, headers)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.loads(answer.read())

    def part(self, name):
        """The id of a component by its `elem_id`, or else by its label."""
        for key in ("elem_id", "label"):
            for id, each in self.parts.items():
                if each["props"].get(key) == name:
                    return id
        raise KeyError(name)

    def set(self, **values):
        """What a person writes into widgets, by label; `_` stands for a blank."""
        for name, value in values.items():
            self.values[self.part(name.replace("_", " "))] = value

    def upload(self, path):
        """A file as the page has it when it was dropped."""
        edge = uuid.uuid4().hex
        name = path.rpartition("/")[2]
        head = f'Content-Disposition: form-data; name="files"; filename="{name}"'
        with open(path, "rb") as file:
            content = file.read()
        body = f"--{edge}\r\n{head}\r\nContent-Type: image/png\r\n\r\n".encode()
        body += content + f"\r\n--{edge}--\r\n".encode()
        kind = f"multipart/form-data; boundary={edge}"
        headers = {"Content-Type": kind} | self.headers
        asked = urllib.request.Request(f"{self.url}/gradio_api/upload", body, headers)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            (there,) = json.loads(answer.read())
        return {
            "path": there,
            "orig_name": name,
            "meta": {"_type": "gradio.FileData"},
        }

    def do(self, name, event="click", data=None, wait=True):
        """What happens when a part is used: each state of its outputs, by name."""
        target = None if name is None else self.part(name)
        found = self.dependency(event, target)
        body = {
            "data": [self.values.get(id) for id in found["inputs"]],
            "event_data": data,
            "fn_index": found["id"],
            "trigger_id": target,
            "session_hash": self.hash,
        }
        own = self.post("/gradio_api/queue/join", body)["event_id"]
        if not wait:
            return []
        outputs, told = found["outputs"], self._states(own)
        states = [dict(zip(outputs, each, strict=True)) for each in told]
        for state in states:
            for id, value in state.items():
                if isinstance(value, dict) and value.get("__type__") == "update":
                    if "value" in value:
                        self.values[id] = value["value"]
                elif self.parts[id]["type"] != "html" or value is not None:
                    self.values[id] = value
        return [{self.name(id): x for id, x in state.items()} for state in states]

    def dependency(self, event, target=None):
        """What happens at an event, of a part or of the page."""
        for each in self.config["dependencies"]:
            for id, name in each["targets"]:
                if name == event and target in (None, id):
                    return each
        raise KeyError(event)

    def name(self, id):
        props = self.parts[id]["props"]
        return props.get("elem_id") or props.get("label") or str(id)

    def _states(self, own):
        """All that an event gives; what is sent as a difference is put together."""
        address = f"{self.url}/gradio_api/queue/data?session_hash={self.hash}"
        asked = urllib.request.Request(address, headers=self.headers)
        found = []
        with urllib.request.urlopen(asked, timeout=120) as answer:
            for line in answer:
                if not line.startswith(b"data:"):
                    continue
                told = json.loads(line[5:])
                if told.get("event_id") != own:
                    continue
                if told["msg"] == "process_generating":
                    found.append(_whole(found, told["output"]["data"]))
                if told["msg"] == "process_completed":
                    assert told["success"], told
                    data = told["output"].get("data")
                    if data and not told["output"].get("is_generating"):
                        if not found:
                            found.append(data)
                    return found
        raise AssertionError("the stream has ended")


def _whole(before, data):
    """Gradio sends what has changed since the state before, from the second on."""
    if not before:
        return data
    return [_patched(old, new) for old, new in zip(before[-1], data, strict=True)]


def _patched(value, changes):
    if not isinstance(changes, list):
        return changes
    value = json.loads(json.dumps(value))
    for action, path, new in changes:
        if not path:
            value = new
            continue
        *way, last = path
        place = value
        for each in way:
            place = place[each]
        if action == "append":
            place[last] = f"{place[last]}{new}" if isinstance(new, str) else new
        elif action == "delete":
            del place[last]
        elif action == "add" and isinstance(place, list):
            place.insert(last, new)
        else:
            place[last] = new
    return value


def fetched(tab, path):
    """The bytes of a file that the page hands out."""
    return tab.get(f"/gradio_api/file={urllib.parse.quote(path)}")


def nothing():
    """A namespace to fill."""
    return SimpleNamespace()
