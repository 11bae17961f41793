"""Peak memory of the parts and of a picture."""

import json

import pytest

from kerasdiffusion.apps.bench import memory
from kerasdiffusion.apps.bench.memory import measure, table
from kerasdiffusion.apps.cli import main
from kerasdiffusion.networks.programs import Programs


@pytest.mark.parametrize(
    "tasks",
    [
        ("nothing", "picture"),
        pytest.param(
            ("nothing", "encode", "denoise", "picture"), marks=pytest.mark.heavy
        ),
    ],
    ids=len,
)
def test_each_task_is_measured_in_a_process_of_its_own(tasks, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")  # the quickest to start
    pytest.importorskip("torch")
    results = list(measure("emoji", (128,), tasks=tasks))
    assert tuple(each["task"] for each in results) == tasks
    peaks = [each["bytes"] for each in results]
    assert 2**26 < peaks[0] and peaks[-1] < 2**36
    assert all(less < more for less, more in zip(peaks, peaks[1:], strict=False))
    assert not any("error" in each for each in results)


@pytest.mark.parametrize("task", ["encode", "denoise", "decode"])
def test_a_task_runs_what_it_is_called_by_alone(task, tiny, tmp_path, monkeypatch):
    """Here in this process."""
    tiny.save_preset(tmp_path / "model")
    ran, program = [], Programs.program

    def seen(self, name, *more):
        ran.append(name)
        return program(self, name, *more)

    monkeypatch.setattr(Programs, "program", seen)
    job = {"task": task, "side": 32, "folder": str(tmp_path / "model")}
    memory._run(job | {"precision": "float32", "jit_compile": "auto"})
    assert set(ran) == {task}


def test_what_fails_is_said():
    results = [
        {"task": "nothing", "side": None, "bytes": 2**29},
        {"task": "decode", "side": 512, "bytes": 2**30},
        {"task": "decode", "side": 2048, "bytes": None, "error": "exit code 137: no"},
    ]
    assert table(results).splitlines() == [
        "peak memory, GiB   512x512  2048x2048",
        "the backend alone     0.50       0.50",
        "decoder               1.00     failed",
        "decoder, 2048x2048: exit code 137: no",
    ]


def test_the_command_prints_it(monkeypatch, capsys, tmp_path):
    asked = []

    def measure(*args):
        asked.append(args)
        yield {"task": "picture", "side": 768, "bytes": 3 * 2**30}

    monkeypatch.setattr("kerasdiffusion.apps.bench.memory.measure", measure)
    command = ["bench", "--preset", "sd1.5", "--precision", "bfloat16", "--memory"]
    path = tmp_path / "figures.json"
    assert main([*command, "768", "--json", str(path)]) == 0
    assert main(command) == 0
    assert asked == [
        ("sd1.5", sides, "bfloat16", "auto")
        for sides in ([768], (512, 768, 1024, 2048))
    ]
    assert "\na picture            3.00\n" in capsys.readouterr().out
    assert json.loads(path.read_text())[0]["side"] == 768
