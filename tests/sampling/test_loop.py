import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.compute.backend import Program
from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling import loop
from kerasdiffusion.sampling.denoiser import denoiser
from kerasdiffusion.sampling.noise import initial_noise, step_noise
from kerasdiffusion.sampling.samplers import SAMPLERS, make_table
from tests.sampling import toy

pytestmark = pytest.mark.every_backend

SD1 = ScheduleConfig()
SEEDS = [3, 4]


def guided_network(inputs):
    output = toy.network(inputs["latents"], inputs["timestep"], ops, "float32")
    return output + 0.1 * inputs["crossattn"][:, :, None, :]


def sample(carry, rows, noise, text, guidance_scale, start, stop):
    branches = [{"crossattn": 0 * text[None]}, {"crossattn": text[None]}]
    denoise = denoiser(guided_network, branches, guidance_scale)
    return loop.run(denoise, loop.Carry(*carry), rows, noise, start, stop)


def arguments(name, num_steps, capacity, scale=7.5, seeds=SEEDS, **options):
    table = make_table(SD1, name, num_steps, **options)
    x = initial_noise(seeds, toy.SHAPE) * np.float32(table.initial_scale)
    noise = step_noise(seeds, len(table.noise_rows), toy.SHAPE)
    text = np.random.default_rng(0).normal(size=(2, *toy.SHAPE[::2]))
    return table, (
        loop.start(x),
        table.padded(capacity),
        table.place_noise(noise, capacity),
        text.astype("float32"),
        np.float32(scale),
        np.int32(0),
        np.int32(len(table)),
    )


def result(carry):
    return ops.convert_to_numpy(carry[0])


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "xla"])
def program(request):
    if request.param and keras.backend.backend() != "tensorflow":
        pytest.skip("JAX has the one compiler, and PyTorch runs the loop eagerly")
    return Program(sample, [], jit_compile=request.param)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_compiled_loop_computes_what_the_table_says(name, program):
    table, args = arguments(name, 7, 20)

    def denoise(x, row):
        text = args[3].astype("float64")[:, :, None, :]
        return toy.denoise(x, row) + row[3] * 7.5 * 0.1 * text

    noise = args[2][table.noise_rows].astype("float64")
    expected = toy.walk(table, result(args[0]).astype("float64"), noise, denoise)
    assert toy.relative_error(result(program(*args)), expected) < 2e-5


@pytest.mark.parametrize("name", ["lms", "euler_ancestral", "heun"])
def test_one_call_for_all_rows_equals_one_call_for_each(name, program):
    table, args = arguments(name, 7, 20)
    *fixed, _, _ = args
    carry = fixed[0]
    for i in range(len(table)):
        carry = program(carry, *fixed[1:], np.int32(i), np.int32(i + 1))
    assert (result(carry) == result(program(*args))).all()


@pytest.mark.parametrize("name", ["dpmpp_2m_karras", "ddpm"])
def test_the_capacity_changes_nothing(name, program):
    small = result(program(*arguments(name, 7, 7)[1]))
    large = result(program(*arguments(name, 7, 40)[1]))
    assert toy.relative_error(small, large) < 1e-6


def test_a_batch_does_not_change_an_image(program):
    alone = result(program(*arguments("euler_ancestral", 7, 20, seeds=[4, 4])[1]))
    both = result(program(*arguments("euler_ancestral", 7, 20, seeds=[3, 4])[1]))
    args = arguments("euler_ancestral", 7, 20, seeds=[4])[1]
    single = result(program(*args[:3], args[3][1:], *args[4:]))
    assert (alone[1] == both[1]).all()
    assert toy.relative_error(single[0], both[1]) < 1e-6


def test_an_empty_range_returns_the_carry(program):
    _, args = arguments("ddim", 7, 20)
    *fixed, _, _ = args
    carry = program(*fixed, np.int32(3), np.int32(3))
    assert (result(carry) == result(args[0])).all()


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="nothing is traced")
@pytest.mark.parametrize(
    "jit_compile", [False, True][: 1 + (keras.backend.backend() == "tensorflow")]
)
def test_steps_sampler_seed_and_scale_compile_nothing_anew(jit_compile):
    program = Program(sample, [], jit_compile=jit_compile)
    results = [
        result(program(*arguments(*case)[1]))
        for case in [
            ("ddim", 3, 16),
            ("ddim", 9, 16),
            ("heun_karras", 5, 16),
            ("euler_ancestral", 5, 16, 3.0),
            ("euler_ancestral", 5, 16, 3.0, [8, 9]),
        ]
    ]
    assert program.traces == 1
    for first, second in zip(results, results[1:], strict=False):
        assert toy.relative_error(first, second) > 1e-3


def test_starting_late_from_noisy_latents():
    """With the true denoiser of one picture, every start leads to that picture."""
    clean = initial_noise([1, 2], toy.SHAPE)
    table = make_table(SD1, "dpmpp_2m", 10, first_step=6)
    x = clean + initial_noise(SEEDS, toy.SHAPE) * np.float32(table.initial_scale)
    noise = np.zeros((1, *x.shape), "float32")
    carry = loop.run(
        lambda x, row: ops.array(clean),
        loop.start(x),
        table.padded(16),
        noise,
        0,
        len(table),
    )
    assert result(carry) == pytest.approx(clean, abs=1e-6)
    assert len(table) == 4


@pytest.mark.parametrize("name", ["dpmpp_2m", "heun", "pndm", "dpmpp_sde"])
def test_known_latents_are_put_back_as_noisy_as_the_next_row_sees_them(name):
    table, args = arguments(name, 6, 16)
    carry, rows, noise, text, *_ = keras.tree.map_structure(ops.convert_to_tensor, args)
    clean, own = initial_noise([1, 2], toy.SHAPE), initial_noise(SEEDS, toy.SHAPE)
    mask = np.ones((2, *toy.SHAPE[:2], 1), "float32")
    mask[:, 0], mask[:, 1] = 0.0, 0.5
    known = loop.Known(*map(ops.convert_to_tensor, (clean, mask, own)))
    denoise = denoiser(guided_network, [{"crossattn": text[None]}])
    begin, after = carry, [*table.values[1:, 0], 0.0]
    for i, sigma in enumerate(after):
        free = loop.step(denoise, carry, rows[i], noise[i])
        carry = loop.step(denoise, carry, rows[i], noise[i], known)
        noisy = clean + np.float32(sigma) * own
        # The grey half is free for the second half of the steps.
        kept = 2 if table.steps[i] < 3 else 1
        assert (result(carry)[:, kept:] == result(free)[:, kept:]).all()
        assert result(carry)[:, :kept] == pytest.approx(noisy[:, :kept], abs=1e-4)
    whole = loop.run(denoise, begin, rows, noise, 0, len(table), known)
    assert toy.relative_error(result(whole), result(carry)) < 1e-5
