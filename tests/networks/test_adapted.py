"""Adapters in a model: added up, reweighed and taken off, compiling nothing."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from keras import ops

from kerasdiffusion.adapters.read import read_adapter
from kerasdiffusion.networks.quantization import check_learns
from kerasdiffusion.weights.arrays import stored_variables, to_stored
from kerasdiffusion.weights.names import canonical_name
from tests.adapters import files
from tests.peers.quick import quick
from tests.tiny import TINY, TINY_SDXL, tiny_model

CAT = {"prompt": "two cats", "num_steps": 1, "seed": 3, "progress_bar": False}


def bits(model):
    """Every weight's own bytes."""
    return {
        (part, i): np.asarray(ops.convert_to_numpy(variable)).tobytes()
        for part in model.config.parts
        for i, variable in enumerate(getattr(model, part).weights)
    }


def expected(model, part, wanted):
    """The weights of a part with adapters, computed here in float64."""
    network = getattr(model, part)
    found = {}
    for variable in stored_variables(network):
        values = ops.convert_to_numpy(variable).astype("float64")
        found[canonical_name(variable.path, network.name)] = values
    for adapter, strength in wanted:
        for entry in adapter.entries:
            if entry.part == part:
                delta = entry.change.difference({}, strength).astype("float64")
                axes = (1, 0) if delta.ndim == 2 else (2, 3, 1, 0)
                found[entry.tensor] += delta.transpose(axes)
    return found


@pytest.fixture
def two(tmp_path):
    return [
        files.save(tmp_path, name, files.kohya(seed=seed))
        for seed, name in enumerate(("detail", "style"))
    ]


@pytest.mark.every_backend
def test_weights_add_up_and_come_off_and_nothing_is_compiled(two):
    model = tiny_model()
    plain, before = model.text_to_image(**CAT), bits(model)
    traces = model.traces
    model.load_adapter(two[0], 0.7)
    model.load_adapter(two[1], -0.3, text_encoder_weight=0.4)
    adapters = [read_adapter(path, TINY) for path in two]
    bare = tiny_model()
    for part, weights in (
        ("diffusion_model", (0.7, -0.3)),
        ("text_encoder", (0.7, 0.4)),
    ):
        wanted = expected(bare, part, list(zip(adapters, weights, strict=True)))
        network = getattr(model, part)
        for variable in network.weights:
            values = ops.convert_to_numpy(variable)
            name = canonical_name(variable.path, network.name)
            np.testing.assert_allclose(values, wanted[name], atol=2e-6)
    changed = model.text_to_image(**CAT)
    assert np.abs(changed.astype(int) - plain).mean() > 1.0

    model.set_adapters({"style": 1.0})
    other = model.text_to_image(**CAT)
    assert (other != changed).any()
    model.set_adapters(["detail", "style"], [0.7, -0.3])
    model.set_adapters({"style": (-0.3, 0.4), "detail": 0.7})
    assert (model.text_to_image(**CAT) == changed).all()
    model.remove_adapter("detail")
    model.remove_adapter()
    assert bits(model) == before and model.adapters == {}
    assert (model.text_to_image(**CAT) == plain).all()
    assert model.traces == traces


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.heavy)])
def test_many_changes_end_with_the_weights_to_the_bit(count, tmp_path):
    two = [
        files.save(tmp_path, name, files.kohya(seed=seed, layers=(layer, "mlp")))
        for seed, (name, layer) in enumerate((("a", "attn1"), ("b", "conv1")))
    ]
    model, random = tiny_model(), np.random.default_rng(0)
    before, loads = bits(model), 0
    for _ in range(count):
        name = random.choice(["detail", "style", "third"])
        path, weight = two[int(random.integers(2))], float(random.normal())
        if name not in model.adapters:
            model.load_adapter(path, weight, name=name)
            loads += 1
        elif random.random() < 0.7:
            model.set_adapters({name: weight})
        else:
            model.remove_adapter(name)
    assert loads > count / 10
    model.remove_adapter()
    assert bits(model) == before


def test_weights_by_block(two):
    model = tiny_model()
    model.load_adapter(two[0], 0.0, weights={"up_blocks.0": 1.0})
    changed = {
        canonical_name(variable.path, "diffusion_model")
        for variable, kernel in zip(
            model.diffusion_model.weights, tiny_model().diffusion_model.weights,
            strict=True,
        )
        if (ops.convert_to_numpy(variable) != ops.convert_to_numpy(kernel)).any()
    }  # fmt: skip
    assert changed and all(name.startswith("up_blocks.0.") for name in changed)
    with pytest.raises(ValueError, match="did you mean up_blocks.1|Did you mean"):
        model.load_adapter(two[1], weights={"up_block.1": 1.0})
    assert list(model.adapters) == ["detail"]


@pytest.mark.parametrize("format", quick(["kohya", "diffusers", "peft"], "kohya"))
def test_what_is_used_is_written_as_one_file(format, two, tmp_path):
    model, again = tiny_model(), tiny_model()
    model.load_adapter(two[0], 0.7, text_encoder_weight=0.2)
    model.load_adapter(two[1], -0.3, weights={"mid_block": 0.5})
    path = tmp_path / ("both" if format == "peft" else "both.safetensors")
    written = model.save_adapter(path, format)
    if format == "peft":  # one folder for each network
        again.load_adapter(path / "unet", name="unet")
        again.load_adapter(path / "text_encoder", name="text")
    else:
        assert written == path and "rank 8" in str(again.load_adapter(path))
    for part in ("diffusion_model", "text_encoder"):
        networks = getattr(model, part), getattr(again, part)
        for one, other in zip(*(each.weights for each in networks), strict=True):
            values = ops.convert_to_numpy(one), ops.convert_to_numpy(other)
            np.testing.assert_allclose(*values, atol=1e-5)
    with pytest.raises(FileExistsError):
        model.save_adapter(path, format)
    with pytest.raises(ValueError, match="`format` must be one of kohya"):
        model.save_adapter(tmp_path / "x.safetensors", "lycoris")
    one = model.save_adapter(
        tmp_path / "one.safetensors", name="style", dtype="float16"
    )
    assert read_adapter(one, TINY).ranks == (4,)


def test_wrong_weights_and_names_change_nothing(two):
    model = tiny_model()
    model.load_adapter(two[0])
    before = bits(model)
    for error, match, call in (
        (ValueError, "once under a name", lambda: model.load_adapter(two[0])),
        (ValueError, "Did you mean detail", lambda: model.remove_adapter("detial")),
        (ValueError, "must be from", lambda: model.set_adapters({"detail": np.inf})),
        (TypeError, "must be a number", lambda: model.set_adapters({"detail": "1"})),
        (ValueError, "a weight for each", lambda: model.set_adapters(["detail"], [])),
        (ValueError, "no such adapter", lambda: model.load_adapter("nothing")),
    ):
        with pytest.raises(error, match=match):
            call()
    assert bits(model) == before


@pytest.mark.every_backend_at_length
def test_half_precision_is_rounded_once(two):
    model = tiny_model(precision="bfloat16")
    before = bits(model)
    model.load_adapter(two[0], 0.5)
    model.load_adapter(two[1], -0.5)
    half = bits(model)
    model.remove_adapter("style")
    model.load_adapter(two[1], -0.5)
    assert bits(model) == half != before
    model.remove_adapter()
    assert bits(model) == before


def test_broken_files_are_one_error_and_leave_the_model_as_it_was(two, tmp_path):
    model = tiny_model()
    model.load_adapter(two[0], 0.5)
    before = bits(model)
    stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    up, down = files.lora(np.random.default_rng(0), (32, 32))
    good = {f"{stem}.lora_up.weight": up, f"{stem}.lora_down.weight": down}
    alpha = {f"{stem}.alpha": np.array(1e30, "float32")}
    deep = {"lora_adapter_metadata": "[" * 10**5}
    for i, (tensors, metadata, match) in enumerate((
        ({k: v[:, :0] if "up" in k else v[:0] for k, v in good.items()}, None, "rank"),
        ({k: v * np.float32(np.nan) for k, v in good.items()}, None, "must be finite"),
        ({k: v[:5] for k, v in good.items()}, None, "rank|does not fit"),
        (dict(list(good.items())[:1]), None, "has up without down"),
        (good | alpha, None, "alpha over rank"),
        (good, deep, "JSON text"),
    )):  # fmt: skip
        path = files.save(tmp_path, f"broken {i}", tensors, metadata)
        with pytest.raises(ValueError, match=match):
            model.load_adapter(path)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match="truncated"):
        model.load_adapter(path)
    assert list(model.adapters) == ["detail"] and bits(model) == before


def test_what_overflows_is_refused_and_nothing_is_changed(two):
    model = tiny_model(precision="float16")
    before = bits(model)
    tensors = files.kohya(alpha=4e5)
    path = files.save(two[0].parent, "loud", tensors)
    with pytest.raises(ValueError, match="must fit float16"):
        model.load_adapter(path, 1000.0)
    assert bits(model) == before and not model.adapters


def test_beside_weights_of_8_bits(two):
    model, whole = tiny_model(), tiny_model()
    whole.load_adapter(two[0], 0.5)
    model.load_adapter(two[0], 0.5)
    model.quantize("int8")
    early = bits(model)
    model.remove_adapter()
    plain = bits(model)
    model.load_adapter(two[0], 0.5)
    assert bits(model) == early != plain
    wanted = {
        canonical_name(each.path, "diffusion_model"): to_stored(each)
        for each in stored_variables(whole.diffusion_model)
    }
    for each in stored_variables(model.diffusion_model):
        name, found = canonical_name(each.path, "diffusion_model"), to_stored(each)
        most = np.abs(wanted[name]).max()  # rounded twice to steps of 127
        np.testing.assert_allclose(found, wanted[name], atol=0.012 * most)
    model.remove_adapter()
    assert bits(model) == plain


def test_networks_with_adapters_are_not_trained(two):
    model = tiny_model()
    model.load_adapter(two[0])
    with pytest.raises(ValueError, match="without adapters"):
        check_learns(model.diffusion_model)
    model.remove_adapter()
    check_learns(model.diffusion_model)


def test_words_of_a_bundle_come_and_go(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    words = {
        "bundle_emb.zzz.clip_l": random.normal(size=(2, 32)).astype("float32"),
        "bundle_emb.zzz.clip_g": random.normal(size=(2, 40)).astype("float32"),
    }
    path = files.save(tmp_path, "bundle", files.kohya(TINY_SDXL) | words)
    model = tiny_model(config=TINY_SDXL)
    plain = model.encode_text("zzz")
    loaded = model.load_adapter(path, 0.0)
    assert "words: zzz" in str(loaded) and not loaded.adapter.unused
    assert np.abs(model.encode_text("zzz") - plain).max() > 0.1
    learned = model.encode_text("zzz")
    model.remove_adapter()
    np.testing.assert_array_equal(model.encode_text("zzz"), plain)

    # A call's own are its own, by a tag too; another call is not taught them.
    with ThreadPoolExecutor(1) as pool, model._asking([(path, 0.0)]):
        np.testing.assert_array_equal(model.encode_text("zzz"), learned)
        other = pool.submit(model.encode_text, "zzz").result()
        np.testing.assert_array_equal(other, plain)
    monkeypatch.setenv("KERASDIFFUSION_ADAPTERS", str(tmp_path))
    tagged = model.encode_text("zzz<lora:bundle:0>")
    np.testing.assert_array_equal(tagged, learned)
    np.testing.assert_array_equal(model.encode_text("zzz"), plain)


def test_the_line_that_tells_it_and_what_was_not_used(tmp_path):
    tensors = files.kohya(alpha=2.0)
    tensors["lora_unet_down_blocks_0_attentions_0_proj_inn.alpha"] = np.zeros(())
    path = files.save(tmp_path, "detail", tensors)
    model = tiny_model()
    with pytest.warns(UserWarning, match="nearest: .*down_blocks.0.attentions.0.proj"):
        loaded = model.load_adapter(path, 0.5)
    assert "rank 4, alpha 2" in str(loaded)
    count = len(tensors)
    assert f"applied {count - 1} of {count} tensors" in str(loaded)


def test_adapters_of_one_call_and_tags_in_prompts(two, monkeypatch):
    """They count in that call alone, and are what `load_adapter` does."""
    model = tiny_model()
    plain, before, traces = model.text_to_image(**CAT), bits(model), model.traces
    asked = model.text_to_image(**CAT, adapters=[(two[0], 0.8), (two[1], -0.3, 0.4)])
    assert (model.text_to_image(**CAT) == plain).all()
    assert bits(model) == before and model.adapters == {}
    model.load_adapter(two[0], 0.8)
    model.load_adapter(two[1], -0.3, 0.4)
    assert (model.text_to_image(**CAT) == asked).all() and (asked != plain).any()
    model.remove_adapter()

    monkeypatch.setenv("KERASDIFFUSION_ADAPTERS", str(two[0].parent))
    tagged = "two cats<lora:detail:0.8><lyco:style:te=0.4:unet=-0.3>"
    found = model.text_to_image(**{**CAT, "prompt": tagged})
    assert (found == asked).all()
    assert bits(model) == before and model.traces == traces
    with pytest.raises(ValueError, match="Did you mean detail"):
        model.text_to_image(**{**CAT, "prompt": "two cats<lora:detial:1>"})
    with pytest.raises(ValueError, match="the same adapters"):
        model.text_to_image(**{**CAT, "prompt": [tagged, "two cats"]})
    with pytest.raises(ValueError, match="no such adapter"):
        model.text_to_image(**{**CAT, "prompt": "two cats<lora:../detail:1>"})


def test_two_threads_get_the_pictures_that_one_would(two):
    model = tiny_model()
    asked = [None, (two[0], 0.8), (two[1], 0.8)]
    alone = [model.text_to_image(**CAT, adapters=each) for each in asked]
    with ThreadPoolExecutor(3) as pool:
        together = pool.map(
            lambda each: model.text_to_image(**CAT, adapters=each), asked
        )
        for one, other in zip(alone, together, strict=True):
            assert (one == other).all()
