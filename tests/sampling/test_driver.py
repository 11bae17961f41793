import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.compute.backend import Program
from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling import driver, loop
from kerasdiffusion.sampling.denoiser import denoiser
from kerasdiffusion.sampling.driver import CAPACITY, drive, pieces
from kerasdiffusion.sampling.noise import initial_noise, step_noise
from kerasdiffusion.sampling.samplers import make_table
from tests.sampling import toy

every_backend = pytest.mark.every_backend
SEEDS = [3, 4]
# Within the capacity; past it; a step of two rows astride it; past twice the capacity.
TABLES = [("ddim", 5), ("euler_ancestral", 70), ("heun", 40), ("lms", 131)]


def run(carry, rows, noise, start, stop):
    def network(inputs):
        return toy.network(inputs["latents"], inputs["timestep"], ops, "float32")

    return loop.run(denoiser(network, [{}]), carry, rows, noise, start, stop)


@pytest.fixture(scope="module")
def program():
    return Program(run, [])


def walked(table):
    """The result in numpy and float64."""
    x = initial_noise(SEEDS, toy.SHAPE).astype("float64") * table.initial_scale
    return toy.walk(table, x, step_noise(SEEDS, len(table.noise_rows), toy.SHAPE))


def driven(program, table, *options, **keywords):
    latents = initial_noise(SEEDS, toy.SHAPE) * np.float32(table.initial_scale)
    noise = step_noise(SEEDS, len(table.noise_rows), toy.SHAPE)
    return drive(program, latents, table, noise, *options, **keywords)


@every_backend
@pytest.mark.parametrize("name, num_steps", TABLES)
def test_tables_of_any_length(name, num_steps, program):
    table = make_table(ScheduleConfig(), name, num_steps)
    found = driven(program, table)
    assert found.dtype == np.float32
    assert toy.relative_error(found, walked(table)) < 1e-4
    assert program.traces == (keras.backend.backend() != "torch")


@pytest.mark.parametrize("name, num_steps", TABLES)
def test_a_callback_or_a_bar_changes_nothing(name, num_steps, program):
    table = make_table(ScheduleConfig(), name, num_steps)
    expected, seen = driven(program, table), []
    assert (driven(program, table, seen.append) == expected).all()
    assert [step.step for step in seen] == list(range(1, num_steps + 1))
    assert {step.num_steps for step in seen} == {num_steps}
    sigmas = [step.sigma for step in seen]
    assert sigmas[:-1] == pytest.approx(table.sigmas[1:-1]) and sigmas[-1] == 0
    assert (seen[-1].latents == expected).all()
    assert (driven(program, table, progress_bar=True) == expected).all()


def test_false_alone_stops(program):
    table = make_table(ScheduleConfig(), "euler", 5)
    seen = []
    driven(program, table, lambda step: seen.append(step.step))
    assert seen == [1, 2, 3, 4, 5], "None goes on"
    stopped = driven(program, table, lambda step: step.step < 3)
    x = initial_noise(SEEDS, toy.SHAPE) * np.float32(table.initial_scale)
    carry = run(loop.start(x), table.rows, np.zeros((1, *x.shape), "float32"), 0, 3)
    expected = ops.convert_to_numpy(carry.x) / np.sqrt(1 + table.sigmas[3] ** 2)
    assert stopped == pytest.approx(expected, abs=1e-4)


def test_a_run_that_starts_late_counts_its_own_steps(program):
    table = make_table(ScheduleConfig(), "heun", 10, first_step=7)
    seen = []
    driven(program, table, seen.append)
    assert [(step.step, step.num_steps) for step in seen] == [(1, 3), (2, 3), (3, 3)]


def test_the_bar_appears_on_long_runs_and_can_be_silenced(program, monkeypatch, capsys):
    table = make_table(ScheduleConfig(), "heun", 9)
    driven(program, table, progress_bar=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(driver, "PATIENCE", 0)
    driven(program, table, progress_bar=False)
    assert capsys.readouterr().err == ""
    driven(program, table, progress_bar=True)
    assert "9/9" in capsys.readouterr().err


@pytest.mark.parametrize("name, num_steps", TABLES)
def test_pieces(name, num_steps):
    table = make_table(ScheduleConfig(), name, num_steps)
    whole = list(pieces(table, each_step=False, timed=False))
    single = list(pieces(table, each_step=True, timed=False))
    timed = list(pieces(table, each_step=False, timed=True))
    for found in (whole, single, timed):
        stops = [stop for _, stop in found]
        assert [start for start, _ in found] == [0, *stops[:-1]]
        assert stops[-1] == len(table)
        assert all(start // CAPACITY == (stop - 1) // CAPACITY for start, stop in found)
    assert len(whole) == -(-len(table) // CAPACITY)
    assert len(single) >= num_steps
    assert len(timed) < len(single) or len(single) <= 5


@pytest.mark.parametrize("each_step", [False, True])
def test_no_piece_has_rows_of_two_kinds(each_step):
    table = make_table(ScheduleConfig(), "heun", 60)
    kinds = np.isin(np.arange(len(table)), [*range(7), 70, *range(90, 119)])
    found = list(pieces(table, each_step, timed=False, kinds=kinds))
    assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])]
    assert found[-1][1] == len(table)
    assert all(len(set(kinds[start:stop])) == 1 for start, stop in found)
    if not each_step:
        assert len(found) == 6  # five runs of a kind, one of them over two windows
