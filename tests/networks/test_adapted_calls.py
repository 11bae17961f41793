"""Adapters where weights come and go, and where calls come between each other."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from keras import ops

from kerasdiffusion import Request, StableDiffusion
from kerasdiffusion.adapters.read import read_adapter
from kerasdiffusion.networks import wider
from kerasdiffusion.networks.quantization import check_learns
from kerasdiffusion.weights.names import canonical_name
from tests.adapters import files
from tests.networks.test_adapted import CAT, bits, expected
from tests.tiny import TINY, tiny_model

HEAVY = pytest.param(True, False, marks=pytest.mark.heavy)


@pytest.fixture
def two(tmp_path):
    return [
        files.save(tmp_path, name, files.kohya(seed=seed))
        for seed, name in enumerate(("detail", "style"))
    ]


@pytest.mark.every_backend_at_length
def test_with_low_memory_what_is_read_again_is_changed_again(two, tmp_path):
    whole = tiny_model()
    whole.save_preset(tmp_path / "model")
    plain = whole.text_to_image(**CAT)
    whole.load_adapter(two[0], 0.8)
    changed = whole.text_to_image(**CAT)
    model = StableDiffusion.from_preset(tmp_path / "model", low_memory=True)
    before = bits(StableDiffusion.from_preset(tmp_path / "model"))
    assert (model.text_to_image(**CAT) == plain).all()
    model.load_adapter(two[0], 0.8)
    assert (model.text_to_image(**CAT) == changed).all()
    kept = model.diffusion_model  # it stays from now on, with its originals
    assert (model.text_to_image(**CAT) == changed).all()
    model.remove_adapter()
    assert (model.text_to_image(**CAT) == plain).all()
    assert kept is model.diffusion_model and bits(model) == before


def test_with_low_memory_what_could_not_be_changed_is_not_painted_with(two, tmp_path):
    """The weights of a part that failed half way are given up, not taken for plain."""
    tiny_model(precision="float16").save_preset(tmp_path / "model")
    options = {"low_memory": True, "precision": "float16"}
    model = StableDiffusion.from_preset(tmp_path / "model", **options)
    plain = model.text_to_image(**CAT)
    tensors = files.kohya(alpha=4e5, layers=("mlp",))  # the text encoder's alone
    loud = files.save(tmp_path, "loud", tensors)
    model.load_adapter(loud, 1000.0)  # it changes what is read again
    for _ in range(2):
        with pytest.raises(ValueError, match="must fit float16"):
            model.text_to_image(**CAT)
    model.remove_adapter()
    assert (model.text_to_image(**CAT) == plain).all()


def test_with_low_memory_a_part_that_stays_is_plain(two, tmp_path):
    tiny_model().save_preset(tmp_path / "model")
    model = StableDiffusion.from_preset(tmp_path / "model", low_memory=True)
    model.text_to_image(**CAT, adapters=(two[0], 0.8))
    check_learns(model.diffusion_model)
    assert not model.diffusion_model.has_adapters


@pytest.mark.parametrize(
    "low_memory", [False, pytest.param(True, marks=pytest.mark.heavy)]
)
def test_other_calls_adapters_are_in_nothing_that_is_kept(low_memory, two, tmp_path):
    """While a call is between two steps, with its own adapters in the weights."""
    first, second = tmp_path / "first", tmp_path / "second"
    tiny_model().save_preset(first)
    model = StableDiffusion.from_preset(first, low_memory=low_memory)
    before = model.fingerprint()
    asked = {"task": "text_to_image", "prompt": CAT["prompt"], "num_steps": 2}
    run = model.run(Request(**asked, adapters=[(two[0], 0.8)]))
    next(run)  # the window: its changes are in the weights
    assert model.fingerprint() == before
    next(run)
    model.save_preset(second)
    for path in first.rglob("*.safetensors"):
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes()


@pytest.mark.parametrize("low_memory, is_read_anew", [(False, True), HEAVY])
def test_the_float32_twin_of_a_part_has_the_calls_own_adapters(
    low_memory, is_read_anew, two, tmp_path, monkeypatch
):
    """Another call comes between a part and its twin, which computes once more."""
    tiny_model(precision="float16").save_preset(tmp_path / "model")
    options = {"precision": "float16", "low_memory": low_memory}
    model = StableDiffusion.from_preset(tmp_path / "model", **options)
    if is_read_anew:  # as where the weights did not fit float16
        monkeypatch.setattr(wider, "first_lost", lambda network: "one")
    found = {}

    def look(twin):
        for each in twin.weights:
            name = canonical_name(each.path, twin.name)
            found[name] = ops.convert_to_numpy(each)
        return np.zeros(1)

    with model._asking([(str(two[0]), 0.8)]):
        model.program("encode")(np.zeros((1, 12), "int32"), {})
        with ThreadPoolExecutor(1) as pool:
            pool.submit(model.text_to_image, **CAT).result()
        model._in_float32("text_encoder", look, np.zeros(1))
    adapters = [(read_adapter(two[0], TINY), 0.8)]
    wanted = expected(tiny_model(), "text_encoder", adapters)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, atol=5e-3)
    plain = expected(tiny_model(), "text_encoder", [])
    assert max(np.abs(found[name] - plain[name]).max() for name in plain) > 0.1
