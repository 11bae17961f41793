"""One server for a whole module, on a tiny model, behind a real socket."""

import json
import os
import threading
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest


def serving(settings):
    """A server in a thread: its address, its core, and how it ends."""
    import uvicorn

    from kerasdiffusion.apps.server.app import create_app

    app = create_app(settings)
    config = uvicorn.Config(app, port=0, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]

    def end():
        server.should_exit = True
        thread.join()

    url = f"http://127.0.0.1:{port}"
    return SimpleNamespace(url=url, port=port, core=app.state.core, app=app, end=end)


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny):
    """A tiny model by the bundled one's name, and folders for what else there is."""
    from kerasdiffusion.apps.server.models import Models

    folder = tmp_path_factory.mktemp("server")
    for name in ("models", "adapters", "controls"):
        (folder / name).mkdir()
    before = os.environ.get("KERASDIFFUSION_ADAPTERS")
    os.environ["KERASDIFFUSION_ADAPTERS"] = str(folder / "adapters")
    folders = (folder / name for name in ("models", "adapters", "controls"))
    yield Models(("emoji",), *folders, make=lambda source: tiny)
    if before is None:
        del os.environ["KERASDIFFUSION_ADAPTERS"]
    else:
        os.environ["KERASDIFFUSION_ADAPTERS"] = before


@pytest.fixture(scope="module")
def server(models, tmp_path_factory):
    """A server that anyone on this machine may ask."""
    from kerasdiffusion.apps.server.core import Settings

    results = tmp_path_factory.mktemp("results")
    found = serving(Settings(models, results=results))
    found.core.painter.glance = 0.0  # each step is seen, quick as it is
    yield found
    found.end()


@pytest.fixture
def ask(server):
    """Asks the server: status, headers and what JSON says."""

    def asking(method, path, values=None, **headers):
        return call(server.url, method, path, values, **headers)

    return asking


def call(url, method, path, values=None, **headers):
    """One request to a server."""
    content = values if isinstance(values, bytes) else None
    if values is not None and content is None:
        content = json.dumps(values).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    names.setdefault("Content-Type", "application/json")
    asked = urllib.request.Request(url + path, content, names, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=120) as answer:
            return _answer(answer.status, answer)
    except urllib.error.HTTPError as error:
        return _answer(error.code, error)


def _answer(status, answer):
    content = answer.read()
    is_json = "json" in answer.headers.get("Content-Type", "")
    found = json.loads(content) if is_json else content
    return SimpleNamespace(status=status, headers=answer.headers, body=found)
