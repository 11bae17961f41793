"""Notebooks: the bundled model's run, Colab's are what they were made from."""

import ast
import importlib.util
from pathlib import Path

import keras
import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("build", ROOT / "notebooks" / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)


def read(place, name):
    notebook = nbformat.read(ROOT / place / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    return notebook


def sources(notebook):
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def code(notebook):
    """Its Python, without the lines that only notebooks know."""
    lines = [
        line
        for kind, text in sources(notebook)
        if kind == "code"
        for line in text.splitlines()
        if not line.startswith("%")
    ]
    return "\n".join(lines)


def test_there_are_no_others():
    assert len(build.TITLES) == 6
    for place in ("notebooks", "colab"):
        found = sorted(path.stem for path in (ROOT / place).glob("*.ipynb"))
        assert found == build.TITLES


@pytest.mark.parametrize("name", build.TITLES)
@pytest.mark.parametrize("place", ["notebooks", "colab"])
def test_notebooks_are_what_the_sources_say(place, name):
    """`python notebooks/build.py` writes them."""
    made = build.make(name, "colab" if place == "colab" else "local")
    assert sources(read(place, name)) == sources(made)


@pytest.mark.parametrize("name", build.TITLES)
def test_colab_notebooks_compile_and_install_what_they_need(name):
    notebook = read("colab", name)
    ast.parse(code(notebook))
    (kind, title), (_, install) = sources(notebook)[:2]
    assert kind == "markdown" and title.startswith("# ")
    assert "%pip install" in install and "%env KERAS_BACKEND" in install
    # Two are about the toy, which has room to learn anywhere.
    toy = name in ("5_custom_loops", "6_teach")
    assert ('"sd1.5"' in code(notebook)) is not toy
    assert ("emoji" in code(notebook)) is toy
    assert notebook.metadata.accelerator == "GPU"


@pytest.mark.parametrize("name", build.TITLES)
def test_outputs_are_kept_and_small(name):
    notebook = read("notebooks", name)
    ast.parse(code(notebook))
    kinds = {
        kind
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        for kind in output.get("data", ())
    }
    assert kinds & {"image/png", "image/gif"} and "image/jpeg" not in kinds
    assert (ROOT / "notebooks" / f"{name}.ipynb").stat().st_size < 700_000


def test_a_log_between_two_lines_leaves_one_output():
    stream = nbformat.v4.new_output
    outputs = [
        stream("stream", name=name, text=text)
        for name, text in (("stdout", "a\n"), ("stderr", "log\n"), ("stdout", "b\n"))
    ]
    (output,) = build.without_logs(outputs)
    assert output.text == "a\nb\n"


@pytest.mark.heavy
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the notebooks are TensorFlow's"
)
@pytest.mark.parametrize("name", build.TITLES)
def test_notebooks_run(name):
    kept, again = read("notebooks", name), read("notebooks", name)
    build.execute(again)
    for before, after in zip(kept.cells, again.cells, strict=True):
        shown = [
            [sorted(output.get("data", ())) for output in cell.get("outputs", ())]
            for cell in (before, after)
        ]
        assert shown[0] == shown[1], before.source
