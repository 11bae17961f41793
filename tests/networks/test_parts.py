"""Parts of a model in memory, all or one at a time."""

import contextlib
import functools
import shutil
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest

from kerasdiffusion import StableDiffusion
from kerasdiffusion.compute import backend, heap
from kerasdiffusion.networks import parts
from kerasdiffusion.networks.parts import (
    PARTS,
    Arrival,
    Guests,
    make_networks,
    make_parts,
)
from kerasdiffusion.prompts.tokenizer import Tokenizer
from kerasdiffusion.weights import WeightsError, load
from tests.tiny import TEXTS, TINY, tiny_model, tiny_tokenizer

SETTINGS = {"num_steps": 2, "progress_bar": False}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The tiny model's files."""
    path = tmp_path_factory.mktemp("tiny") / "model"
    tiny_model().save_preset(path)
    return path


def read(path, **options):
    tokenizer = Tokenizer(TINY.tokenizer, tiny_tokenizer().vocabulary)
    return StableDiffusion.from_preset(
        path, config=TINY, tokenizer=tokenizer, **options
    )


def later(path):
    """A model whose weights are read with its first picture."""
    tokenizer = Tokenizer(TINY.tokenizer, tiny_tokenizer().vocabulary)
    return StableDiffusion(weights=path, config=TINY, tokenizer=tokenizer)


def values_in_memory(model) -> dict[str, int]:
    """Numbers that each part's variables hold."""
    return {
        part: sum(backend.to_numpy(v.value).size for v in network.variables)
        for part, network in (model._guests._networks | model._parts).items()
    }


@pytest.mark.every_backend
def test_one_part_at_a_time_paints_the_same(saved):
    model, whole = read(saved, low_memory=True), read(saved)
    assert model.low_memory and not whole.low_memory
    assert not model._guests._networks  # nothing is read yet
    for seed in (0, 1):
        expected = whole.text_to_image(TEXTS[0], seed=seed, **SETTINGS)
        assert expected.std() > 20
        found = model.text_to_image(TEXTS[0], seed=seed, **SETTINGS)
        assert (found == expected).all()
        held = values_in_memory(model)
        assert sorted(held) == ["decoder", "diffusion_model", "text_encoder"]
        assert [part for part, count in held.items() if count] == ["decoder"]
    # What is given up is compiled still.
    assert model.traces == whole.traces


@pytest.mark.every_backend_at_length
def test_one_part_at_a_time_follows_a_picture_too(saved):
    model, whole = read(saved, low_memory=True), read(saved)
    expected = whole.text_to_image(TEXTS[0], seed=0, **SETTINGS)
    picture = whole.image_to_image(expected[0], TEXTS[1], seed=2, **SETTINGS)
    found = model.image_to_image(expected[0], TEXTS[1], seed=2, **SETTINGS)
    assert (found == picture).all()


@pytest.mark.parametrize("low_memory", [True, False])
def test_freed_memory_is_kept_where_memory_is_not_short(saved, monkeypatch, low_memory):
    kept = []
    monkeypatch.setattr(heap, "keep_freed_pages", lambda: kept.append(True))
    model = read(saved, low_memory=low_memory)
    model.text_to_image(TEXTS[0], seed=0, **SETTINGS)
    assert bool(kept) is not low_memory


@pytest.mark.parametrize("low_memory", [True, "smallest"])
def test_what_reading_frees_goes_back_where_memory_is_shortest(
    saved, monkeypatch, low_memory
):
    within, told, read_as_it_is = [], [], parts.read

    @contextlib.contextmanager
    def trimmed(is_wanted=True):
        within.append(is_wanted)
        yield
        within.pop()

    def spy(*args):
        told.append(any(within))
        read_as_it_is(*args)

    monkeypatch.setattr(heap, "trimmed", trimmed)
    monkeypatch.setattr(parts, "read", spy)
    read(saved, low_memory=low_memory).encode_text(TEXTS[0])
    assert told == [low_memory == "smallest"]


def test_a_part_is_compiled_ahead_of_its_weights(saved, monkeypatch):
    """What tracing takes is free again when they come."""
    model, told, enter = read(saved, low_memory=True), [], Guests.enter

    def spy(guests, part, *more):
        programs = {"text_encoder": "encode", "diffusion_model": "denoise"}
        told.append((part, model.traces.get(programs.get(part), 0)))
        return enter(guests, part, *more)

    monkeypatch.setattr(Guests, "enter", spy)
    model.text_to_image(TEXTS[0], seed=0, **SETTINGS)
    found = list(dict.fromkeys(told))[:2]
    assert found == [("text_encoder", 1), ("diffusion_model", 1)]


def test_a_callback_may_decode(saved):
    model, whole = read(saved, low_memory=True), read(saved)

    def paint(model):
        previews = []

        def preview(step):
            previews.append(model.decode_latents(step.latents))

        last = model.text_to_image(TEXTS[0], seed=4, callback=preview, **SETTINGS)
        return np.concatenate([*previews, last])

    found, expected = paint(model), paint(whole)
    assert len(found) == 3 and (found == expected).all()


@pytest.mark.every_backend_at_length
def test_what_is_taken_from_the_model_stays(saved):
    model = read(saved, low_memory=True)
    before = model.text_to_image(TEXTS[0], seed=3, **SETTINGS)
    network = model.diffusion_model
    network.conv_in.kernel.assign(-1.0 * network.conv_in.kernel)
    learned = model.text_to_image(TEXTS[0], seed=3, **SETTINGS)
    assert (learned != before).mean() > 0.5
    assert (model.text_to_image(TEXTS[0], seed=3, **SETTINGS) == learned).all()
    assert model.diffusion_model is network
    held = values_in_memory(model)
    assert (
        held["diffusion_model"] == network.count_params() and not held["text_encoder"]
    )
    assert {id(v) for v in network.weights} <= {id(v) for v in model.weights}


def test_all_that_is_built_stays_and_is_saved(saved, tmp_path):
    model = read(saved, low_memory=True)
    expected = model.text_to_image(TEXTS[0], seed=3, **SETTINGS)
    model.save_preset(tmp_path / "copy")
    assert all(values_in_memory(model).values()) and len(model._parts) == 4
    assert (model.text_to_image(TEXTS[0], seed=3, **SETTINGS) == expected).all()
    again = read(tmp_path / "copy").text_to_image(TEXTS[0], seed=3, **SETTINGS)
    assert (again == expected).all()


def test_tiles_enter_too(saved):
    options = {"img_height": 128, "img_width": 64, "tiling": 64}
    model, whole = read(saved, low_memory=True, **options), read(saved, **options)
    latents = np.random.default_rng(0).normal(size=(1, *whole.latent_shape))
    latents = latents.astype("float32")
    expected = whole.decode_latents(latents)
    model.decode_latents(latents)
    model.encode_text(TEXTS[0])
    assert not values_in_memory(model)["decoder"]
    assert (model.decode_latents(latents) == expected).all()


@pytest.mark.every_backend
def test_programs_are_compiled_while_weights_are_read(saved, monkeypatch):
    begun, traced = threading.Event(), threading.Event()
    load_weights = load.load_weights

    def slowly(*args, **options):
        begun.set()
        assert traced.wait(20)
        load_weights(*args, **options)

    monkeypatch.setattr(load, "load_weights", slowly)
    model = later(saved)
    program = backend.Program

    class Watched(program):
        def _counted(self, function):
            assert begun.wait(20)
            traced.set()
            return super()._counted(function)

    if not backend.compiles_ahead():
        traced.set()  # PyTorch has nothing to compile
    monkeypatch.setattr(backend, "Program", Watched)
    found = model.text_to_image(TEXTS[0], seed=0, **SETTINGS)
    assert begun.is_set() and model.built
    expected = tiny_model().text_to_image(TEXTS[0], seed=0, **SETTINGS)
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
    assert set(model.traces.values()) <= {0, 1}  # nothing is traced twice


@pytest.mark.every_backend_at_length
def test_weights_that_fail_to_come_leave_nothing(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "model")
    weights = next((tmp_path / "model" / "unet").glob("*.safetensors"))
    weights.rename(tmp_path / "away")
    model = later(tmp_path / "model")
    for _ in range(2):
        with pytest.raises(WeightsError, match="no weights"):
            model.text_to_image(TEXTS[0], seed=0, **SETTINGS)
        with pytest.raises(WeightsError, match="no weights"):
            model.diffusion_model  # noqa: B018
    (tmp_path / "away").rename(weights)
    assert model.text_to_image(TEXTS[0], seed=0, **SETTINGS).std() > 20


def test_networks_arrive_one_after_the_other(saved):
    go_on, sources = threading.Event(), dict.fromkeys(TINY.parts, saved)

    def make(part):
        if part == "decoder":
            assert go_on.wait(20)
        return make_networks(TINY, [part], "float32", sources)[part]

    arrival = Arrival(make, TINY.parts, sources)
    arrival.wait(["text_encoder", "diffusion_model"])
    kernel = arrival.network("diffusion_model").conv_in.kernel
    assert backend.to_numpy(kernel.value).std() > 0.01
    assert not arrival.is_complete
    go_on.set()
    arrival.wait(TINY.parts)
    assert arrival.is_complete
    assert [arrival.network(part).name for part in TINY.parts] == list(TINY.parts)


def test_what_comes_behind_a_network_that_fails_fails_too():
    def make(part):
        if part == "diffusion_model":
            raise ArithmeticError(f"no {part}")
        return make_networks(TINY, [part], "float32", sources)[part]

    sources = dict.fromkeys(TINY.parts)  # nothing is read
    arrival = Arrival(make, TINY.parts, sources)
    arrival.wait(["text_encoder"])
    for part in ("diffusion_model", "decoder"):
        with pytest.raises(ArithmeticError, match="no diffusion_model"):
            arrival.network(part)
        with pytest.raises(ArithmeticError, match="no diffusion_model"):
            arrival.wait([part])
    assert not arrival.is_complete


def test_a_program_that_ends_waits_for_what_is_under_way_alone(monkeypatch):
    """Threads at work as the interpreter ends can abort it: none is a daemon."""
    begun, go_on, made = threading.Event(), threading.Event(), []

    def make(part):
        begun.set()
        assert go_on.wait(60)
        made.append(part)

    before = set(threading.enumerate())
    arrival = Arrival(make, TINY.parts, dict.fromkeys(TINY.parts))
    started = set(threading.enumerate()) - before
    assert started and not any(thread.daemon for thread in started)
    assert begun.wait(60)
    ended = types.SimpleNamespace(is_alive=lambda: False)
    monkeypatch.setattr(threading, "main_thread", lambda: ended)
    go_on.set()
    for thread in started:
        thread.join(60)
        assert not thread.is_alive()
    assert made == [TINY.parts[0]]
    with pytest.raises(RuntimeError, match="The program has ended"):
        arrival.wait(TINY.parts)


@pytest.mark.every_backend_at_length
def test_a_network_that_cannot_be_made_leaves_nothing(saved, monkeypatch):
    model = later(saved)
    with monkeypatch.context() as patch:
        patch.setitem(PARTS, "diffusion_model", (None, "diffusion_model"))
        with pytest.raises(TypeError):
            model.text_to_image(TEXTS[0], seed=0, **SETTINGS)
        assert not model.built and not model.weights
    found = model.text_to_image(TEXTS[0], seed=0, **SETTINGS)
    assert found.std() > 20 and model.built
    assert {id(v) for v in model.decoder.weights} <= {id(v) for v in model.weights}


@pytest.mark.every_backend_at_length
def test_a_model_may_be_built_while_its_networks_arrive(saved):
    model, whole = later(saved), read(saved)
    context = model.encode_text(TEXTS[0])
    np.testing.assert_allclose(context, whole.encode_text(TEXTS[0]), atol=1e-5)
    assert list(model._parts) in ([], list(TINY.parts))
    model.build()
    assert list(model._parts) == list(TINY.parts)
    for found, expected in zip(model.weights, whole.weights, strict=True):
        assert expected.path.endswith(found.path)  # the model's name may be ahead
        found, expected = map(backend.to_numpy, (found.value, expected.value))
        np.testing.assert_array_equal(found, expected)


def test_random_weights_could_not_be_read_again():
    with pytest.raises(ValueError, match="all parts must have a source. Received: non"):
        StableDiffusion(config=TINY, weights=None, low_memory=True)


def test_a_file_that_fails_is_an_error_each_time(saved, tmp_path):
    sources = dict.fromkeys(TINY.parts, tmp_path / "none.safetensors")
    make = functools.partial(make_parts, TINY, precision="float32", sources=sources)
    guests = Guests(make, sources, TINY.parts)
    for _ in range(2):
        with pytest.raises((WeightsError, FileNotFoundError)):
            guests.enter("decoder")


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="Linux's counts")
def test_memory_is_there_for_what_comes_next():
    done = subprocess.run(
        [sys.executable, "-m", "tests.compute.memory_given_up"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.stdout.endswith("given up\n"), done.stderr[-2000:]
