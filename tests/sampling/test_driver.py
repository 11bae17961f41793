import math

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.compute.backend import Program
from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling import loop
from kerasdiffusion.sampling.denoiser import denoiser
from kerasdiffusion.sampling.driver import CAPACITY, Pace, drive, pieces
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


def driven(program, table, **pace):
    """The steps that are seen."""
    latents = initial_noise(SEEDS, toy.SHAPE) * np.float32(table.initial_scale)
    noise = step_noise(SEEDS, len(table.noise_rows), toy.SHAPE)
    return list(drive(program, latents, table, noise, pace=Pace(**pace)))


@every_backend
@pytest.mark.parametrize("name, num_steps", TABLES)
def test_tables_of_any_length(name, num_steps, program):
    table = make_table(ScheduleConfig(), name, num_steps)
    *_, last = driven(program, table)
    found = last.latents
    assert found.dtype == np.float32
    assert toy.relative_error(found, walked(table)) < 1e-4
    assert program.traces == (keras.backend.backend() != "torch")


@pytest.mark.parametrize("name, num_steps", TABLES)
def test_the_pace_changes_nothing(name, num_steps, program):
    table = make_table(ScheduleConfig(), name, num_steps)
    *_, whole = driven(program, table)
    seen = driven(program, table, each_step=True)
    assert [step.step for step in seen] == list(range(1, num_steps + 1))
    assert {step.num_steps for step in seen} == {num_steps}
    sigmas = [step.sigma for step in seen]
    assert sigmas[:-1] == pytest.approx(table.sigmas[1:-1]) and sigmas[-1] == 0
    assert (seen[-1].latents == whole.latents).all()
    *_, timed = driven(program, table, timed=True)
    assert (timed.latents == whole.latents).all()


def test_a_step_shows_what_is_left_of_the_noise(program):
    table = make_table(ScheduleConfig(), "euler", 5)
    third = driven(program, table, each_step=True)[2]
    x = initial_noise(SEEDS, toy.SHAPE) * np.float32(table.initial_scale)
    carry = run(loop.start(x), table.rows, np.zeros((1, *x.shape), "float32"), 0, 3)
    expected = ops.convert_to_numpy(carry.x) / np.sqrt(1 + table.sigmas[3] ** 2)
    assert third.latents == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["euler", "euler_ancestral", "dpmpp_2m_karras"])
def test_what_the_network_takes_for_clean_is_remembered(name):
    table = make_table(ScheduleConfig(), name, 6)

    def program(carry, *rest):
        return loop.run(lambda x, row: 0.25 * x + row[0], carry, *rest)

    before, *steps = driven(program, table, each_step=True)
    for step in steps[:-1]:
        x = ops.convert_to_numpy(before.state)
        assert step.denoised == pytest.approx(0.25 * x + before.sigma, rel=1e-4)
        before = step
    assert (steps[-1].denoised == steps[-1].latents).all()


def test_where_it_is_not_it_is_the_mean_under_the_noise():
    table = make_table(ScheduleConfig(), "lcm", 4)

    def program(carry, *rest):
        return loop.run(lambda x, row: 0.25 * x, carry, *rest)

    for step in driven(program, table, each_step=True):
        expected = ops.convert_to_numpy(step.state) / (1.0 + step.sigma**2)
        assert step.denoised == pytest.approx(expected, rel=1e-4)


def test_a_run_that_starts_late_counts_its_own_steps(program):
    table = make_table(ScheduleConfig(), "heun", 10, first_step=7)
    seen = driven(program, table, each_step=True)
    assert [(step.step, step.num_steps) for step in seen] == [(1, 3), (2, 3), (3, 3)]


def test_a_timed_loop_is_compiled_ahead_of_its_first_step():
    table, calls = make_table(ScheduleConfig(), "heun", 3), []
    latents = np.zeros((1, *toy.SHAPE), "float32")

    def program(carry, rows, noise, start, stop):
        calls.append((int(start), int(stop)))
        return carry

    def began():
        calls.append("began")

    noise = np.zeros((0, *latents.shape), "float32")
    list(drive(program, latents, table, noise, pace=Pace(timed=True), began=began))
    assert calls[:3] == [(0, 0), "began", (0, 2)]
    calls.clear()
    list(drive(program, latents, table, noise, began=began))
    assert calls == ["began", (0, 5)]
    calls.clear()
    known = Pace(timed=True, row=1e-6)
    list(drive(program, latents, table, noise, pace=known, began=began))
    assert calls == ["began", (0, 5)] and 0.0 < known.row < math.inf


@pytest.mark.parametrize(
    "row, first",
    [(0.01, 25), (0.05, 25), (0.06, 13), (0.1, 9), (0.18, 5), (3.0, 1), (math.inf, 1)],
)
def test_timed_pieces_of_rows_that_are_known_are_few_and_alike(row, first):
    """Of 25 rows: none of these takes more than a second and a quarter."""
    table = make_table(ScheduleConfig(), "euler", 25)
    pace = Pace(timed=True, seconds=1.0, row=row)
    assert next(pieces(table, pace)) == (0, first)


@pytest.mark.parametrize("name, num_steps", TABLES)
def test_pieces(name, num_steps):
    table = make_table(ScheduleConfig(), name, num_steps)
    whole = list(pieces(table, Pace()))
    single = list(pieces(table, Pace(each_step=True)))
    timed = list(pieces(table, Pace(timed=True)))
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
    found = list(pieces(table, Pace(each_step), kinds))
    assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])]
    assert found[-1][1] == len(table)
    assert all(len(set(kinds[start:stop])) == 1 for start, stop in found)
    if not each_step:
        assert len(found) == 6  # five runs of a kind, one of them over two windows
