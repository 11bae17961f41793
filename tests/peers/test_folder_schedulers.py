"""A folder's own scheduler: the steps that diffusers' class of it takes."""

import warnings

import numpy as np
import pytest

from kerasdiffusion.sampling.samplers import make_table, usual_spacing
from kerasdiffusion.weights.schedule_json import schedule_from_json
from kerasdiffusion.weights.schedulers import sampling_of

diffusers = pytest.importorskip("diffusers")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

BETAS = {"beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085}
LEADING = {"timestep_spacing": "leading", "steps_offset": 1}
TRAILING = {"timestep_spacing": "trailing"}
KARRAS, EXPONENTIAL, BETA = (
    {f"use_{name}_sigmas": True} for name in ("karras", "exponential", "beta")
)
ZERO = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
CASES = [
    *(
        (name, more)
        for name in ("DDIM", "DDPM")
        for more in ({}, {"steps_offset": 1}, {"steps_offset": 3}, TRAILING, ZERO)
    ),
    ("PNDM", {"skip_prk_steps": True, "steps_offset": 1}),
    *(
        (name, more)
        for name in ("EulerDiscrete", "LMSDiscrete", "HeunDiscrete", "KDPM2Discrete")
        for more in ({}, LEADING, TRAILING, KARRAS, EXPONENTIAL, BETA)
    ),
    *(
        ("EulerDiscrete", {**way, **more})
        for way in (KARRAS, EXPONENTIAL, BETA)
        for more in (LEADING, TRAILING, {"timestep_spacing": "linspace"})
    ),
    *(("EulerAncestralDiscrete", more) for more in ({}, LEADING, TRAILING, ZERO)),
    *(
        (name, more)
        for name in ("DPMSolverMultistep", "UniPCMultistep", "DEISMultistep")
        for more in ({}, LEADING, TRAILING, KARRAS, EXPONENTIAL)
    ),
    ("DPMSolverMultistep", {"algorithm_type": "sde-dpmsolver++"}),
    (
        "EulerDiscrete",
        {
            "trained_betas": np.linspace(0.001, 0.02, 500).tolist(),
            "num_train_timesteps": 500,
        },
    ),
    ("DDIM", {"beta_schedule": "squaredcos_cap_v2"}),
    ("EulerDiscrete", {"timestep_type": "continuous", **ZERO}),
    (
        "EulerDiscrete",
        {
            "timestep_type": "continuous",
            "prediction_type": "v_prediction",
            "sigma_min": 0.002,
            "sigma_max": 700.0,
            **KARRAS,
        },
    ),
]
# The noise of a whole range begins at sqrt(sigma^2 + 1) here: 1e-6 of 700.


@pytest.mark.parametrize(
    ("name", "more"), CASES, ids=[f"{n} {' '.join(map(str, m))}" for n, m in CASES]
)
@pytest.mark.parametrize("steps", [4, 25])
def test_takes_the_steps_of_diffusers(name, more, steps):
    values = {"_class_name": f"{name}Scheduler", **BETAS, **more}
    peer = getattr(diffusers, values["_class_name"]).from_config(values)
    peer.set_timesteps(steps)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampler, spacing = sampling_of(values, "there", clips=False)
    schedule = schedule_from_json(values, "there", steps_offset=None)
    spacing = usual_spacing(sampler, spacing)
    table = make_table(schedule, sampler, steps, spacing=spacing)
    expected = peer.timesteps.numpy()
    if name.startswith(("PNDM", "Heun", "KDPM2")):  # several calls a step
        assert abs(table.timesteps[0] - expected[0]) < 1e-2
    else:
        # The first exponential one rounds to 998 in diffusers' float32.
        atol = 1.0 if more == EXPONENTIAL else 1e-2
        assert np.allclose(table.timesteps, expected, rtol=1e-4, atol=atol)
    if hasattr(peer, "sigmas"):
        sigmas, found = (
            np.unique(each.astype("float32").round(4))[::-1]
            for each in (peer.sigmas.numpy(), table.sigmas)
        )
        if name.startswith("KDPM2"):
            sigmas = sigmas[np.argmin(np.abs(sigmas[:, None] - found), axis=0)]
        assert np.allclose(found, sigmas, rtol=2e-4, atol=2e-4)
    noise = float(getattr(peer, "init_noise_sigma", 1.0))
    if noise > 1.0:
        assert table.initial_scale == pytest.approx(noise, rel=1e-4)


@pytest.mark.parametrize(
    ("values", "named", "sampler"),
    [
        ({"_class_name": "DPMSolverSinglestepScheduler"}, "_class_name", "dpmpp_2m"),
        (
            {"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3},
            "solver_order=3",
            "dpmpp_2m",
        ),
        (
            {"_class_name": "EulerDiscreteScheduler", "final_sigmas_type": "sigma_min"},
            "final_sigmas_type='sigma_min'",
            "euler",
        ),
        ({"_class_name": "PNDMScheduler"}, "skip_prk_steps=False", "pndm"),
        ({"_class_name": "DDIMScheduler"}, "clip_sample=True", "ddim"),
        (
            {"_class_name": "UniPCMultistepScheduler", "disable_corrector": [0, 1]},
            "disable_corrector",
            "unipc",
        ),
    ],
)
def test_names_what_is_not_followed(values, named, sampler):
    with pytest.warns(UserWarning, match=f"not followed.*{named}.*Received: there"):
        assert sampling_of(values, "there", clips=True) == (sampler, None)
