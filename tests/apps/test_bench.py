"""`kerasdiffusion bench`: that it measures the right things, not how long they take."""

import contextlib
import dataclasses
import json
import sys
from pathlib import Path

import pytest

from kerasdiffusion.apps.bench import (
    awaken,
    command,
    measuring,
    processes,
    report,
    worker,
)
from kerasdiffusion.apps.bench.spans import SPANS
from kerasdiffusion.apps.cli import main
from kerasdiffusion.compute import backend
from kerasdiffusion.weights import WeightsError
from tests.tiny import tiny_model

SECONDS = ("cold_picture", "import", "build", "first_picture")
KINDS = ("picture", "network", "decode", "encode")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "tiny"
    tiny_model().save_preset(folder)
    return str(folder)


def make_job(model, **changes):
    values = {
        "library": "kerasdiffusion",
        "preset": model,
        "random_weights": False,
        "height": None,
        "width": None,
        "batch_size": 2,
        "steps": 1,
        "precision": "float32",
        "jit_compile": "auto",
        "repeats": 1,
    }
    return worker.Job(**values | changes)


def figures(factor, **facts):
    """What a process says of how it began."""
    facts = {
        "version": "1",
        "backend": "b",
        "accelerator": False,
        "precision": "float32",
        "jit_compile": False,
        "height": 32,
        "width": 64,
        "random_weights": True,
        "folder": None,
        "config": None,
        **facts,
    }
    return {
        "seconds": dict.fromkeys(SECONDS, 2.0 * factor),
        "bytes": {"peak": 2**30 * factor, "device_peak": None, "held": 1},
        "facts": facts,
    }


class Process:
    """A process that takes so many seconds for each call, and tells of the calls."""

    def __init__(self, library, seconds, log, lives=1000):
        self.library, self.seconds, self.log, self.lives = library, seconds, log, lives

    def ask(self, kind, count):
        if not self.lives:
            raise ChildProcessError(f"{self.library} could not be measured")
        self.lives -= 1
        self.log.append((self.library, kind, count))
        each = {"seconds": self.seconds, "cpu": 2 * self.seconds}
        each |= {"whole": count * self.seconds, "beside": 0.5, "stolen": 0.25}
        return each


def test_the_worker_measures_a_model_from_the_disk(model):
    library, first = worker.begin(make_job(model), 0.0)
    assert set(first["seconds"]) == {*SECONDS, *SPANS}
    assert all(seconds >= 0 for seconds in first["seconds"].values())
    assert first["bytes"]["held"] >= first["bytes"]["peak"] > 2**20
    facts = first["facts"]
    assert facts["folder"] == model and facts["random_weights"] is False
    assert (facts["height"], facts["width"]) == (32, 32)
    assert facts["config"]["diffusion_model"]["block_widths"] == (32, 64)
    for kind in KINDS:
        call = worker.timed_calls(library, kind, 2)
        assert call["whole"] == pytest.approx(2 * call["seconds"])
        assert 0 < call["cpu"] and call["seconds"] > 0
        assert call["beside"] is None or call["beside"] >= 0


def test_without_a_picture_none_is_made(model):
    _, first = worker.begin(make_job(model, only=("decode",)), 0.0)
    known = {name for name, figure in first["seconds"].items() if figure is not None}
    assert known == {"import", "build"}
    assert first["bytes"]["peak"] is None and first["bytes"]["device_peak"] is None


def test_random_weights_need_none_on_the_disk(model):
    from kerasdiffusion.apps.bench.ours import Library

    library = Library(make_job(model, random_weights=True, height=64))
    assert library.facts["random_weights"] and library.facts["folder"] is None
    for variable in library.model.variables:
        values = backend.to_numpy(variable.value)
        matrix = values.ndim > 1
        assert matrix == bool(values.std()) and abs(values).max() < 6
    assert (library.facts["height"], library.facts["width"]) == (64, 32)


def test_what_a_cold_process_reads_is_read_before(model, tmp_path):
    job = make_job(model)
    files = awaken.weights(job)
    assert {path.suffix for path in files} == {".safetensors"} and len(files) == 3
    assert awaken.weights(dataclasses.replace(job, random_weights=True)) == set()
    peer = dataclasses.replace(job, library="diffusers", folder=str(model), preset="")
    assert awaken.weights(peer) == files
    awaken.main(worker.to_json(job))
    next(iter(files)).rename(tmp_path / "away")
    with pytest.raises(WeightsError):
        awaken.main(worker.to_json(job))
    (tmp_path / "away").rename(next(iter(files)))


def run_in_turn(job, **seconds):
    log, failures = [], []
    asked = {name: Process(name, each, log) for name, each in seconds.items()}
    found = measuring.in_turn(asked, job, failures.append)
    return found, log, failures


def test_calls_are_made_in_turn(model):
    job = make_job(model, repeats=3, only=("picture", "network"))
    found, log, _ = run_in_turn(job, kerasdiffusion=5.0, peer=1.0)
    pictures = [("kerasdiffusion", "picture", 1), ("peer", "picture", 1)]
    assert log[:6] == 3 * pictures
    # Of these the first warms up: there was none.
    assert [name for name, *_ in log[6:]] == [
        *("kerasdiffusion", "kerasdiffusion", "peer", "peer"),
        *("kerasdiffusion", "peer", "kerasdiffusion", "peer"),
    ]
    counts = {len(calls) for each in found.values() for calls in each.values()}
    assert counts == {3}


def test_a_short_call_is_timed_several_at_once(model):
    job = make_job(model, repeats=3, only=("network",))
    _, log, _ = run_in_turn(job, kerasdiffusion=0.1, peer=0.3)
    counts = [count for name, _, count in log if name == "kerasdiffusion"]
    assert counts == [1, 1, 2, 2, 2]
    assert {count for name, _, count in log if name == "peer"} == {1}


def test_calls_of_a_minute_are_not_repeated(model):
    job = make_job(model, repeats=3, only=("picture",))
    _, log, _ = run_in_turn(job, kerasdiffusion=1.0, peer=measuring.PATIENCE)
    assert len(log) == 2


def test_a_peer_that_ends_while_it_is_asked_costs_its_column_only(model):
    log, failures = [], []
    asked = {name: Process(name, 1.0, log) for name in ("kerasdiffusion", "peer")}
    asked["peer"].lives = 3
    job = make_job(model, repeats=4, only=("network",))
    found = measuring.in_turn(asked, job, failures.append)
    assert list(found) == ["kerasdiffusion"] and len(failures) == 1
    assert len(found["kerasdiffusion"]["network"]) == 4
    asked["kerasdiffusion"].lives = 0
    with pytest.raises(ChildProcessError):
        measuring.in_turn(asked, job, failures.append)


@pytest.mark.parametrize(
    "changes, peers, room",
    [
        ({}, 2, True),
        ({}, 0, False),
        ({"accelerator": True}, 1, False),
        ({"held": 2**60}, 1, False),
        ({"held": None}, 1, False),
    ],
)
def test_calls_are_in_turn_where_there_is_memory_for_all(changes, peers, room):
    ours = figures(1.0, accelerator=changes.get("accelerator", False))
    ours["bytes"]["held"] = changes.get("held", 1)
    assert measuring.has_room(ours, peers) == room


def begun(monkeypatch, log, **seconds):
    """`measuring.begin` without processes; the jobs that it is given."""
    jobs = []

    def begin(job, stack, **variables):
        jobs.append((job, variables))
        each = seconds[job.library.replace("-", "_")]
        if each is None:
            raise ChildProcessError(f"{job.library} could not be measured")
        found = figures(each, precision="bfloat16", jit_compile=job.jit_compile)
        process = Process(job.library, each, log)
        stack.callback(log.append, (job.library, "ends", 0))
        return found, process

    monkeypatch.setattr(measuring, "begin", begin)
    return jobs


def test_peers_do_the_same_work_and_ratios_are_printed(monkeypatch, capsys, tmp_path):
    log = []
    jobs = begun(monkeypatch, log, kerasdiffusion=1.0, diffusers=4.0)
    path = tmp_path / "figures.json"
    arguments = "bench --preset sd1.5 --peer diffusers --batch-size 3 --steps 7 --json"
    assert main([*arguments.split(), str(path)]) == 0
    # Once with nothing compiled yet, once more for the first picture alone.
    (first, cache), (again, the_same), (peer, none) = jobs
    assert (first.library, peer.library) == ("kerasdiffusion", "diffusers")
    assert again == dataclasses.replace(first, repeats=0)
    assert cache == the_same and not none
    assert first.precision == "auto" and peer.precision == "bfloat16"
    assert (peer.height, peer.width, peer.batch_size) == (32, 64, 3)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("sd1.5, random weights, 64x32, batch 3, bfloat16;")
    rows = [line.split() for line in lines]
    assert "U-Net call, guided, s 1.00 4.00 0.25 (0.25-0.25)".split() in rows
    assert "of processor time, s 2.00 8.00 0.25 (0.25-0.25)".split() in rows
    assert "cold process to picture, s 2.00 8.00 0.25".split() in rows
    assert "the next process to picture, s 2.00 - -".split() in rows
    assert "3 x 7 steps, warm, s 1.00 4.00 0.25 (0.25-0.25)".split() in rows
    assert "compile, s 1.00 4.00 0.25".split() in rows
    assert "peak memory, GiB 1.00 4.00 0.25".split() in rows
    assert not any("device" in line for line in lines)
    assert lines[-1].startswith("Beside the calls, other work took 0.50 cores")
    assert "0.25: a busy machine." in lines[-1]
    result = json.loads(path.read_text())["results"]["diffusers"]
    assert result["seconds"]["network"] == 4.0 and len(result["calls"]["network"]) == 5


def test_without_room_for_all_one_ends_before_the_other_begins(monkeypatch, capsys):
    log = []
    begun(monkeypatch, log, kerasdiffusion=1.0, diffusers=4.0, openvino=2.0)
    monkeypatch.setattr(measuring, "has_room", lambda ours, peers: False)
    monkeypatch.setattr(measuring, "run_apart", lambda *arguments: None)
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: True)
    arguments = "bench --preset sd1.5 --only network --peer diffusers --peer openvino"
    assert main(arguments.split()) == 0
    names = [name for name, *_ in log]
    assert names == sorted(names, key=["kerasdiffusion", "diffusers", "openvino"].index)
    assert [name for name, kind, _ in log if kind == "ends"] == list(
        dict.fromkeys(names)
    )
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert "U-Net call, guided, s 1.00 4.00 0.25 2.00 0.50".split() in rows


def test_by_openvino_and_beside_it(monkeypatch, capsys):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: True)
    seconds = {"kerasdiffusion": 1.0, "openvino": 2.0, "kerasdiffusion_openvino": 3.0}
    jobs, converted = begun(monkeypatch, [], **seconds), []

    def run_apart(library, module, *arguments):
        job = json.loads(arguments[0])
        assert job["converted"] is None and Path(arguments[1]).is_dir()
        converted.append((library, module, job["jit_compile"]))

    monkeypatch.setattr(measuring, "run_apart", run_apart)
    arguments = "bench --preset sd1.5 --openvino --only cold,network --peer openvino"
    assert main([*arguments.split(), "--peer", "kerasdiffusion-openvino"]) == 0
    assert converted == [("openvino", "peer_openvino", "openvino")]
    assert {job.jit_compile for job, _ in jobs} == {"openvino"}
    assert {job.only for job, _ in jobs} == {("cold", "network")}
    assert [(job.library, bool(job.converted), list(env)) for job, env in jobs] == [
        # The second of each finds what the first has kept.
        *[("kerasdiffusion", False, [SWITCH])] * 2,
        ("openvino", True, []),
        *[("kerasdiffusion-openvino", False, [SWITCH, "KERAS_BACKEND"])] * 2,
    ]
    assert ", bfloat16, OpenVINO; medians" in capsys.readouterr().out


SWITCH = "KERASDIFFUSION_COMPILE_CACHE"
ECHO = """
import os, sys
from kerasdiffusion.apps.bench.processes import answering
with answering() as answer:
    answer({"first": os.environ["WORD"]})
    print("of a library")
    os.system("echo of its C++")
    for line in sys.stdin:
        if "end" in line:
            sys.exit("ended")
        answer({"heard": line.strip()})
"""


def test_a_process_is_asked_line_by_line(monkeypatch):
    """What it prints is none of its answers."""
    monkeypatch.setattr(
        processes, "_command", lambda module, given: [sys.executable, "-c", ECHO]
    )
    with processes.Asked("echo", "echo", WORD="yes") as asked:
        assert asked.answer() == {"first": "yes"}
        assert asked.ask(kind="a") == {"heard": '{"kind": "a"}'}
        with pytest.raises(ChildProcessError, match=r"echo .*exit code 1\): ended"):
            asked.ask(kind="end")


@pytest.mark.heavy
def test_a_worker_is_asked_line_by_line(model, monkeypatch):
    """A real one; what its library would read is read ahead of it."""
    awoken = []
    monkeypatch.setattr(measuring, "run_apart", lambda *given: awoken.append(given[1]))
    with contextlib.ExitStack() as stack:
        job = make_job(model, only=("cold", "decode"))
        first, asked = measuring.begin(job, stack, KERAS_BACKEND="tensorflow")
        assert awoken == ["awaken"] and first["seconds"]["cold_picture"] > 0
        assert asked.ask(kind="decode", count=1)["seconds"] > 0
        with pytest.raises(ChildProcessError, match="kerasdiffusion could not.*sing"):
            asked.ask(kind="sing", count=1)


def test_only_what_there_is_can_be_measured(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--only", "network,decoder"])
    assert "must be of cold, picture, network, decode" in capsys.readouterr().err


def test_a_peer_that_fails_costs_its_column_only(monkeypatch, capsys):
    begun(monkeypatch, [], kerasdiffusion=1.0, diffusers=None)
    assert main(["bench", "--preset", "sd1.5", "--peer", "diffusers"]) == 1
    captured = capsys.readouterr()
    assert "kerasdiffusion: error: diffusers could not be measured\n" in captured.err
    assert "U-Net call" in captured.out and "ratio" not in captured.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Stable Diffusion 1's geometry only. Received: --peer keras-cv --preset"),
        (["--preset", "sd1.4", "--size", "500"], "multiples of 128 only"),
        (["--preset", "sdxl", "--peer", "openvino"], "one text encoder only"),
    ],
)
def test_peers_are_refused_where_they_cannot_run(
    model, monkeypatch, capsys, options, message
):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: True)
    arguments = ["bench", "--peer", "keras-cv", *(options or ["--preset", model])]
    assert main(arguments) == 1
    assert message in capsys.readouterr().err


def test_a_peer_has_to_be_installed(monkeypatch, capsys):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    assert main(["bench", "--peer", "diffusers"]) == 1
    assert "pip install diffusers. Received" in capsys.readouterr().err


def test_three_digits_are_shown():
    shown = [report._shown(figure, 1) for figure in (0.01234, 6.2, 151.0, None)]
    assert shown == ["0.0123", "6.20", "151", "-"]


def test_the_profile_names_the_operations(model, capsys):
    assert main(["bench", "--preset", model, "--size", "64", "--profile"]) == 0
    lines = capsys.readouterr().out.splitlines()
    calls = [line for line in lines if line and not line.startswith(" ")]
    assert [call.partition(":")[0] for call in calls] == [
        "U-Net call, guided",
        "decode",
    ]
    rows = [line.split() for line in lines if line.startswith("  ")]
    shares = [float(row[0].rstrip("%")) for row in rows]
    assert sum(shares) == pytest.approx(200, abs=2)
    of_network, _, of_decode = "\n".join(lines).partition("decode:")
    assert "Conv2D" in of_network and "Conv2D" in of_decode  # the one is in a loop
