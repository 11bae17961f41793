"""The collector of garbage while much is made. The rest: `test_parts.py`."""

import gc

import numpy as np
import pytest

from kerasdiffusion import backend, memory


@pytest.fixture
def collector():
    """As it was, afterwards."""
    was_on = gc.isenabled()
    yield
    (gc.enable if was_on else gc.disable)()


@pytest.mark.parametrize("is_on", [True, False])
def test_the_collector_is_as_it_was_after_a_pause(collector, is_on):
    (gc.enable if is_on else gc.disable)()
    with pytest.raises(ZeroDivisionError), memory.collector_paused():
        assert not gc.isenabled()
        with memory.collector_paused():
            pass
        assert not gc.isenabled()
        _ = 1 / 0
    assert gc.isenabled() == is_on


def test_it_pauses_while_a_program_is_traced(collector):
    gc.enable()
    states = []

    def function(x):
        states.append(gc.isenabled())
        return x + 1.0

    program = backend.Program(function, [])
    assert backend.to_numpy(program(np.ones(1, "float32"))) == 2.0
    assert set(states) == {False} and gc.isenabled()


def test_what_was_imported_is_old_and_not_looked_at(collector):
    gc.enable()

    def young_after(**options):
        with memory.collector_paused(**options):
            made = {id(each): each for each in ([n] for n in range(10_000))}
        young = [each for age in (0, 1) for each in gc.get_objects(generation=age)]
        return sum(id(each) in made for each in young)

    assert young_after() == 10_000
    assert young_after(importing=True) == 0
    assert gc.get_freeze_count() == 0  # garbage among it is found some day


def test_what_somebody_froze_stays_frozen(collector):
    gc.enable()
    gc.freeze()
    try:
        before = gc.get_freeze_count()
        with memory.collector_paused(importing=True):
            pass
        assert gc.get_freeze_count() == before > 0
    finally:
        gc.unfreeze()
