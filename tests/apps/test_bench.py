"""`kerasdiffusion bench`: that it measures the right things, not how long they take."""

import dataclasses
import json
from pathlib import Path

import pytest

from kerasdiffusion.apps.bench import awaken, command, report, worker
from kerasdiffusion.apps.bench.spans import SPANS
from kerasdiffusion.apps.cli import main
from kerasdiffusion.compute import backend
from kerasdiffusion.weights import WeightsError
from tests.tiny import tiny_model

SECONDS = (
    "network",
    "decode",
    "encode",
    "picture",
    "compile",
    "cold_picture",
    "import",
    "build",
)


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
    facts = {
        "version": "1",
        "backend": "b",
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
        "bytes": {"peak": 2**30 * factor, "device_peak": None},
        "facts": facts,
    }


def test_the_worker_measures_a_model_from_the_disk(model, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "MOST_AT_ONCE", 2)
    result = tmp_path / "result.json"
    worker.main(worker.to_json(make_job(model)), "0", str(result))
    measured = json.loads(result.read_text())
    assert set(measured["seconds"]) == {*SECONDS, *SPANS}
    assert all(seconds >= 0 for seconds in measured["seconds"].values())
    assert measured["bytes"]["peak"] > 2**20
    facts = measured["facts"]
    assert facts["folder"] == model and facts["random_weights"] is False
    assert (facts["height"], facts["width"]) == (32, 32)
    assert facts["config"]["diffusion_model"]["block_widths"] == [32, 64]


def test_parts_are_measured_alone(model, tmp_path):
    result = tmp_path / "result.json"
    job = make_job(model, only=("decode",))
    worker.main(worker.to_json(job), "0", str(result))
    measured = json.loads(result.read_text())
    known = {name for name, figure in measured["seconds"].items() if figure is not None}
    assert known == {"import", "build", "decode"}
    assert measured["bytes"] == {"peak": None, "device_peak": None}


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


def test_a_short_call_is_timed_several_at_once(monkeypatch):
    clock, counts = [0.0], []
    monkeypatch.setattr(worker.time, "perf_counter", lambda: clock[0])

    def calls(count):
        counts.append(count)
        clock[0] += 0.1 * count

    assert worker.median_of_calls(calls, repeats=3) == pytest.approx(0.1)
    assert counts == [1, 1, 2, 2, 2]


def test_peers_do_the_same_work_and_ratios_are_printed(monkeypatch, capsys, tmp_path):
    jobs = []

    def measure(job, **variables):
        jobs.append(job)
        ours = job.library == "kerasdiffusion"
        assert bool(variables) == ours
        return figures(1.0 if ours else 4.0, precision="bfloat16")

    monkeypatch.setattr(command, "measure_apart", measure)
    path = tmp_path / "figures.json"
    arguments = "bench --preset sd1.5 --peer diffusers --batch-size 3 --steps 7 --json"
    assert main([*arguments.split(), str(path)]) == 0
    # Once with nothing compiled yet, once more for the first picture alone.
    first, again, peer = jobs
    assert (first.library, peer.library) == ("kerasdiffusion", "diffusers")
    assert again == dataclasses.replace(first, repeats=0)
    jobs = [first, peer]
    assert jobs[0].precision == "auto" and jobs[1].precision == "bfloat16"
    assert (jobs[1].height, jobs[1].width, jobs[1].batch_size) == (32, 64, 3)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("sd1.5, random weights, 64x32, batch 3, bfloat16;")
    rows = [line.split() for line in lines]
    assert "U-Net call, guided, s 2.00 8.00 0.25".split() in rows
    assert "the next process to picture, s 2.00 - -".split() in rows
    assert "3 x 7 steps, warm, s 2.00 8.00 0.25".split() in rows
    assert "peak memory, GiB 1.00 4.00 0.25".split() in rows
    assert not any("device" in line for line in lines)
    assert json.loads(path.read_text())["results"]["diffusers"] == figures(
        4.0, precision="bfloat16"
    )


def test_by_openvino_and_beside_it(monkeypatch, capsys):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: True)
    ran, awoken = [], []

    def run_apart(library, module, *arguments, **environment):
        job = json.loads(arguments[0])
        if module == "awaken":  # ahead of each that is measured
            return awoken.append(library)
        ran.append([library, module, job["jit_compile"], job["only"], environment])
        if module == "peer_openvino":
            assert job["converted"] is None and Path(arguments[1]).is_dir()
            return
        assert (job["converted"] is not None) == (library == "openvino")
        content = figures(1.0, jit_compile=job["jit_compile"])
        Path(arguments[2]).write_text(json.dumps(content))

    monkeypatch.setattr(command, "run_apart", run_apart)
    arguments = "bench --preset sd1.5 --openvino --only cold,network --peer openvino"
    assert main([*arguments.split(), "--peer", "kerasdiffusion-openvino"]) == 0
    how = ("openvino", ["cold", "network"])
    for first in ran[:2]:  # the second finds the programs that the first has kept
        assert first.pop().keys() == {"KERASDIFFUSION_COMPILE_CACHE"}
    assert ran == [
        ["kerasdiffusion", "worker", *how],
        ["kerasdiffusion", "worker", *how],
        ["openvino", "peer_openvino", *how, {}],
        ["openvino", "worker", *how, {}],
        ["kerasdiffusion-openvino", "worker", *how, {"KERAS_BACKEND": "tensorflow"}],
    ]
    assert awoken == [library for library, module, *_ in ran if module == "worker"]
    assert ", float32, OpenVINO; medians" in capsys.readouterr().out


def test_only_what_there_is_can_be_measured(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--only", "network,decoder"])
    assert "must be of cold, picture, network, decode" in capsys.readouterr().err


def test_a_peer_that_fails_costs_its_column_only(monkeypatch, capsys):
    def measure(job, **variables):
        if job.library == "diffusers":
            raise ChildProcessError("diffusers could not be measured")
        return figures(1.0)

    monkeypatch.setattr(command, "measure_apart", measure)
    assert main(["bench", "--preset", "sd1.5", "--peer", "diffusers"]) == 1
    captured = capsys.readouterr()
    assert captured.err == "kerasdiffusion: error: diffusers could not be measured\n"
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
