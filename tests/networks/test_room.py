"""What could fit in no memory is said ahead; what would run is never refused."""

import pytest

from kerasdiffusion.networks import room
from kerasdiffusion.networks.room import check_room, least_bytes
from kerasdiffusion.presets.config import ModelConfig
from tests.tiny import TINY

SD = ModelConfig()


@pytest.fixture
def machine(monkeypatch):
    """A machine of 24 GiB."""
    monkeypatch.setattr(room, "most_bytes", lambda: 24 * 2**30)


@pytest.mark.parametrize(
    ("config", "size", "pictures", "at_once"),
    [
        (SD, (512, 512), 10**9, None),
        (SD, (79992, 79992), 1, None),
        (SD, (512, 512), 10**9, 1),
        (TINY, (32, 32), 10**9, None),
        (TINY, (32, 32), 10**30, None),
        (TINY, (2**40, 2**40), 1, None),
    ],
)
def test_what_cannot_be_is_refused_ahead(machine, config, size, pictures, at_once):
    with pytest.raises(
        MemoryError, match="fit in memory.* 24 GiB.*Received: "
    ) as caught:
        check_room(config, size, pictures, at_once)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("size", "pictures", "at_once"),
    [((512, 512), 64, None), ((2048, 2048), 8, None), ((512, 512), 10_000, 4)],
)
def test_what_runs_is_not(machine, size, pictures, at_once):
    check_room(SD, size, pictures, at_once)
    check_room(SD, size, pictures, at_once, "mixed_bfloat16")


def test_the_least_is_less_than_any_run_was_seen_to_take():
    """SD 1.4 in float32 peaks at more than a GiB beyond its weights at 512 pixels."""
    assert least_bytes(SD, (512, 512), 1) < 2**26
    half = least_bytes(SD, (512, 512), 1, itemsize=2)
    assert half < least_bytes(SD, (512, 512), 1) < least_bytes(SD, (512, 512), 2)


def test_the_machine_is_asked():
    assert 2**28 < room.most_bytes() <= 2**62


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(room, "_LIMITS", (tmp_path / "none", limit))
    limit.write_text("max\n")
    whole = room.most_bytes()
    limit.write_text(f"{2**27}\n")
    accelerator = whole - whole % room._ACCELERATOR if whole > room._ACCELERATOR else 0
    assert room.most_bytes() == 2**27 + accelerator


def test_a_limit_of_the_process_counts(monkeypatch):
    resource = pytest.importorskip("resource")
    whole, limits = room.most_bytes(), dict.fromkeys(range(99), resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits[kind], -1))
    assert room.most_bytes() == whole
    limits[resource.RLIMIT_AS] = 2**27
    assert room.most_bytes() % room._ACCELERATOR == 2**27


def test_a_model_says_so_ahead_of_painting(tiny, monkeypatch):
    monkeypatch.setattr("kerasdiffusion.networks.room.most_bytes", lambda: 2**20)
    with pytest.raises(MemoryError, match="fit in memory"):
        tiny.text_to_image("a cat", batch_size=4096, progress_bar=False)
    with pytest.raises(MemoryError, match="fit in memory"):
        tiny.interpolate(["a cat", "a dog"], frames=100_000, progress_bar=False)
