"""The command line around its commands: help, errors and exit codes."""

import subprocess
import sys

import pytest

from kerasdiffusion.apps import options
from kerasdiffusion.apps.cli import main
from kerasdiffusion.pictures import metadata
from kerasdiffusion.requests.web_ui_names import WEB_UI_NAMES
from kerasdiffusion.sampling.samplers import SAMPLERS, find_sampler

HELP = """
import contextlib
import io
import sys
from kerasdiffusion.apps.cli import main
for command in ([], ["generate"], ["walk"], ["show"], ["bench"]):
    out = io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(out):
        main([*command, "--help"])
    assert "usage: kerasdiffusion" in out.getvalue()
print({"keras", "tensorflow", "jax", "torch"} & set(sys.modules))
"""


def test_help_imports_no_framework():
    child = subprocess.run(
        [sys.executable, "-c", HELP], capture_output=True, text=True, check=False
    )
    assert child.stdout.strip() == "set()", child.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND (see kerasdiffusion"),
        (["generate"], "required: PROMPT (see kerasdiffusion generate --help)"),
        (["generate", "x", "--steps", "0"], "from 1 to 1000. Received: 0"),
        (["generate", "x", "--batch-size", "two"], "a whole number. Received: two"),
        (["generate", "x", "--size", "64x"], "N or WIDTHxHEIGHT in pixels"),
        (["generate", "x", "--seed", "-2"], "from 0 to 2**64 - 1. Received: -2"),
        (["generate", "x", "--guidance-scale", "nan"], "must be finite. Received: nan"),
        (["generate", "x", "--sampler", "eulr"], "Did you mean euler or"),
        (["generate", "x", "--backend", "theano"], "invalid choice: 'theano'"),
        (["generate", "x", "--pre", "emoji"], "unrecognized arguments: --pre"),
        (["generate", "x", "--steps", "1001"], "from 1 to 1000. Received: 1001"),
        (["generate", "x", "--batch-size", "1000000000"], "from 1 to 4096. Received"),
        (["generate", "x", "--size", "79992"], "at most 8192 pixels a side"),
        (["walk", "x", "y", "a.gif", "--frames", "1000000000"], "from 1 to 100000."),
        (["generate", "x", "--cfg-scale", "7"], "--cfg-scale is --guidance-scale here"),
        (["generate", "x", "-n", "4"], "-n is --batch-size here"),
        (["generate", "x", "--width=512"], "--width is --size (as 512 or 768x512"),
        (["generate", "x", "--model", "sd1.5"], "--model is --preset here"),
        (["generate", "x", "--num_inference_steps", "4"], "is --steps here"),
        (["generate", "x", "--guidance_scale", "4"], "did you mean --guidance-scale?"),
        (["generate", "x", "--samplr", "ddim"], "did you mean --sampler?"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_with_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    errors = capsys.readouterr().err
    assert exit.value.code == 2
    assert errors.startswith("kerasdiffusion: error: ") and errors.count("\n") == 1
    assert message in errors


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("Two\nlines. Received: 1"), 1, "error: Two lines. Received: 1"),
        (KeyError("x"), 1, "error: KeyError: 'x' (--traceback shows where)"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_failures_are_one_line_and_have_a_code(monkeypatch, capsys, error, code, line):
    def fail(path):
        raise error

    monkeypatch.setattr(metadata, "read_parameters", fail)
    assert main(["show", "picture.png"]) == code
    assert capsys.readouterr().err == f"kerasdiffusion: {line}\n"


@pytest.mark.parametrize(
    "error", [RecursionError("deep"), KeyError("x"), OSError("gone"), ValueError("no")]
)
def test_show_goes_on_with_the_next_file(monkeypatch, capsys, error):
    def read(path):
        if path.name == "a.png":
            raise error
        return {"prompt": "a cat"}

    monkeypatch.setattr(metadata, "read_parameters", read)
    assert main(["show", "a.png", "b.png"]) == 1
    said = capsys.readouterr()
    assert "b.png:\nprompt: a cat" in said.out
    assert said.err.startswith("kerasdiffusion: error: ") and said.err.count("\n") == 1


@pytest.mark.parametrize("error", [MemoryError(), ValueError("x" * 10**6)])
def test_no_error_is_empty_or_pages_long(monkeypatch, capsys, error):
    def fail(path):
        raise error

    monkeypatch.setattr(metadata, "read_parameters", fail)
    assert main(["show", "a.png"]) == 1
    assert 60 < len(capsys.readouterr().err) < 2100


def test_traceback_shows_where_an_error_came_from(monkeypatch, capsys):
    monkeypatch.setattr(metadata, "read_parameters", lambda path: {}[path])
    assert main(["show", "picture.png", "--traceback"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_size_is_a_side_or_width_and_height():
    assert options.size("512") == (512, 512)
    assert options.size("768x512") == (512, 768)


def test_the_backend_cannot_change_in_a_process():
    import keras

    running = keras.backend.backend()
    other = next(name for name in options.BACKENDS if name != running)
    options.set_backend(running)
    with pytest.raises(ValueError, match=f"Keras runs on {running} already"):
        options.set_backend(other)


@pytest.mark.parametrize(
    ("file", "asked", "left_out"),
    [
        (None, None, True),
        ('{"backend": "tensorflow"}', None, True),
        ('{"backend": "jax"}', None, False),
        ('{"backend": "jax"}', "tensorflow", True),
        (None, "jax", False),
        ("[", None, False),
    ],
)
def test_jax_is_left_out_where_keras_runs_on_tensorflow(
    file, asked, left_out, tmp_path, monkeypatch
):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    if file is not None:
        (tmp_path / "keras.json").write_text(file)
    if asked is not None:
        monkeypatch.setenv("KERAS_BACKEND", asked)
    for name in ("keras", "jax", "pandas"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with options._unasked_left_out():
        assert sys.modules["pandas"] is None
        assert ("jax" in sys.modules) == left_out
    assert not {"pandas", "jax"} & set(sys.modules)


def test_the_precisions_are_those_of_the_library():
    from kerasdiffusion.compute import backend

    assert options.PRECISIONS == backend.PRECISIONS


def test_every_sampler_has_a_name_that_leads_back_to_it():
    assert set(WEB_UI_NAMES) == set(SAMPLERS)
    for canonical, (name, schedule_type) in WEB_UI_NAMES.items():
        spelt = f"{name} {schedule_type or ''}".replace(" Uniform", "")
        assert find_sampler(spelt).name == canonical
