"""`kerasdiffusion bench --only teach`: that it measures what it says."""

import dataclasses

import pytest

from kerasdiffusion.apps.bench import teach, teach_worker, worker
from kerasdiffusion.apps.cli import main
from tests.tiny import TINY, TINY_SDXL, tiny_model


def test_the_table_has_the_ratio_to_the_peer():
    figures = {"step": 1.5, "cpu": 2.0, "first": 10.0, "first_cpu": 9.0}
    peer = {"step": 3.0, "cpu": 8.0, "first": 1.0, "first_cpu": 3.0}
    figures["peak"], peer["peak"] = 2**30, 4 * 2**30
    lines = list(teach.table({"kerasdiffusion": figures, "diffusers": peer}))
    assert lines[0].split() == ["kerasdiffusion", "diffusers", "ratio"]
    ratios = [line.split()[-1] for line in lines[1:]]
    assert ratios == ["0.50", "0.25", "10.00", "3.00", "0.25"]
    assert "ratio" not in next(teach.table({"kerasdiffusion": figures}))


def test_another_peer_is_refused(capsys):
    command = ["bench", "--only", "teach", "--peer", "keras-cv", "--preset", "sd1.5"]
    assert main(command) == 1
    assert "beside diffusers. Received: keras-cv" in capsys.readouterr().err


def job(config, **changes):
    values = {
        "library": "kerasdiffusion",
        "preset": "tiny",
        "random_weights": True,
        "height": 32,
        "width": 32,
        "batch_size": 1,
        "steps": 1,
        "precision": "float32",
        "jit_compile": "auto",
        "repeats": 1,
        "config": dataclasses.asdict(config),
    }
    return teach_worker.TeachJob(**values | changes)


@pytest.mark.heavy
@pytest.mark.parametrize("config", [TINY, TINY_SDXL], ids=["sd1", "sdxl"])
@pytest.mark.parametrize("remat", [False, True])
def test_both_libraries_teach_the_same_number_of_weights(config, remat):
    from kerasdiffusion.apps.bench import teach_diffusers, teach_ours

    found = []
    for module in (teach_ours, teach_diffusers):
        library = module.Library(job(config, remat=remat))
        assert 0.1 < library.step() < 10
        found.append(library.facts["trained"])
    assert found[0] == found[1] > 0


@pytest.mark.heavy
def test_a_bench_of_a_tiny_model(tmp_path, capsys):
    tiny_model().save_preset(tmp_path / "tiny")
    command = ["bench", "--preset", str(tmp_path / "tiny"), "--only", "teach"]
    assert main([*command, "--repeats", "1", "--size", "32"]) == 0
    text = capsys.readouterr().out
    assert "without checkpointing" in text and "\nwith checkpointing" in text
    assert text.count("peak memory, GiB") == 2
    assert worker.peak_memory() is None or "0.00" not in text.split("peak")[1][:40]
