"""Several processes: the tests of `teach` run two; here is what one alone is told."""

import keras
import pytest

from kerasdiffusion.compute import hosts


def test_one_process_is_the_first_and_waits_for_nobody():
    assert hosts.place() == (0, 1)
    with hosts.first_ahead("here"):
        hosts.wait("there")
    with hosts.alone():
        assert keras.distribution.distribution() is None


def test_who_cannot_learn_together_is_told_how(monkeypatch):
    for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID"):
        monkeypatch.delenv(f"KERAS_DISTRIBUTION_{name}", raising=False)
    with pytest.raises(ValueError, match="must run on JAX|must be told of each other"):
        hosts.begin()
