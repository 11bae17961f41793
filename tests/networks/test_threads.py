"""One model and several threads: the pictures are those of one thread, to the bit."""

import gc
import shutil
import threading
import time

import numpy as np
import pytest

from kerasdiffusion import StableDiffusion
from kerasdiffusion.compute import backend, memory
from kerasdiffusion.networks import lazy, parts
from kerasdiffusion.prompts.tokenizer import Tokenizer
from tests.tiny import TEXTS, TINY, tiny_model, tiny_tokenizer

SETTINGS = {"num_steps": 2, "progress_bar": False}
THREADS = 4


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The tiny model's files."""
    path = tmp_path_factory.mktemp("tiny") / "model"
    tiny_model().save_preset(path)
    return path


@pytest.fixture(scope="module")
def expected(saved):
    """What one thread paints, by its number."""
    model = cold(saved)
    return [paint(model, number) for number in range(THREADS)]


def cold(path, **options):
    """A model of which nothing is there yet."""
    tokenizer = Tokenizer(TINY.tokenizer, tiny_tokenizer().vocabulary)
    return StableDiffusion(weights=path, config=TINY, tokenizer=tokenizer, **options)


def paint(model, number: int, **options):
    options = {"seed": number, **SETTINGS, **options}
    return model.text_to_image(TEXTS[number % len(TEXTS)], **options)[0]


def together(*calls, patience: float = 600.0) -> list:
    """What each call returns, or the error that it raises, of as many threads."""
    found, begin = [None] * len(calls), threading.Barrier(len(calls))

    def run(place, call):
        begin.wait(60)
        try:
            found[place] = call()
        except BaseException as error:
            found[place] = error

    pairs = list(enumerate(calls))
    threads = [threading.Thread(target=run, args=each, daemon=True) for each in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience)  # on a machine that does much else
        assert not thread.is_alive(), "threads wait for each other"
    return found


def painters(model) -> list:
    return [lambda n=n: paint(model, n) for n in range(THREADS)]


def held_open(monkeypatch, seconds: float = 0.3):
    """Networks take their time to be made, so that all threads find none there."""
    made, make = [], parts.make_networks

    def slowly(config, names, *how, **more):
        time.sleep(seconds)
        made.extend(names)
        return make(config, names, *how, **more)

    for module in (parts, lazy):
        monkeypatch.setattr(module, "make_networks", slowly)
    return made


@pytest.mark.parametrize(
    "goes_ahead",
    [
        pytest.param(True, marks=pytest.mark.every_backend),
        pytest.param(
            False, marks=[pytest.mark.heavy, pytest.mark.every_backend_at_length]
        ),
    ],
)
def test_cold_models_paint_what_one_thread_does(
    saved, expected, monkeypatch, goes_ahead
):
    made = held_open(monkeypatch)
    if not goes_ahead:  # as with a distribution, or on PyTorch
        monkeypatch.setattr(backend, "compiles_ahead", lambda: False)
    model = cold(saved)
    np.testing.assert_array_equal(together(*painters(model)), expected)
    assert sorted(made) == sorted(TINY.parts)  # once
    assert set(model.traces.values()) <= {0, 1}


@pytest.mark.heavy
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("low_memory", [False, True])
def test_fifty_rounds(saved, expected, low_memory):
    for _ in range(50):
        model = cold(saved, low_memory=low_memory)
        np.testing.assert_array_equal(together(*painters(model)), expected)


@pytest.mark.every_backend_at_length
def test_low_memory_keeps_a_part_while_it_computes(saved, expected, monkeypatch):
    give_up, given_up = memory.give_up, []

    def watched(name, variables):
        given_up.append(len(variables))
        give_up(name, variables)
        time.sleep(0.05)

    monkeypatch.setattr(memory, "give_up", watched)
    model = cold(saved, low_memory=True)
    for _ in range(2):
        np.testing.assert_array_equal(together(*painters(model)), expected)
    assert len(given_up) > 4
    # One takes a part for its own, and others go on.
    found = together(*painters(model), lambda: model.diffusion_model)
    np.testing.assert_array_equal(found[:THREADS], expected)
    assert found[THREADS] is model.diffusion_model
    paint(model, 0)
    assert backend.to_numpy(model.diffusion_model.conv_in.kernel.value).size


@pytest.mark.every_backend_at_length
def test_what_is_changed_after_a_cold_start_reaches_the_programs(
    saved, expected, monkeypatch
):
    held_open(monkeypatch, 0.1)
    model = cold(saved)
    together(*painters(model))
    kernel = model.diffusion_model.conv_in.kernel
    kernel.assign(-1.0 * kernel)
    found = paint(model, 0)
    assert (found != expected[0]).mean() > 0.5
    kernel.assign(-1.0 * kernel)
    np.testing.assert_array_equal(paint(model, 0), expected[0])
    model.quantize("int8", ["diffusion_model"])
    rounded = paint(model, 0)
    assert (rounded != expected[0]).any()
    other = cold(saved)
    other.quantize("int8", ["diffusion_model"])
    np.testing.assert_array_equal(rounded, paint(other, 0))


def test_quantizing_waits_for_what_is_painted(saved, expected):
    model, begun = cold(saved), threading.Event()
    other = cold(saved)
    other.quantize("int8", ["diffusion_model"])
    rounded = paint(other, 0)

    def watched():
        return paint(model, 0, callback=lambda step: begun.set())

    def quantized():
        assert begun.wait(60)
        model.quantize("int8", ["diffusion_model"])

    first, nothing = together(watched, quantized)
    assert nothing is None and not isinstance(first, BaseException), (first, nothing)
    np.testing.assert_array_equal(paint(model, 0), rounded)


def test_sizes_samplers_stops_and_errors_side_by_side(saved):
    model = cold(saved)
    small, large = (np.full((side, side, 3), 90, np.uint8) for side in (32, 48))

    def of(picture, seed):
        return model.image_to_image(picture, TEXTS[1], seed=seed, **SETTINGS)[0]

    def stopped():
        return paint(model, 3, num_steps=4, callback=lambda step: step.step < 2)

    def failing():
        def fail(step):
            raise ArithmeticError("in one thread")

        return paint(model, 2, callback=fail)

    calls = [
        lambda: of(small, 1),
        lambda: of(large, 1),
        lambda: paint(model, 1, sampler="ddim"),
        lambda: paint(model, 1, sampler="euler_ancestral"),
        stopped,
    ]
    alone = [call() for call in calls]
    *beside, error = together(*calls, failing)
    for one, other in zip(alone, beside, strict=True):
        np.testing.assert_array_equal(one, other)
    assert isinstance(error, ArithmeticError)
    np.testing.assert_array_equal(paint(model, 1, sampler="ddim"), alone[2])


def test_ctrl_c_leaves_the_model_usable(saved, expected, monkeypatch):
    held_open(monkeypatch)
    model, wait = cold(saved), parts.Arrival.wait

    def interrupted(self, names):
        raise KeyboardInterrupt

    monkeypatch.setattr(parts.Arrival, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        paint(model, 0)
    arrival = model._arrival
    monkeypatch.setattr(parts.Arrival, "wait", wait)
    np.testing.assert_array_equal(paint(model, 0), expected[0])
    assert arrival.is_complete  # what was under way went on

    def interrupt(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        paint(model, 0, callback=interrupt)
    np.testing.assert_array_equal(together(*painters(model)), expected)


def test_weights_that_fail_to_come_fail_in_each_thread(saved, expected, tmp_path):
    shutil.copytree(saved, tmp_path / "model")
    weights = next((tmp_path / "model" / "unet").glob("*.safetensors"))
    weights.rename(tmp_path / "away")
    model = cold(tmp_path / "model")
    found = together(*painters(model))
    assert all("no weights" in str(each) for each in found), found
    (tmp_path / "away").rename(weights)
    np.testing.assert_array_equal(together(*painters(model)), expected)


@pytest.mark.parametrize(
    "error", [MemoryError, pytest.param(ValueError, marks=pytest.mark.heavy)]
)
def test_a_program_that_fails_leaves_the_model_usable(
    saved, expected, monkeypatch, error
):
    """As where memory ends, which has one name, whatever TensorFlow calls it."""
    model, failing = cold(saved), []
    run = backend.Program.__call__

    def fails_once(self, *args):
        found = run(self, *args)
        if failing:
            raise failing.pop()("OOM when allocating a tensor")
        return found

    monkeypatch.setattr(backend.Program, "__call__", fails_once)
    for _ in range(4):  # text, latents, pictures
        failing[:] = [error]
        found = together(*painters(model))
        errors = [each for each in found if isinstance(each, BaseException)]
        assert [type(each) for each in errors] == [MemoryError]
    np.testing.assert_array_equal(together(*painters(model)), expected)


def test_a_refiner_of_two_models_and_of_itself(saved):
    refiner, models = cold(saved), [cold(saved), cold(saved)]
    sequence = cold(saved)

    def refined(model, by):
        return paint(model, 1, num_steps=4, refiner=by, refiner_start=0.5)

    alone = refined(sequence, sequence)
    calls = [lambda m=m: refined(m, refiner) for m in models]
    calls += [lambda: refined(refiner, refiner)] * 2
    for found in together(*calls):
        np.testing.assert_array_equal(found, alone)


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_calls_from_threads_keep_no_memory(saved, expected):
    psutil = pytest.importorskip("psutil")
    model = cold(saved)

    def calls(count):
        def some():
            for number in range(count // THREADS):
                paint(model, number % THREADS)

        assert together(*[some] * THREADS) == [None] * THREADS
        gc.collect()
        return psutil.Process().memory_info().rss

    before = calls(52)
    after = calls(448)
    assert after < 1.05 * before, (before, after)


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_two_hundred_calls_of_all_kinds_from_four_threads(saved):
    model = cold(saved)
    small, large = (np.full((side, side, 3), 90, np.uint8) for side in (32, 48))
    hole = np.zeros((32, 32), bool)
    hole[8:24, 8:24] = True

    def walk(seed):
        way = {"frames": 3, "batch_size": 2, "seed": seed, **SETTINGS}
        return model.interpolate(list(TEXTS[:2]), **way)

    kinds = [
        lambda seed: paint(model, 0, seed=seed),
        lambda seed: paint(model, 1, seed=seed, sampler="euler_ancestral"),
        lambda seed: paint(model, 2, seed=seed, batch_size=2, pag_scale=2.0),
        lambda seed: model.image_to_image(small, TEXTS[1], seed=seed, **SETTINGS),
        lambda seed: model.image_to_image(large, TEXTS[0], seed=seed, **SETTINGS),
        lambda seed: model.inpaint(small, hole, TEXTS[1], seed=seed, **SETTINGS),
        walk,
    ]
    calls = [(kind, seed) for kind in range(len(kinds)) for seed in range(3)]
    alone = {call: kinds[call[0]](call[1]) for call in calls}

    def some(thread):
        dice, wrong = np.random.default_rng(thread), []
        for number in dice.integers(0, len(calls), 200 // THREADS):
            kind, seed = calls[number]
            if not np.array_equal(kinds[kind](seed), alone[kind, seed]):
                wrong.append(calls[number])
        return wrong

    found = together(*[lambda n=n: some(n) for n in range(THREADS)], patience=1800)
    assert found == [[]] * THREADS
