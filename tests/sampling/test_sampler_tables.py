"""What every sampler's table keeps to, and what makes none."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from kerasdiffusion.sampling.samplers import SAMPLERS, make_table, usual_spacing
from kerasdiffusion.sampling.schedule import Schedule
from kerasdiffusion.sampling.spacings import SPACINGS
from kerasdiffusion.sampling.table import COLUMNS
from tests.sampling.test_samplers import (
    SD1,
)


@pytest.mark.parametrize(
    "numbers", [(1, 2, 3, 4, 50, 1000), pytest.param((999,), marks=pytest.mark.heavy)]
)
@pytest.mark.parametrize("name", SAMPLERS)
def test_any_number_of_steps_gives_finite_rows_that_fall(name, numbers):
    for num_steps in numbers:
        table = make_table(SD1, name, num_steps)
        assert np.isfinite(table.values).all()
        assert table.steps.tolist() == sorted(table.steps)
        assert set(table.steps) == set(range(num_steps))
        assert len(table.timesteps) == table.num_steps == num_steps
        assert len(table.sigmas) == num_steps + 1


@pytest.mark.parametrize("name", SAMPLERS)
def test_network_calls_of_a_step(name):
    table = make_table(SD1, name, 10)
    if name in ("pndm", "plms"):
        assert len(table) == 11
    elif name.startswith("heunpp2"):
        assert len(table) == 8 * 3 + 2 + 1
    elif name.startswith(("heun", "dpm_2", "dpmpp_2s", "dpmpp_sde", "restart")):
        assert len(table) == 2 * 10 - 1
    else:
        assert len(table) == 10


@pytest.mark.parametrize("spacing", SPACINGS)
def test_rows_see_the_timesteps_of_their_spacing(spacing):
    for name in SAMPLERS:
        table = make_table(SD1, name, 10, spacing=spacing)
        assert set(table.timesteps) <= set(table.values[:, COLUMNS.timestep]), name
        for row in table.values:
            at = np.flatnonzero(table.sigmas[:-1] == row[COLUMNS.sigma])
            if len(at):
                assert row[COLUMNS.timestep] == table.timesteps[at[0]], name
            else:  # Between two levels.
                between = Schedule(SD1).timestep_at(row[COLUMNS.sigma])
                assert row[COLUMNS.timestep] == pytest.approx(between), name


def test_final_alpha_one_ends_without_noise():
    config = dataclasses.replace(SD1, final_alpha_one=True)
    for name in ("ddim", "pndm", "plms"):
        assert make_table(config, name, 5).sigmas[-1] == 0.0
        assert make_table(SD1, name, 5).sigmas[-1] == Schedule(SD1).sigmas[0]


def test_unit_noise_is_scaled_as_the_reference_does():
    first = make_table(SD1, "euler", 10).sigmas[0]
    assert make_table(SD1, "euler", 10).initial_scale == first
    assert make_table(SD1, "dpmpp_2m", 10).initial_scale == np.hypot(first, 1)
    leading = make_table(SD1, "euler", 10, spacing="leading")
    assert leading.initial_scale == np.hypot(leading.sigmas[0], 1)


# DPM-Solver-fast spaces its steps by itself, from where it starts.
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "dpm_fast"])
def test_a_table_from_a_later_step_is_that_of_its_noise_levels(name):
    whole = make_table(SD1, name, 10)
    late = make_table(SD1, name, 10, first_step=7)
    assert (late.sigmas == whole.sigmas[7:]).all()
    assert (late.timesteps == whole.timesteps[7:]).all()
    assert set(late.steps) == {7, 8, 9}
    assert late.num_steps == 10
    assert late.initial_scale == late.sigmas[0]
    # Nothing weighs a past that is not there.
    assert not np.any(late.values[0, COLUMNS.x][[1, 3, 4, 5]])


def test_only_stochastic_samplers_take_noise():
    for name in SAMPLERS:
        table = make_table(SD1, name, 10)
        assert table.opening_noise == 0.0
        if "ancestral" in name or "m_sde" in name or name in ("ddpm", "lcm", "tcd"):
            assert (
                table.noise_rows.tolist()
                == np.flatnonzero(np.diff(table.steps)).tolist()
            )
        elif "dpmpp_sde" in name:
            assert table.noise_count == 18
        else:
            assert table.noise_count == 0
    # DDIM does not end at zero, so that its last step adds noise as well.
    assert make_table(SD1, "ddim", 10, eta=1.0).noise_count == 10
    assert make_table(SD1, "euler_ancestral", 10, eta=0).noise_count == 0
    assert make_table(SD1, "restart", 20).noise_count == 1
    assert make_table(SD1, "restart", 36).noise_count == 2


@pytest.mark.parametrize("name", ["euler", "heun", "heunpp2", "dpm_2_karras"])
def test_churn_raises_the_noise_ahead_of_each_step(name):
    """Karras et al. 2022, algorithm 2: at most by sqrt(2) - 1 of it."""
    plain = make_table(SD1, name, 10)
    for s_churn, gamma in ((1.0, 0.1), (40.0, np.sqrt(2) - 1)):
        table = make_table(SD1, name, 10, s_churn=s_churn, s_noise=1.5)
        assert table.sigmas == pytest.approx(plain.sigmas * (1 + gamma))
        assert table.noise_count == 10
        fresh = 1.5 * np.sqrt((1 + gamma) ** 2 - 1) * plain.sigmas
        assert table.opening_noise == pytest.approx(fresh[0])
        assert table.values[table.noise_rows, COLUMNS.noise] == pytest.approx(
            fresh[1:-1]
        )


@pytest.mark.parametrize(
    "arguments, options, error, message",
    [
        (("ddim", 0), {}, ValueError, "`num_steps` must be a whole .* Received: 0"),
        (("ddim", -3), {}, ValueError, "`num_steps` .* from 1 to 1000. Received: -3"),
        (("ddim", 1001), {}, ValueError, "from 1 to 1000. Received: 1001"),
        (("ddim", 2.5), {}, TypeError, "`num_steps` must be .* Received: 2.5"),
        (("ddim", True), {}, TypeError, "`num_steps` must be .* Received: True"),
        (("ddim", None), {}, TypeError, "`num_steps` must be .* Received: None"),
        (("ddim", 5), {"first_step": 5}, ValueError, "`first_step` .* from 0 to 4"),
        (("ddim", 5), {"spacing": "log"}, ValueError, "`spacing` .* Received: 'log'"),
        (("ddim", 5), {"eta": -0.1}, ValueError, "`eta` must be at least 0 .* -0.1"),
        (("ddim", 5), {"eta": np.nan}, ValueError, "`eta` .* Received: nan"),
        (("ddim", 5), {"eta": "1"}, TypeError, "`eta` must be a number. .*'1'"),
        (("heun", 5), {"eta": 1.0}, ValueError, "heun takes no `eta`; ddim, dpm_fast"),
        (("ddpm", 5), {"eta": 1.0}, ValueError, "ddpm takes no `eta`"),
        (("lms", 5), {"s_churn": 1.0}, ValueError, "lms takes no `s_churn`; euler, "),
        (("euler", 5), {"s_churn": -1}, ValueError, "`s_churn` must be at least 0"),
        (("euler", 5), {"s_noise": "1"}, TypeError, "`s_noise` must be a number"),
        (("euler", 5), {"timesteps": [9, 3]}, ValueError, "take the place of `num_s"),
        (("euler",), {"timesteps": [3, 9]}, ValueError, "falling, from 0 to 999"),
        (("euler",), {"timesteps": [1000]}, ValueError, "from 0 to 999. .*1000"),
        (("euler",), {"sigmas": [3.0, 0.0, 0.0]}, ValueError, "falling, above 0"),
        (("euler",), {"sigmas": []}, ValueError, "one number or more"),
        (("euler",), {"sigmas": "high"}, TypeError, "must be numbers. .*'high'"),
        (("euler",), {"sigmas": [1], "timesteps": [1]}, ValueError, "Only one of"),
        (("heum", 5), {}, ValueError, "Did you mean heun"),
    ],
)
def test_arguments_that_are_refused(arguments, options, error, message):
    with pytest.raises(error, match=message):
        make_table(SD1, *arguments, **options)


def test_numpy_integers_are_whole_numbers():
    assert len(make_table(SD1, "ddim", np.int64(4))) == 4


def test_a_schedule_of_another_length():
    config = dataclasses.replace(SD1, train_steps=100)
    assert make_table(config, "ddim", 10).timesteps[0] == 91
    with pytest.raises(ValueError, match="from 1 to 100. Received: 101"):
        make_table(config, "ddim", 101)


def test_custom_timesteps_and_sigmas_stand_for_the_steps():
    by_spacing = make_table(SD1, "euler", 4, spacing="leading")
    by_timesteps = make_table(SD1, "euler", timesteps=[751, 501, 251, 1])
    assert (by_timesteps.values == by_spacing.values).all()
    assert by_timesteps.num_steps == 4
    sigmas = by_spacing.sigmas
    assert sigmas[-1] == 0.0
    for given in (sigmas, sigmas[:-1].tolist()):
        table = make_table(SD1, "dpmpp_2m", sigmas=given)
        assert (table.sigmas == sigmas).all()
    late = make_table(SD1, "euler", sigmas=sigmas, first_step=2)
    assert (late.sigmas == sigmas[2:]).all()


def test_a_model_says_how_steps_are_spaced_where_the_sampler_does_not():
    for name in ("euler", "ddim", "dpmpp_2m", "DPMSolverMultistepScheduler"):
        assert usual_spacing(name, "trailing") == "trailing"
    assert usual_spacing("lcm", "trailing") == "lcm"
    assert usual_spacing("euler_karras", "trailing") == "karras"
    assert usual_spacing("ddim", None) == "leading"
    assert usual_spacing("euler", None) == "linspace"


@pytest.mark.parametrize("name", ["ddim", "euler", "dpmpp_2m", "unipc_3", "dpmpp_sde"])
def test_with_zero_terminal_snr_tables_are_finite(name):
    config = dataclasses.replace(
        SD1, zero_terminal_snr=True, prediction_type="v_prediction"
    )
    table = make_table(config, name, 10, spacing="trailing")
    assert np.isfinite(table.values).all()
    assert table.sigmas[0] == pytest.approx(4096, rel=1e-6)


def test_tables_need_numpy_alone():
    script = (
        "import sys\n"
        "from kerasdiffusion.sampling import noise, samplers, schedule\n"
        "print({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))"
    )
    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "set()"


@pytest.mark.parametrize("name", ["dpmpp_2m_karras", "euler", "dpmpp_2m_sde_karras"])
def test_other_programs_begin_differently_and_round_no_timestep(name):
    """From `sigma` in the web UI, from `sqrt(1 + sigma^2)` in ComfyUI."""
    web_ui, comfy = (
        make_table(SD1, name, 5, program=program) for program in ("webui", "comfy")
    )
    sigma = web_ui.sigmas[0]
    assert web_ui.initial_scale == pytest.approx(sigma)
    assert comfy.initial_scale == pytest.approx(np.hypot(sigma, 1.0))
    expected = Schedule(SD1).timestep_at(web_ui.sigmas[:-1])
    assert web_ui.timesteps == pytest.approx(expected, abs=1e-3)
    assert (web_ui.values == comfy.values).all()
    for program in ("diffusers", "webui", "comfy"):
        table = make_table(SD1, "ddim", 5, program=program)
        assert table.initial_scale == make_table(SD1, "ddim", 5).initial_scale
