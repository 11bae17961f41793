"""The hash of a request and a model: what changes pictures changes it."""

import keras
import numpy as np
import pytest

from kerasdiffusion import Control, Request
from kerasdiffusion.networks.latent_diffusion import LatentDiffusion
from kerasdiffusion.requests.fields import TASKS
from kerasdiffusion.requests.request import FIELDS, fields_of
from kerasdiffusion.weights.fingerprint import of_file, of_variables
from tests.requests.test_as_json import UNWRITTEN, VALUES
from tests.requests.test_request import least
from tests.tiny import tiny_model

MODEL = {"weights": "some"}


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("photo.png", "mask.png", "d.png", "detail.safetensors", "style"):
        (tmp_path / name).write_bytes(name.encode())
    monkeypatch.setattr("kerasdiffusion.requests.key.of_source", str)


@pytest.mark.parametrize("task", TASKS)
def test_every_field_counts(task, files):
    before = least(task, seed=1)
    keys = {before.key(MODEL)}
    assert least(task, seed=1).key(MODEL) in keys
    for name in fields_of(task):
        if name in UNWRITTEN:
            continue
        changed = before.replace(**{name: VALUES[name]})
        if name == "variation_strength":
            changed = changed.replace(variation_seed=5)
        key = changed.key(MODEL)
        assert key not in keys, name
        keys.add(key)
    watched = before.replace(callback=print, progress_bar=False)
    assert watched.key(MODEL) == before.key(MODEL)
    assert before.key({"weights": "others"}) not in keys


def test_values_that_look_alike_do_not_collide():
    def key(**keywords):
        return least("text_to_image", seed=1).replace(**keywords).key(MODEL)

    assert key(prompt=("ab", "c")) != key(prompt=("a", "bc"))
    assert key(prompt=("a",)) != key(prompt="a")
    assert key(prompt="a", negative_prompt="b") != key(prompt="a", prompt_2="b")
    arrays = [np.zeros(4, "float32"), np.zeros(4, "int32"), np.zeros((2, 2), "float32")]
    assert len({key(negative_prompt=each) for each in arrays}) == 3


def test_a_file_counts_by_what_is_in_it(tmp_path):
    path, copy = tmp_path / "a.png", tmp_path / "b.png"
    path.write_bytes(b"one")
    copy.write_bytes(b"one")
    request = Request(task="upscale", image=str(path), prompt="", seed=1)
    first = request.key(MODEL)
    assert request.replace(image=str(copy)).key(MODEL) == first
    path.write_bytes(b"other")
    assert request.key(MODEL) != first


def test_the_hubs_cache_has_the_sum_in_the_name(tmp_path):
    blob = tmp_path / "blobs" / ("ab" * 32)
    blob.parent.mkdir()
    blob.write_bytes(b"x")
    assert of_file(blob) == "ab" * 32


def test_a_picture_of_a_control_counts_and_a_function_has_no_key(files):
    def key(**keywords):
        return least("text_to_image", seed=1).replace(**keywords).key(MODEL)

    one, two = np.zeros((16, 16, 3), "uint8"), np.ones((16, 16, 3), "uint8")
    assert key(control=Control("canny", one)) != key(control=Control("canny", two))
    dark = Control("canny", one, guess_mode=True)
    assert key(control=Control("canny", one)) != key(control=dark)
    estimated = least("depth_to_image", seed=1, depth_estimator=lambda picture: picture)
    with pytest.raises(ValueError, match="`depth_estimator` must be left out for a"):
        estimated.key(MODEL)


def test_what_is_random_has_no_key():
    with pytest.raises(ValueError, match="`seed` must be given for a key"):
        least("text_to_image").key(MODEL)
    drawn = least("text_to_image", seed=1, variation_strength=0.5)
    with pytest.raises(ValueError, match="`variation_seed` must be given for a key"):
        drawn.key(MODEL)


def test_one_number_of_many_changes_the_hash_of_weights():
    values = np.zeros(100_003, "float32")
    before = of_variables([values])
    values[77_777] = 1e-30
    assert of_variables([values]) != before
    halves = np.zeros(5, "float16")
    assert of_variables([halves]) != of_variables([halves.view("int16")])


@pytest.mark.every_backend
def test_what_a_model_learns_changes_its_fingerprint(tiny):
    one = tiny_model()
    assert one.fingerprint() == tiny.fingerprint()
    before = one.fingerprint()
    variable = one.decoder.trainable_variables[0]
    value = keras.ops.convert_to_numpy(variable).copy()
    value.flat[3] += 1e-3
    variable.assign(value)
    after = one.fingerprint()
    assert {name for name in before if before[name] != after[name]} == {"decoder"}
    request = least("text_to_image", seed=1)
    assert request.key(one) != request.key(before) == request.key(tiny)
    one.img_height = 64
    assert one.fingerprint()["size"] != before["size"]


def test_learned_words_change_it():
    model = tiny_model()
    before = model.fingerprint()
    from kerasdiffusion.prompts.chunks import LearnedWords

    learned = LearnedWords(546, {"toy": np.ones((1, 32), "float32")})
    model._learned[model.config.text_encoder] = learned
    after = model.fingerprint()
    assert {name for name in before if before[name] != after[name]} == {"embeddings"}


def test_fields_that_do_not_paint_are_those_of_the_run():
    assert {name for name in FIELDS if not FIELDS[name].asked.paints} == {
        "callback",
        "progress_bar",
    }


@pytest.fixture
def lora(tmp_path, monkeypatch):
    """An adapter's file in the folder of adapters; what is in it does not matter."""
    (tmp_path / "detail.safetensors").write_bytes(b"one")
    monkeypatch.setenv("KERASDIFFUSION_ADAPTERS", str(tmp_path))
    return tmp_path / "detail.safetensors"


def test_an_adapter_that_a_prompt_names_counts_by_its_file(lora):
    class Model:
        fingerprint_of = LatentDiffusion.fingerprint_of

        def fingerprint(self):
            return MODEL

    request = least("text_to_image", seed=1).replace(prompt="a cat <lora:detail:0.5>")
    before = request.key(Model())
    assert request.replace(prompt="a cat <lora:detail:0.6>").key(Model()) != before
    lora.write_bytes(b"other")
    assert request.key(Model()) != before
    with pytest.raises(ValueError, match="be the model itself, where prompts name"):
        request.key(MODEL)
    plain = request.replace(prompt_weighting="none")
    assert plain.key(MODEL) == plain.key(Model())
