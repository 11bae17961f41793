"""Runs: iterated, watched, stopped; several at once of one model."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from kerasdiffusion import StableDiffusion
from kerasdiffusion.presets.config import TinyAutoencoderConfig
from kerasdiffusion.requests.request import Request
from kerasdiffusion.tasks.plan import Loop
from tests.tasks.test_image_to_image import PICTURE
from tests.tiny import TINY, tiny_model

APPLE, CATS = "a red apple", "two cats"
MASK = np.zeros((32, 32), bool)
MASK[8:24, 8:24] = True
# Tasks of one loop and of several, of two sizes and three samplers.
REQUESTS = {
    "text_to_image": {"prompt": [APPLE, CATS], "sampler": "euler_ancestral"},
    "image_to_image": {"image": PICTURE[:16, :24], "prompt": APPLE, "strength": 0.7},
    "inpaint": {"image": PICTURE, "mask": MASK, "prompt": CATS},
    "outpaint": {"image": PICTURE, "prompt": APPLE, "left": 24, "sampler": "heun"},
    "interpolate": {"prompt": [APPLE, CATS], "frames": 3, "batch_size": 2},
    "circular_walk": {"prompt": CATS, "frames": 2},
}
tasks = pytest.mark.parametrize("task", REQUESTS)
#: Those that are walked on every backend; the others run the same programs.
REPRESENTATIVE = ("text_to_image", "inpaint", "interpolate")


def ask(task="text_to_image", **fields):
    plain = {"seed": 1, "num_steps": 4, "progress_bar": False}
    return Request(task=task, **{**plain, **REQUESTS.get(task, {}), **fields})


def alone(prompt=CATS, **fields):
    return ask(prompt=prompt, sampler="euler", **fields)


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(
            task,
            marks=pytest.mark.every_backend
            if task in REPRESENTATIVE
            else pytest.mark.every_backend_at_length,
        )
        for task in REQUESTS
    ],
)
def test_step_by_step_is_the_same_as_at_once(tiny, task):
    expected = tiny.run(ask(task)).pictures()
    run = tiny.run(ask(task))
    assert (run.step, run.latents, run.preview()) == (None, None, None)
    steps = list(run)
    assert len(steps) == len(run) == run.done and not run.stopped
    assert run.finished and (run.pictures() == expected).all()
    assert steps[-1].step == steps[-1].num_steps and steps[-1].sigma == 0.0
    assert (run.latents == steps[-1].latents).all()
    with pytest.raises(StopIteration):
        next(run)


def test_some_steps_may_be_looked_at_and_the_others_not(tiny):
    run = tiny.run(alone())
    first = next(run)
    assert (first.step, run.done, run.finished) == (1, 1, False)
    assert (run.pictures() == tiny.run(alone()).pictures()).all()
    assert run.finished


@pytest.mark.every_backend
def test_a_stopped_run_has_what_there_is(tiny):
    expected = tiny.run(alone()).pictures(lambda step: step.step < 2)
    run = tiny.run(alone())
    for step in run:
        if step.step == 2:
            run.stop()
    assert (step.step, run.stopped, run.finished) == (2, True, False)
    assert (run.pictures() == expected).all()
    assert not run.finished
    whole = tiny.run(alone())
    assert (whole.pictures() != expected).mean() > 0.1
    whole.stop()
    assert whole.finished, "it was done already"


@tasks
def test_every_task_stops(tiny, task):
    run = tiny.run(ask(task))
    pictures = run.pictures(lambda step: False)
    assert run.stopped and run.done == 1 < len(run)
    assert pictures.dtype == np.uint8 and pictures.ndim == 4


def test_another_thread_may_stop_it(tiny):
    run, seen = tiny.run(alone(num_steps=30)), []

    def stop(step):
        seen.append(step)
        if len(seen) == 3:
            thread = threading.Thread(target=run.stop)
            thread.start()
            thread.join()

    run.pictures(stop)
    assert run.stopped and len(seen) == 3


def test_one_thread_drives_it(tiny):
    run, errors = tiny.run(alone()), []

    def interfere(step):
        # The generator stands still here; within a step it does not.
        assert run.preview().shape == (1, 16, 16, 3)

    def drive(loop, pace, began):
        with pytest.raises(RuntimeError, match="Another thread drives this run"):
            next(run)
        errors.append(loop)
        yield from denoise(loop, pace, began)

    from kerasdiffusion.tasks import run as module

    denoise, module.denoise = module.denoise, drive
    try:
        run.pictures(interfere)
    finally:
        module.denoise = denoise
    assert len(errors) == 1 and run.finished


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ZeroDivisionError, marks=pytest.mark.every_backend_at_length),
        pytest.param(KeyboardInterrupt, marks=pytest.mark.every_backend),
    ],
)
def test_an_error_in_a_callback_leaves_all_usable(tiny, error):
    def fail(step):
        if step.step == 2:
            raise error

    expected = tiny.run(alone()).pictures()
    run = tiny.run(alone())
    with pytest.raises(error):
        run.pictures(fail)
    assert not run.finished and not run.stopped
    assert (tiny.run(alone()).pictures() == expected).all()
    assert (run.pictures() == expected).all(), "it goes on where it was"


def test_an_error_in_a_step_ends_the_run_alone(tiny, monkeypatch):
    expected = tiny.run(alone()).pictures()
    with monkeypatch.context() as patched:
        patched.setattr(type(tiny), "decode_all", lambda self, latents: 1 / 0)
        run = tiny.run(alone())
        with pytest.raises(ZeroDivisionError):
            run.pictures()
    with pytest.raises(RuntimeError, match="has ended by an error") as caught:
        run.pictures()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert (tiny.run(alone()).pictures() == expected).all()


@tasks
def test_a_plan_needs_no_weights(task):
    model = StableDiffusion(config=TINY, weights=None)
    plan = model.plan(ask(task))
    assert plan.request.task == task and plan.num_steps >= 2
    assert not model._parts and not model._programs
    with pytest.raises(ValueError, match="`num_steps`"):
        model.plan(ask(task, num_steps=1001))
    with pytest.raises(TypeError, match="`request` must be a `Request"):
        model.plan({"task": task})


def test_a_plan_is_arrays_and_a_table(tiny):
    plan = tiny.plan(alone([APPLE, CATS], seed=None, batch_size=2))
    loop = next(plan.paint(tiny.run(alone())))
    assert isinstance(loop, Loop) and loop.latents.shape == (4, 16, 16, 4)
    assert len(loop.settings.table) == plan.num_steps == 4
    assert [each["crossattn"].shape for each in loop.branches] == [(1, 4, 12, 32)] * 2


@tasks
def test_the_request_that_paints_the_same(tiny, task):
    plan = tiny.plan(ask(task, seed=None))
    again = tiny.plan(plan.repeatable)
    assert again.seeds == plan.seeds and plan.repeatable.seed is not None
    assert again.repeatable == plan.repeatable


class TestPreviews:
    def test_each_latent_is_a_pixel(self, tiny):
        run = tiny.run(alone([APPLE, CATS]))
        for _ in run:
            found = run.preview()
            assert found.shape == (2, 16, 16, 3) and found.dtype == np.uint8
        assert found.std() > 10

    def test_a_tiny_autoencoder_decodes(self):
        tiny_autoencoder = TinyAutoencoderConfig(
            width=8, encoder_blocks=(1, 1), decoder_blocks=(1, 1)
        )
        model = tiny_model(config=TINY.replace(autoencoder=tiny_autoencoder))
        run = model.run(alone(num_steps=2))
        next(run)
        height = model.config.autoencoder.downsampling * run.latents.shape[1]
        assert run.preview().shape[1] == height

    @pytest.mark.heavy  # of the tiny model: the others
    def test_the_bundled_models_is_near_its_pictures(self):
        model = StableDiffusion.from_preset("emoji")
        prompt = "a red apple on a blue background"
        run = model.run(
            Request(task="text_to_image", prompt=prompt, seed=1, num_steps=10)
        )
        (picture,), (found,) = run.pictures(), run.preview()
        small = picture.reshape(16, 8, 16, 8, 3).mean((1, 3))
        assert np.abs(small - found).mean() < 25
        assert np.corrcoef(small.ravel(), found.ravel())[0, 1] > 0.9


def several(count):
    names = list(REQUESTS)
    return [ask(names[i % len(names)], seed=i) for i in range(count)]


def in_threads(model, requests, threads=4):
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda request: model.run(request).pictures(), requests))


def test_threads_paint_what_one_would(tiny):
    """With a run that is stopped and one that fails between them."""
    requests = several(12)
    expected = [tiny.run(request).pictures() for request in requests]

    def stop(step):
        return step.step < 2

    def fail(step):
        raise KeyError(step.step)

    with ThreadPoolExecutor(4) as pool:
        jobs = []
        for i, request in enumerate(requests):
            callback = {3: stop, 4: fail}.get(i)
            run = tiny.run(request)
            jobs.append((run, pool.submit(run.pictures, callback)))
    for i, ((run, job), right) in enumerate(zip(jobs, expected, strict=True)):
        if i == 4:
            assert isinstance(job.exception(), KeyError)
        elif i == 3:
            assert run.stopped and job.result().shape[1:] != right.shape[2:]
        else:
            assert run.finished and (job.result() == right).all()


@pytest.mark.heavy
def test_two_hundred_calls_of_four_threads():
    model = tiny_model()
    requests = several(200)
    expected = [model.run(request).pictures() for request in requests]
    for found, right in zip(in_threads(model, requests), expected, strict=True):
        assert (found == right).all()


@pytest.mark.heavy
def test_threads_may_be_the_first_to_call():
    requests = several(8)
    model = tiny_model()
    expected = [model.run(request).pictures() for request in requests]
    for found, right in zip(in_threads(tiny_model(), requests), expected, strict=True):
        assert (found == right).all()


def test_pieces_of_some_time_are_the_same_as_at_once(tiny):
    request = Request(task="text_to_image", prompt=APPLE, num_steps=200, seed=1)
    run = tiny.run(request)
    done = [run.done for _ in run.glances(60.0)]
    assert done == sorted(done) and done[-1] == 200 and len(done) < 200
    assert np.array_equal(run.pictures(), tiny.run(request).pictures())
    slow = tiny.run(request.replace(num_steps=3))
    assert [slow.done for _ in slow.glances(0.0)] == [1, 2, 3]


def test_pieces_are_long_at_once_where_earlier_runs_have_measured_steps(tiny):
    request = Request(
        task="text_to_image",
        prompt=APPLE,
        num_steps=3,
        seed=1,
        hires_size=(48, 48),
        hires_strength=0.5,
    )
    known = {}
    first = tiny.run(request)
    assert [first.done for _ in first.glances(60.0, known)][0] == 1
    assert sorted(known) == [0, 1] and all(0.0 < each < 60.0 for each in known.values())
    again = tiny.run(request)
    assert [again.done for _ in again.glances(60.0, known)] == [3, 6]
    assert np.array_equal(again.pictures(), first.pictures())


def test_pieces_of_some_time_stop(tiny):
    run = tiny.run(Request(task="text_to_image", prompt="", num_steps=500, seed=1))
    for _ in run.glances(0.01):
        run.stop()
    assert run.stopped and not run.finished and run.done < 500
