"""A field that is added in one place is everywhere."""

import json
import subprocess
import sys
from pathlib import Path

import kerasdiffusion

FIELD = """
    glow: float = asked(
        Number(0.0, 2.0),
        0.0,
        help="how much it glows, 0 to 2",
        text="How much the picture glows.",
        label="Glow",
        flag=Flag(metavar="X"),
        group=GUIDANCE,
    )
"""
SCRIPT = """
import argparse, contextlib, inspect, io, json
from kerasdiffusion import Request
from kerasdiffusion.apps.cli import main
from kerasdiffusion.pictures.generation_parameters import (
    format_parameters, parse_parameters,
)
from kerasdiffusion.presets.config import GenerationConfig
from kerasdiffusion.requests.signatures import takes_request
from kerasdiffusion.requests.text import described, described_walk, fields_in

class Face:
    @takes_request("inpaint")
    def inpaint(self, request):
        "Paints."
        return request

help = io.StringIO()
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(help):
    main(["generate", "--help"])
request = Request(task="text_to_image", prompt="x", seed=1, glow=1.5)
(text,) = described(request, GenerationConfig(), (64, 64), "emoji")
text = format_parameters(**text)
walk = Request(task="interpolate", prompt=["x", "y"], seed=1, glow=1.5)
walk = format_parameters(**described_walk(walk, GenerationConfig(), (64, 64), "emoji"))
plain = request.replace(glow=0.0)
try:
    request.replace(glow=3)
except ValueError as error:
    refused = str(error)
print(json.dumps({
    "signature": inspect.signature(Face.inpaint).parameters["glow"].default,
    "docstring": Face.inpaint.__doc__,
    "asked": Face().inpaint("a.png", "b.png", "x", glow=0.5).glow,
    "help": help.getvalue(),
    "refused": refused,
    "json": Request.from_json(request.to_json()).glow,
    "schema": Request.schema("inpaint")["properties"]["glow"],
    "text": text,
    "walk": fields_in(parse_parameters(walk))["glow"],
    "read": fields_in(parse_parameters(text))["glow"],
    "keys": request.key({}) != plain.key({}),
}))
"""


def copied(folder: Path) -> Path:
    """The package with a field more, all else linked."""
    source = Path(kerasdiffusion.__file__).parent
    package = folder / "kerasdiffusion"
    (package / "requests").mkdir(parents=True)
    for each in source.iterdir():
        if each.name not in ("requests", "__pycache__"):
            (package / each.name).symlink_to(each)
    for each in (source / "requests").glob("*.py"):
        text = each.read_text("utf-8")
        if each.name == "manner.py":
            place = text.index("    guidance_rescale: ")
            text = text[:place].rstrip() + FIELD + text[place:]
        (package / "requests" / each.name).write_text(text, "utf-8")
    return folder


def test_a_field_that_is_added_once_is_in_every_face(tmp_path):
    child = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        cwd=copied(tmp_path),
        check=False,
    )
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout)
    assert found["signature"] == 0.0 and found["asked"] == 0.5
    assert "    glow: How much the picture glows." in found["docstring"]
    assert "--glow X" in found["help"] and "how much it glows" in found["help"]
    assert found["refused"] == "`glow` must be from 0 to 2. Received: 3"
    assert found["json"] == found["read"] == found["walk"] == 1.5 and found["keys"]
    assert found["schema"] == {
        "type": "number",
        "minimum": 0.0,
        "maximum": 2.0,
        "description": "How much the picture glows.",
        "default": 0.0,
    }
    assert ", Glow: 1.5" in found["text"]
