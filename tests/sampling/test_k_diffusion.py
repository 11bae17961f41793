"""Tables and loop against k-diffusion's own functions, on one nonlinear network.

`k_diffusion.json` holds what they gave in float64 on `toy.network` and `NOISE`: of
each final latents three values and the largest. `sample_heunpp2` and `sample_ipndm`
are those of stable-diffusion-webui-forge's copy, Restart is AUTOMATIC1111's
`restart_sampler`, and DPM++ SDE's Brownian noise was made of the same normal noise.
"""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from keras import ops

from kerasdiffusion.compute.backend import Program
from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling import loop
from kerasdiffusion.sampling.denoiser import denoiser
from kerasdiffusion.sampling.samplers import SAMPLERS, make_table
from tests.sampling import toy

CASES = json.loads(Path(__file__).with_name("k_diffusion.json").read_text("utf-8"))
NOISE = np.random.default_rng(1).normal(size=(400, 2, *toy.SHAPE))
PLACES = ((0, 0, 0, 0), (1, 2, 3, 1), (1, 3, 4, 3))
CAPACITY = 300


def runs(spacings, counts, marks=None):
    listed = [
        pytest.param(*each, marks=(marks or {}).get(each[2], ()))
        for each in itertools.product(CASES, spacings, counts)
    ]
    return pytest.mark.parametrize("case, spacing, num_steps", listed)


def prepared(case, spacing, num_steps):
    """The table, the latents to begin with and the noise that is left."""
    table = make_table(
        ScheduleConfig(),
        CASES[case]["sampler"],
        num_steps,
        spacing=spacing,
        **CASES[case]["options"],
    )
    # k-diffusion's functions are handed noise of the first level.
    first = make_table(ScheduleConfig(), table.sampler, num_steps, spacing=spacing)
    x, noise = NOISE[0] * first.sigmas[0], NOISE[1:]
    if table.opening_noise:
        x, noise = x + table.opening_noise * noise[0], noise[1:]
    return table, x, noise


def check(case, spacing, num_steps, table, got, tolerance):
    *values, largest = CASES[case]["latents"][f"{spacing} {num_steps}"]
    # At its end DPM-Solver-fast leaves some noise, which only the table scales away.
    got = got * np.sqrt(1.0 + table.sigmas[-1] ** 2)
    errors = [
        abs(got[place] - value) for place, value in zip(PLACES, values, strict=True)
    ]
    assert max(errors) < tolerance * largest
    assert np.abs(got).max() == pytest.approx(largest, rel=tolerance)


def test_most_samplers_are_here():
    """The others are diffusers' (`tests/peers/test_samplers.py`)."""
    here = {case["sampler"] for case in CASES.values()}
    assert here <= set(SAMPLERS) and len(here) == 16


@runs(("linspace", "karras", "exponential"), (4, 10, 25, 100))
def test_tables(case, spacing, num_steps):
    table, x, noise = prepared(case, spacing, num_steps)
    check(case, spacing, num_steps, table, toy.walk(table, x, noise), 1e-5)


@pytest.fixture(scope="module")
def program():
    def sample(x, rows, noise, stop):
        denoise = denoiser(
            lambda inputs: toy.network(
                inputs["latents"], inputs["timestep"], ops, "float32"
            ),
            [{}],
        )
        return loop.run(denoise, loop.start(x), rows, noise, 0, stop).x

    return Program(sample, [])


@runs(
    ("karras",),
    (10, 100),
    {10: pytest.mark.every_backend, 100: pytest.mark.every_backend_at_length},
)
def test_the_compiled_loop(case, spacing, num_steps, program):
    table, x, noise = prepared(case, spacing, num_steps)
    noise = noise[: len(table.noise_rows)].astype("float32")
    x = program(
        x.astype("float32"),
        table.padded(CAPACITY),
        table.place_noise(noise, CAPACITY),
        np.int32(len(table)),
    )
    check(case, spacing, num_steps, table, ops.convert_to_numpy(x), 1e-4)
