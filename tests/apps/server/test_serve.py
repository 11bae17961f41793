"""`kerasdiffusion serve`: its flags; and a process of it, killed and ended."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from kerasdiffusion.apps import serve
from kerasdiffusion.apps.cli import main, make_parser
from tests.apps.server.conftest import call
from tests.tiny import TEXTS

ROOT = Path(__file__).parents[3]


@pytest.fixture
def settings(monkeypatch):
    """What a command serves by; nothing is."""
    from kerasdiffusion.apps.server import running

    seen = []

    def serving(settings, host, port, say):
        seen.append((settings, host, port))
        return 0

    monkeypatch.setattr(running, "serve", serving)
    monkeypatch.setattr(serve, "check_address", lambda host, port: None)
    return seen


def test_it_listens_on_this_machine_alone_and_serves_the_bundled_model(
    command, settings, capsys
):
    assert command("serve") == 0
    ((found, host, port),) = settings
    assert (host, port, found.models.presets) == ("127.0.0.1", 7860, ("emoji",))
    assert not found.keys and not found.users
    assert capsys.readouterr().err == ""


def test_flags_reach_the_server(command, settings, tmp_path, monkeypatch):
    monkeypatch.setenv(serve.KEY, "from outside")
    flags = "--host 0.0.0.0 --port 0 --auth me:secret --api-key k --queue 9 --batch 2"
    more = f"--models {tmp_path} --allow-host paint --memory 1.5 --keep 2"
    command("serve", *flags.split(), *more.split())
    ((found, host, port),) = settings
    assert (host, port, found.queue, found.batch) == ("0.0.0.0", 0, 9, 2)
    assert found.keys == ["k", "from outside"] and found.users == ["me:secret"]
    assert found.models.most_bytes == 1.5 * 2**30 and found.keep == 7200
    assert found.models.folder == tmp_path and found.hosts == ["paint"]


def test_it_warns_where_anyone_may_ask(command, settings, capsys):
    command("serve", "--host", "0.0.0.0")
    assert "give --api-key or --auth" in capsys.readouterr().err
    command("serve", "--host", "0.0.0.0", "--api-key", "k")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "host, local",
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("10.0.0.1", False)],
)
def test_which_addresses_are_this_machines_own(host, local):
    assert serve.is_loopback(host) is local


def test_a_port_that_is_taken_is_said_ahead_of_frameworks(capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 1
        assert main(["serve", "--host", "203.0.113.7", "--port", "0"]) == 1
    said = capsys.readouterr().err
    assert said.count("--port one that is free; 0 is any") == 2 and str(port) in said


@pytest.mark.parametrize(
    "flags, rule",
    [
        ("--auth secret", "must be USER:PASSWORD"),
        ("--port 99999", "from 0 to 65535"),
        ("--models /nowhere", "There must be such a folder"),
    ],
)
def test_wrong_flags_are_said(flags, rule, capsys):
    with pytest.raises(SystemExit):
        main(["serve", *flags.split()])
    assert rule in capsys.readouterr().err


@pytest.mark.parametrize("name", ["Dockerfile", "kerasdiffusion.service"])
def test_what_serves_it_gives_flags_that_there_are(name):
    text = (ROOT / "docs" / "serving" / name).read_text()
    known = {flag for each in _serve()._actions for flag in each.option_strings}
    told = re.search(r"(ENTRYPOINT|ExecStart=).*serve(.*\\\n)*.*", text).group()
    given = set(re.findall(r"--[a-z-]+", told))
    assert {"--host", "--models", "--adapters", "--results"} <= given <= known


def test_a_key_that_is_empty_is_none(capsys):
    with pytest.raises(SystemExit):
        main(["serve", "--api-key", ""])
    assert "must not be empty" in capsys.readouterr().err


def test_a_model_that_is_none_is_said_ahead_of_frameworks(capsys):
    assert main(["serve", "--preset", "sd15"]) == 1
    assert "Did you mean sd1.5" in capsys.readouterr().err


def _serve():
    return make_parser()._subparsers._group_actions[0].choices["serve"]


def test_the_help_names_no_default_that_is_not():
    text = _serve().format_help()
    assert "default: 7860" in text and "127.0.0.1" in text


CHILD = """
import sys
from pathlib import Path
from kerasdiffusion.apps.server.core import Settings
from kerasdiffusion.apps.server.models import Models
from kerasdiffusion.apps.server.running import serve
from tests.tiny import tiny_model

settings = Settings(Models(make=lambda source: tiny_model()), results=Path(sys.argv[1]))
sys.exit(serve(settings, "127.0.0.1", 0, lambda where: print(where, flush=True)))
"""
PAINT = {"task": "text_to_image", "prompt": TEXTS[0], "num_steps": 2, "seed": 1}


def start(results):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(results)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    return child, child.stdout.readline().strip()


def ended(url, id):
    while True:
        found = call(url, "GET", f"/jobs/{id}").body
        if found["state"] not in ("queued", "running"):
            return found
        time.sleep(0.05)


@pytest.mark.heavy
def test_a_killed_server_leaves_nothing_half_and_finds_its_history_again(tmp_path):
    """Killed while results are written, and ended with something being painted."""
    child, url = start(tmp_path)
    first = call(url, "POST", "/jobs", PAINT).body["id"]
    assert ended(url, first)["state"] == "done"
    for i in range(20):
        call(url, "POST", "/jobs", {**PAINT, "seed": i, "batch_size": 4})
    while len(list(tmp_path.iterdir())) < 3:
        time.sleep(0.01)
    child.kill()
    child.wait()
    child, url = start(tmp_path)
    kept = call(url, "GET", "/jobs").body["jobs"]
    assert first in [job["id"] for job in kept]
    for job in kept:
        for path in job["pictures"]:
            content = urllib.request.urlopen(url + path).read()
            assert content.startswith(b"\x89PNG") and content.endswith(
                b"IEND\xaeB`\x82"
            )
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {job["id"] for job in kept}

    long = call(url, "POST", "/jobs", {**PAINT, "num_steps": 300}).body["id"]
    while call(url, "GET", f"/jobs/{long}").body["step"] < 1:
        time.sleep(0.01)
    child.send_signal(signal.SIGTERM)
    assert child.wait() == 0
    record = json.loads((tmp_path / long / "job.json").read_text())
    assert record["state"] == "done" and record["step"] == 300


@pytest.mark.heavy
def test_a_second_signal_ends_what_is_painted(tmp_path):
    child, url = start(tmp_path)
    long = call(url, "POST", "/jobs", {**PAINT, "num_steps": 1000}).body["id"]
    while call(url, "GET", f"/jobs/{long}").body["step"] < 1:
        time.sleep(0.01)
    child.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    child.send_signal(signal.SIGTERM)
    assert child.wait() == 0
    record = json.loads((tmp_path / long / "job.json").read_text())
    assert record["state"] == "cancelled" and record["step"] < 1000
