"""What the page may be asked, by whom, and which files it touches."""

import base64
import re
import urllib.error
import urllib.request

import pytest

from kerasdiffusion.apps.page.fence import POLICY, Fence
from kerasdiffusion.apps.page.handed import Handed
from kerasdiffusion.apps.server.core import Settings
from kerasdiffusion.apps.server.errors import Refused
from tests.apps.page.conftest import Tab
from tests.apps.server.conftest import call, serving


def test_the_page_names_no_other_machine(server):
    found = call(server.url, "GET", "/page/")
    text = found.body.decode()
    loaded = re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"([^\"]+)", text)
    assert loaded and not [each for each in loaded if "//" in each]
    assert found.headers["Content-Security-Policy"] == POLICY
    assert "https:" not in POLICY and "default-src 'self'" in POLICY
    theme = call(server.url, "GET", "/page/theme.css").body.decode()
    assert "url(http" not in theme and "@import" not in theme


def test_nobody_is_told_that_there_is_a_page(server, tab):
    import os

    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert tab.config["analytics_enabled"] is False


def test_the_front_leads_to_the_page_and_apis_stay(server):
    assert b"gradio" in call(server.url, "GET", "/").body
    assert call(server.url, "GET", "/sdapi/v1/txt2img").status == 405
    assert call(server.url, "GET", "/nowhere").status == 404
    for name in ("favicon.ico", "manifest.json"):  # (browsers ask for them there)
        assert call(server.url, "GET", f"/{name}").status == 200
    assert call(server.url, "GET", "/health").body == {"status": "ok"}


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/page/gradio_api/openapi.json"),
        ("GET", "/page/gradio_api/runs"),
        ("GET", "/page/gradio_api/deep_link"),
        ("GET", "/page/monitoring"),
        ("POST", "/page/gradio_api/run/predict"),
        ("POST", "/page/gradio_api/call/paint"),
        ("POST", "/page/gradio_api/process_recording"),
        ("GET", "/page/gradio_api/proxy=http://127.0.0.1:1/"),
        ("GET", "/page/anything"),
    ],
)
def test_what_the_page_does_not_need_is_not_there(server, method, path):
    found = call(server.url, method, path, {} if method == "POST" else None)
    assert found.status == 404 and "no such page" in found.body["error"]["message"]


@pytest.mark.parametrize(
    "path", ["/etc/hostname", "http://127.0.0.1:1/x.png", "../../etc/hostname", ""]
)
def test_files_of_this_machine_and_addresses_are_refused(server, tab, path):
    found = call(server.url, "GET", f"/page/gradio_api/file={path}")
    assert found.status == 403 and "uploaded here" in found.body["error"]["message"]
    given = {"path": path, "meta": {"_type": "gradio.FileData"}}
    for value in (given, {"path": path, "url": path, "orig_name": "x"}):
        body = {"data": [[value]], "fn_index": 0, "session_hash": tab.hash}
        found = call(server.url, "POST", "/page/gradio_api/queue/join", body)
        assert found.status == 403


def test_a_link_out_of_the_folder_leads_nowhere(tmp_path):
    handed = Handed(tmp_path / "handed")
    (tmp_path / "secret").write_text("secret")
    (handed.folder / "link").symlink_to(tmp_path / "secret")
    fence = Fence(None, handed)
    with pytest.raises(Refused):
        fence.check_files({"path": str(handed.folder / "link"), "meta": {}})
    own = handed.write(b"mine", "own.png")
    fence.check_files([{"path": own, "meta": {}, "url": "http://here/file"}])
    with pytest.raises(Refused, match="must be uploaded"):
        fence.check_files({"path": own, "meta": {}, "url": "data:image/png;base64,"})


def test_a_foreign_page_cannot_paint(server):
    there = "/page/gradio_api/queue/join"
    found = call(server.url, "POST", there, {}, Origin="https://evil.example")
    assert found.status == 403
    found = call(server.url, "GET", "/page/", Host="evil.example")
    assert found.status == 403


@pytest.fixture(scope="module")
def guarded(models):
    """A server with a page, a key and a user."""
    found = serving(Settings(models, keys=["secret"], users=["me:mine"], page=True))
    yield found
    found.end()


def basic(given):
    return f"Basic {base64.b64encode(given.encode()).decode()}"


def test_a_key_is_asked_of_people_as_a_password(guarded):
    answer = call(guarded.url, "GET", "/page/")
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    for given, status in (("me:mine", 200), ("x:secret", 200), ("x:mine", 401)):
        answer = call(guarded.url, "GET", "/page/", Authorization=basic(given))
        assert answer.status == status
    with pytest.raises(urllib.error.HTTPError, match="401"):
        Tab(guarded.url)
    assert Tab(guarded.url, headers={"Authorization": basic("x:secret")}).parts


def test_an_open_tab_does_not_hold_up_the_end(guarded):
    asked = urllib.request.Request(
        f"{guarded.url}/page/gradio_api/heartbeat/abc",
        headers={"Authorization": basic("me:mine")},
    )
    with urllib.request.urlopen(asked, timeout=30) as stream:
        assert b"ALIVE" in stream.readline()
        guarded.core.stop()
        while stream.readline():
            pass
