"""Tables and loop against diffusers' schedulers, on one nonlinear network.

The schedulers are made from Stable Diffusion 1.5's own scheduler_config.json, so that
a sampler's name gives what its users are used to.
"""

import functools
import itertools
import sys

import numpy as np
import pytest
from keras import ops

from kerasdiffusion.compute.backend import Program
from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling import loop
from kerasdiffusion.sampling.denoiser import denoiser
from kerasdiffusion.sampling.samplers import make_table
from tests.sampling import toy

diffusers = pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")

# diffusers' own; numpy 2 warns of how PyTorch tensors become arrays.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

SD15 = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
PREDICTIONS = ("epsilon", "v_prediction", "sample")
CAPACITY = 200
SDE = {"algorithm_type": "sde-dpmsolver++"}
TO_ZERO = {"set_alpha_to_one": True}
KARRAS = {"use_karras_sigmas": True}
CASES = {
    "ddim": ("ddim", "DDIMScheduler", {}, {}),
    "ddim, eta 1": ("ddim", "DDIMScheduler", {"eta": 1.0}, {}),
    "ddpm": ("ddpm", "DDPMScheduler", {}, {}),
    "pndm": ("pndm", "PNDMScheduler", {}, {}),
    "euler": ("euler", "EulerDiscreteScheduler", {}, {}),
    "euler_ancestral": (
        "euler_ancestral",
        "EulerAncestralDiscreteScheduler",
        {},
        {},
    ),
    "lms": ("lms", "LMSDiscreteScheduler", {}, {}),
    "heun": ("heun", "HeunDiscreteScheduler", {}, {}),
    "dpmpp_2m": ("dpmpp_2m", "DPMSolverMultistepScheduler", {}, {}),
    "euler_karras": ("euler_karras", "EulerDiscreteScheduler", {}, KARRAS),
    "lms_karras": ("lms_karras", "LMSDiscreteScheduler", {}, KARRAS),
    "heun_karras": ("heun_karras", "HeunDiscreteScheduler", {}, KARRAS),
    "dpm_2": ("dpm_2", "KDPM2DiscreteScheduler", {}, {}),
    "dpm_2_ancestral": ("dpm_2_ancestral", "KDPM2AncestralDiscreteScheduler", {}, {}),
    "dpmpp_2m_sde": ("dpmpp_2m_sde", "DPMSolverMultistepScheduler", {}, SDE),
    "dpmpp_2m_sde_heun": (
        "dpmpp_2m_sde_heun",
        "DPMSolverMultistepScheduler",
        {},
        {**SDE, "solver_type": "heun"},
    ),
    "dpmpp_2m_sde_karras": (
        "dpmpp_2m_sde_karras",
        "DPMSolverMultistepScheduler",
        {},
        {**SDE, **KARRAS},
    ),
    "unipc": ("unipc", "UniPCMultistepScheduler", {}, {}),
    "unipc_3": ("unipc_3", "UniPCMultistepScheduler", {}, {"solver_order": 3}),
    "unipc_karras": ("unipc_karras", "UniPCMultistepScheduler", {}, KARRAS),
    "deis": ("deis", "DEISMultistepScheduler", {}, {}),
    "deis_3": ("deis_3", "DEISMultistepScheduler", {}, {"solver_order": 3}),
    "lcm": ("lcm", "LCMScheduler", {}, TO_ZERO),
    "tcd": ("tcd", "TCDScheduler", {}, TO_ZERO),
    "tcd, eta 1": ("tcd", "TCDScheduler", {"eta": 1.0}, TO_ZERO),
    "dpmpp_2m_karras": (
        "dpmpp_2m_karras",
        "DPMSolverMultistepScheduler",
        {},
        KARRAS,
    ),
}
# diffusers has no more steps of these than they were distilled from.
DISTILLED = ("lcm", "tcd")
UNKNOWN = {
    ("pndm", "sample"),
    ("euler_ancestral", "sample"),
    ("dpm_2", "sample"),
    ("dpm_2_ancestral", "sample"),
}
NOISE = np.random.default_rng(1).normal(size=(101, 2, *toy.SHAPE)).astype("float32")


def diffused(class_name, num_steps, options, prediction_type="epsilon", **config):
    """The scheduler's own result, network and latents in float64."""
    scheduler_class = getattr(diffusers, class_name)
    scheduler = scheduler_class.from_config(
        {**SD15, "prediction_type": prediction_type, **config}
    )
    # diffusers takes the product over 1000 steps in float32; the original code, as
    # ours, in float64.
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    scheduler.alphas_cumprod = torch.from_numpy(np.cumprod(1 - betas))
    if hasattr(scheduler, "final_alpha_cumprod"):
        scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    scheduler.set_timesteps(num_steps)
    if class_name == "DEISMultistepScheduler":
        # Its integrals would lose all but three digits of float32 sigmas.
        known = np.sqrt(1 / np.cumprod(1 - betas) - 1)
        sigmas = np.interp(scheduler.timesteps, np.arange(1000), known)
        scheduler.sigmas = torch.from_numpy(np.append(sigmas, known[0]))

    noise = iter(NOISE[1:])
    module = sys.modules[scheduler_class.__module__]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            module,
            "randn_tensor",
            lambda *args, **kwargs: torch.from_numpy(next(noise)).double(),
            raising=False,
        )
        x = torch.from_numpy(NOISE[0]).double() * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            scaled = scheduler.scale_model_input(x, timestep).numpy()
            output = torch.from_numpy(toy.network(scaled, float(timestep)))
            x = scheduler.step(output, timestep, x, return_dict=False, **options)[0]
    return x.numpy()


@functools.lru_cache
def reference(case, prediction_type, num_steps):
    _, class_name, options, config = CASES[case]
    return diffused(class_name, num_steps, options, prediction_type, **config)


def tabled(name, num_steps, prediction_type="epsilon", **options):
    config = ScheduleConfig(prediction_type=prediction_type)
    table = make_table(config, name, num_steps, **options)
    noise = NOISE.astype("float64")
    return toy.walk(table, noise[0] * table.initial_scale, noise[1:])


def cases(*num_steps):
    """Every prediction at 10 steps, epsilon at these as well."""
    return pytest.mark.parametrize(
        "case, prediction_type, num_steps",
        [
            (case, prediction_type, count)
            for case, prediction_type in itertools.product(CASES, PREDICTIONS)
            for count in (10, *num_steps)
            if (case, prediction_type) not in UNKNOWN
            and (count == 10 or prediction_type == "epsilon")
            and not (count > 50 and case[:3] in DISTILLED)
        ],
    )


@cases(4, 25, 100)
def test_tables(case, prediction_type, num_steps):
    name, _, options, _ = CASES[case]
    got = tabled(name, num_steps, prediction_type, **options)
    expected = reference(case, prediction_type, num_steps)
    assert toy.relative_error(got, expected) < 1e-5


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


@pytest.mark.every_backend
@cases(25)
def test_the_compiled_loop(case, prediction_type, num_steps, program):
    name, _, options, _ = CASES[case]
    config = ScheduleConfig(prediction_type=prediction_type)
    table = make_table(config, name, num_steps, **options)
    noise = NOISE[1 : 1 + len(table.noise_rows)]
    x = program(
        NOISE[0] * np.float32(table.initial_scale),
        table.padded(CAPACITY),
        table.place_noise(noise, CAPACITY),
        np.int32(len(table)),
    )
    expected = reference(case, prediction_type, num_steps)
    assert toy.relative_error(ops.convert_to_numpy(x), expected) < 1e-4


@pytest.mark.parametrize("num_steps", [5, 25])
@pytest.mark.parametrize(
    "case, spacing",
    [
        # DDIM, PNDM: only where diffusers' steps end where the next ones begin.
        ("ddim", "trailing"),
        ("pndm", "trailing"),
        *itertools.product(["ddpm"], ["trailing", "linspace"]),
        *itertools.product(
            [
                *(
                    "euler",
                    "euler_ancestral",
                    "lms",
                    "heun",
                    "dpm_2",
                    "dpm_2_ancestral",
                ),
                *("dpmpp_2m", "dpmpp_2m_sde", "unipc", "unipc_3", "deis", "deis_3"),
            ],
            ["leading", "trailing", "linspace"],
        ),
    ],
)
def test_spacings(case, spacing, num_steps):
    name, class_name, options, config = CASES[case]
    expected = diffused(
        class_name, num_steps, options, timestep_spacing=spacing, **config
    )
    got = tabled(name, num_steps, spacing=spacing)
    assert toy.relative_error(got, expected) < 1e-5


@pytest.mark.parametrize("case", ["euler", "lms", "heun"])
def test_exponential_spacing(case):
    name, class_name, options, _ = CASES[case]
    expected = diffused(class_name, 20, options, use_exponential_sigmas=True)
    got = tabled(name, 20, spacing="exponential")
    assert toy.relative_error(got, expected) < 1e-5


@pytest.mark.parametrize("case", ["ddim", "pndm"])
def test_a_schedule_that_ends_without_noise(case):
    name, class_name, options, _ = CASES[case]
    scheduler = getattr(diffusers, class_name).from_config(
        {**SD15, "set_alpha_to_one": True}
    )
    table = make_table(ScheduleConfig(final_alpha_one=True), name, 20)
    scheduler.set_timesteps(20)
    x = torch.from_numpy(NOISE[0]).double()
    for timestep in scheduler.timesteps:
        output = torch.from_numpy(toy.network(x.numpy(), float(timestep)))
        x = scheduler.step(output, timestep, x, return_dict=False)[0]
    got = toy.walk(table, NOISE[0] * table.initial_scale)
    assert toy.relative_error(got, x.numpy()) < 1e-5
