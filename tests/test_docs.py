"""The pages' code blocks run, their links lead somewhere, and the docs build."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from kerasdiffusion import StableDiffusion

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import blocks  # noqa: E402

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="once is enough"
)
PAGES = [page for page in blocks.pages() if blocks.blocks(page)]
#: Enough to go through every part.
STEPS = 4
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)\s#]+)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def most_steps(pytestconfig, monkeypatch):
    """Steps of a picture, whatever a block says: all of them with `--full-size`."""
    if pytestconfig.getoption("--full-size"):
        return None
    make = StableDiffusion.__init__

    def made(self, *args, **options):
        make(self, *args, **options)
        own = self.config.generation
        quick = dataclasses.replace(own, num_steps=min(own.num_steps, STEPS))
        self.config = self.config.replace(generation=quick)

    monkeypatch.setattr(StableDiffusion, "__init__", made)
    return STEPS


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_blocks_run(page, most_steps, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    blocks.run(page, most_steps=most_steps)
    for picture in re.findall(r"\]\((?:\.\./)?pictures/([^)]+)\)", page.read_text()):
        assert (tmp_path / picture).is_file(), f"no block paints {picture}"


@pytest.mark.heavy
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if f": {blocks.LONG}" in page.read_text("utf-8")],
    ids=name_of,
)
def test_blocks_that_take_long_run(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    blocks.run(page, long=True)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_is_not_run_says_why(page):
    for block in blocks.blocks(page):
        assert block.why_not is None or len(block.why_not) > 10


@pytest.mark.parametrize("page", blocks.pages(), ids=name_of)
def test_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text("utf-8")):
        assert (page.parent / link).exists(), f"{name_of(page)} links to {link}"


def test_the_docs_build_without_a_warning(tmp_path):
    pytest.importorskip("sphinx")
    child = subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"),
            *("-d", str(tmp_path / "trees"), str(ROOT / "docs"), str(tmp_path / "out")),
        ],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert child.returncode == 0, child.stdout[-5000:]
    assert "text_to_image" in (tmp_path / "out/api.html").read_text("utf-8")
