"""What the description of the API allows: nothing of it is an error of the server's.

By Schemathesis, which makes requests of the description at `/openapi.json`. It pins
much of what it stands on, and so wants an environment of its own: `pipx install
schemathesis`.
"""

import re
import shutil
import subprocess

import pytest

from kerasdiffusion.storage.bounds import BOUNDS

SECONDS = 240


@pytest.mark.heavy
@pytest.mark.timeout(SECONDS + 300)
def test_no_request_of_the_description_is_an_error_of_the_servers(server, monkeypatch):
    command = shutil.which("schemathesis")
    if command is None:
        pytest.skip("Schemathesis is not on the path: `pipx install schemathesis`")
    small = BOUNDS["server_pixels"]._replace(most=4096)
    monkeypatch.setitem(BOUNDS, "server_pixels", small)
    done = subprocess.run(
        [
            *(command, "run", f"{server.url}/openapi.json", "--seed", "7"),
            *("--checks", "not_a_server_error", "--continue-on-failure"),
            *("--max-examples", "15", "--max-time", str(SECONDS)),
            *("--request-timeout", "120"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    # Some may ask for pictures of minutes, or wait for such: no error of the server's.
    found = re.search(r"(\d+) generated, (\d+) (?:unique )?(\w+)", done.stdout)
    assert found and found[1] == found[2], done.stdout + done.stderr
    assert int(found[1]) > 500 and found[3] == "passed", done.stdout
