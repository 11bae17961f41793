"""What is taught, what stays as it was, and what comes of it in pictures and files."""

import functools
import json
import math
import types

import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion import StableDiffusion
from kerasdiffusion.adapters.namespaces import UNET
from kerasdiffusion.training.finetuning.finetuner import Finetuner
from kerasdiffusion.training.finetuning.learned import LoHa, LoKr, LoRA
from kerasdiffusion.training.finetuning.words import NewWords
from kerasdiffusion.training.objective import Objective
from kerasdiffusion.weights.base import WeightsError
from kerasdiffusion.weights.files import open_tensors
from tests.tiny import (
    ONE_LEVEL,
    TINY,
    TINY_DEPTH,
    TINY_REFINER,
    TINY_SDXL,
    TINY_UPSCALER,
    tiny_model,
)

CAT = {"prompt": "two cats", "num_steps": 1, "seed": 3, "progress_bar": False}


def data_for(trainer, count=2):
    shape = (count, *trainer.base.model.latent_shape)
    latents = np.random.default_rng(0).normal(size=shape).astype("float32")
    return {"latents": latents, **trainer.tokenize(["two cats"] * count)}


def bits(network):
    return [ops.convert_to_numpy(each).tobytes() for each in network.weights]


@pytest.mark.every_backend_at_length
def test_a_lora_is_taught_painted_with_and_saved(tmp_path):
    model = tiny_model(config=ONE_LEVEL)
    trainer = Finetuner(model, LoRA(rank=4))
    plain, before = model.text_to_image(**CAT), bits(model.diffusion_model)
    trainer.compile(keras.optimizers.AdamW(1e-2), run_eagerly=True)
    data = data_for(trainer)
    first = trainer.evaluate(data, verbose=0)
    assert trainer.evaluate(data, verbose=0) == first
    trainer.fit(data, verbose=0)
    assert trainer.evaluate(data, verbose=0) != first
    painted = trainer.model.text_to_image(**CAT)
    assert (painted != plain).any()
    assert bits(trainer.base.networks[UNET]) == before
    path = trainer.save(tmp_path / "cat.safetensors")
    model.remove_adapter("taught")
    assert (model.text_to_image(**CAT) == plain).all()
    model.load_adapter(path)
    assert (model.text_to_image(**CAT) == painted).all()


@functools.lru_cache
def shared(config):
    """A model that all adapters and words are taught beside: it stays as it is."""
    return tiny_model(config=config)


def small(adapter=None, words=None, config=ONE_LEVEL, **options):
    """A trainer beside the shared model."""
    return Finetuner(shared(config), adapter, words, **options)


def given(trainer, count=2, context=False, seed=0):
    """A batch with its noise and timesteps."""
    random, model = np.random.default_rng(seed), trainer.base.model
    batch = data_for(trainer, count)
    batch["noise"] = random.normal(size=batch["latents"].shape).astype("float32")
    batch["timestep"] = random.integers(0, 1000, count).astype("int32")
    if context:
        batch["context"] = np.repeat(model.encode_text("two cats"), count, 0)
        del batch["tokens"]
    return batch


def loss_of(trainer, batch, **options):
    return ops.convert_to_numpy(trainer(batch, **options))


def live(trainer, seed=5, size=0.1):
    """Random numbers in all that is taught."""
    random = np.random.default_rng(seed)
    for variable in trainer.trainable_variables:
        values = ops.convert_to_numpy(variable)
        variable.assign(values + size * random.normal(size=values.shape))
    return trainer


def test_a_batch_may_bring_its_context(tmp_path):
    trainer = small(LoRA(4))
    by_tokens = loss_of(trainer, given(trainer))
    by_context = loss_of(trainer, given(trainer, context=True))
    np.testing.assert_allclose(by_context, by_tokens, rtol=1e-4)
    taught = small(LoRA(4, text_encoders=True))
    with pytest.raises(ValueError, match='`fit\\(\\)` takes "tokens" then'):
        taught(given(taught, context=True))


def test_captions_that_are_dropped_are_the_empty_one():
    trainer = small(LoRA(4), objective=Objective(caption_dropout=1.0))
    batch = given(trainer)
    empty = {**batch, **trainer.tokenize(["", ""])}
    plain = loss_of(trainer, batch, training=False)
    without = loss_of(trainer, empty, training=False)
    assert np.abs(plain - without).max() > 1e-4
    for each in (batch, given(trainer, context=True)):
        np.testing.assert_allclose(loss_of(trainer, each), without, rtol=1e-4)


@pytest.mark.parametrize(
    "config",
    # `test_sizes_of_sdxl` has the two by default, of one chunk.
    [ONE_LEVEL, pytest.param(TINY_SDXL, marks=pytest.mark.heavy)],
    ids=["one encoder", "two"],
)
def test_long_captions_are_read_chunk_by_chunk(config):
    trainer, text = small(LoRA(4), config=config), "two cats, " * 5
    model, count = trainer.base.model, trainer.chunks_of(["a", text])
    batch = given(trainer)
    del batch["tokens"]
    tokens = trainer.tokenize([text, "two cats"], chunks=count)
    context = model.encode_text([text, "two cats"], prompt_weighting="none")
    assert tokens["tokens"].shape == context.shape[:2] == (2, count * 12)
    more = {"context": context}
    if config is TINY_SDXL:
        del batch["tokens_2"]
        more["pooled"] = model.encode_pooled([text, "two cats"])
    by_context = loss_of(trainer, {**batch, **more})
    np.testing.assert_allclose(loss_of(trainer, {**batch, **tokens}), by_context, 1e-4)
    with pytest.warns(UserWarning, match="longer than is read.*its end is cut"):
        trainer.tokenize([text])
    with pytest.raises(ValueError, match="or a multiple. Received: 13"):
        trainer({**batch, "tokens": np.zeros((2, 13), "int32")})


def test_another_layer_of_the_text_encoder_is_read():
    trainer, plain = small(LoRA(4), clip_skip=2), small(LoRA(4))
    batch, model = given(trainer), trainer.base.model
    context = np.repeat(model.encode_text("two cats", clip_skip=2), 2, 0)
    expected = loss_of(plain, {**batch, "context": context})
    np.testing.assert_allclose(loss_of(trainer, batch), expected, rtol=1e-4)
    assert np.abs(loss_of(plain, batch) - expected).max() > 1e-4
    with pytest.raises(ValueError, match="clip_skip"):
        small(LoRA(4), clip_skip=9)


def test_sizes_of_sdxl_are_those_of_the_latents_by_default():
    trainer = small(LoRA(4), config=TINY_SDXL)
    batch = given(trainer)
    height, width = (2 * side for side in batch["latents"].shape[1:3])
    sizes = np.array([[height, width, 0, 0, height, width]] * 2, "float32")
    plain = loss_of(trainer, batch)
    assert (loss_of(trainer, {**batch, "sizes": sizes}) == plain).all()
    assert (loss_of(trainer, {**batch, "sizes": 9 * sizes}) != plain).any()


@pytest.mark.parametrize(
    "adapter",
    [
        LoHa(2, modules="all"),
        pytest.param(LoKr(2, decompose_both=True), marks=pytest.mark.heavy),
        pytest.param(LoRA(4, dora=True), marks=pytest.mark.heavy),
    ],
    ids=["LoHa", "LoKr", "DoRA"],
)
def test_adapters_begin_as_nothing_and_are_read_as_they_were_taught(adapter, tmp_path):
    # Of two levels: there is a layer of every kind.
    trainer, plain = small(adapter, config=TINY), small(LoRA(1), config=TINY)
    model = shared(TINY)
    batch = given(trainer)
    begun = loss_of(trainer, batch)
    np.testing.assert_allclose(begun, loss_of(plain, batch), rtol=1e-5)
    taught = loss_of(live(trainer), batch)
    assert np.abs(taught - begun).max() > 1e-3
    path = trainer.save(tmp_path / "x.safetensors", {"ss_output_name": "x"})
    loaded = model.load_adapter(path)
    assert not loaded.adapter.unused
    assert loaded.adapter.metadata["ss_output_name"] == "x"
    # The trainer of nothing computes with the weights that the file is merged into.
    merged = loss_of(plain, batch)
    model.remove_adapter()
    np.testing.assert_allclose(merged, taught, rtol=1e-3)
    with pytest.raises(FileExistsError):
        trainer.save(path)


@pytest.mark.heavy
def test_dropout_leaves_out_modules_and_ranks_of_a_step_alone():
    whole = live(small(LoRA(4)))
    batch = given(whole)
    for options in ({"module_dropout": 0.5}, {"rank_dropout": 0.5}):
        trainer = live(small(LoRA(4, **options)))
        full = loss_of(whole, batch)
        np.testing.assert_allclose(loss_of(trainer, batch, training=False), full)
        one, two = loss_of(trainer, batch), loss_of(trainer, batch)
        assert (one != full).any() and (one != two).any()


def test_modules_are_chosen_by_name():
    chosen = set(
        small(LoRA(4, modules=["attn2.to_k", "mid_block.*"])).taught[UNET]._table
    )
    assert any(name.endswith("attn2.to_k") for name in chosen)
    assert all("attn2.to_k" in n or n.startswith("mid_block.") for n in chosen)
    everything = set(small(LoRA(4, modules="all")).taught[UNET]._table)
    assert {"conv_in", "time_embedding.linear_1"} | chosen < everything
    with pytest.raises(ValueError, match="Did you mean.*Received: 'attn3.to_k'"):
        small(LoRA(4, modules=["attn3.to_k"]))
    with pytest.raises(ValueError, match="one of attention, all, or a list"):
        LoRA(4, modules="everything")


@pytest.mark.parametrize(
    "config",
    # `test_a_word_and_a_lora_are_one_bundle` has two by default.
    [ONE_LEVEL, pytest.param(TINY_SDXL, marks=pytest.mark.heavy)],
    ids=["one encoder", "two"],
)
def test_new_words_are_taught_alone_and_painted(config, tmp_path):
    words = NewWords("<toy>", 2, begin="cats"), NewWords("<odd>")
    trainer = small(words=words, config=config)
    model, tokens = trainer.base.model, trainer.tokenize(["two <toy>", "a red <odd>"])
    size = model.config.text_encoder.vocabulary_size
    assert sorted(tokens["tokens"][tokens["tokens"] >= size]) == [
        size,
        size + 1,
        size + 2,
    ]
    assert {v.shape for v in trainer.trainable_variables[:2]} == {(2, 32), (1, 32)}
    before = bits(model.text_encoder)
    trainer.compile(keras.optimizers.SGD(100.0), run_eagerly=True)
    begun = [ops.convert_to_numpy(each) for each in trainer.trainable_variables]
    trainer.train_on_batch({**given(trainer), **tokens})
    assert bits(model.text_encoder) == before
    for old, new in zip(begun, trainer.trainable_variables, strict=True):
        assert (old != ops.convert_to_numpy(new)).any(axis=-1).all()

    cat = {**CAT, "prompt": "two <toy>"}
    painted = trainer.model.text_to_image(**cat)
    assert not model._learned
    path = trainer.save(tmp_path / "words.safetensors")
    model.remove_adapter()
    assert (model.text_to_image(**cat) != painted).any()
    if config is ONE_LEVEL:
        assert model.load_embedding(path) == ["<odd>", "<toy>"]
    else:
        model.load_adapter(path)
    assert (model.text_to_image(**cat) == painted).all()
    model.remove_adapter()
    model._learned.clear()


def test_a_word_and_a_lora_are_one_bundle(tmp_path):
    trainer = live(small(LoRA(4), NewWords("<toy>", begin="cats"), config=TINY_SDXL))
    cat = {**CAT, "prompt": "two <toy>"}
    painted = trainer.model.text_to_image(**cat)
    path = trainer.save(tmp_path / "both.safetensors")
    with open_tensors(path) as file:
        words = [key for key in file.keys() if key.startswith("bundle_emb.")]
    assert sorted(words) == ["bundle_emb.<toy>.clip_g", "bundle_emb.<toy>.clip_l"]
    model = trainer.base.model
    model.remove_adapter()
    assert not model.load_adapter(path).adapter.unused
    assert (model.text_to_image(**cat) == painted).all()
    model.remove_adapter()
    with pytest.raises(WeightsError, match='format="kohya" alone'):
        trainer.save(tmp_path / "z.safetensors", format="diffusers")


@pytest.mark.parametrize(
    "word, rule",
    [
        (NewWords("cats"), "none that the model knows.*such as <cats-1>"),
        ("<toy>", "must be NewWords"),
        ([NewWords("<a>"), NewWords("<a>")], "learned once"),
        (NewWords("<toy>", begin=" "), "must be a text that has tokens"),
    ],
)
def test_words_that_cannot_be_new_are_refused(word, rule):
    with pytest.raises((ValueError, TypeError), match=rule):
        small(words=word)


def test_a_model_is_taught_as_a_whole(tmp_path):
    model = tiny_model(config=ONE_LEVEL)
    trainer = Finetuner(model)
    text, unet = bits(model.text_encoder), bits(model.diffusion_model)
    trainer.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    trainer.train_on_batch(given(trainer))
    assert bits(model.text_encoder) == text
    assert all(a != b for a, b in zip(bits(model.diffusion_model), unet, strict=True))
    assert trainer.model is model
    trainer.save(tmp_path / "model", {"ss_steps": "1"})
    again = StableDiffusion.from_preset(str(tmp_path / "model"), precision="float32")
    assert bits(again.diffusion_model) == bits(model.diffusion_model)
    assert json.loads((tmp_path / "model/training.json").read_text()) == {
        "ss_steps": "1"
    }


@pytest.mark.heavy
def test_text_encoders_learn_at_their_own_rate():
    moved = {}
    for rate in (1.0, 0.25):
        trainer = live(small(LoRA(2, text_encoders=rate)))
        before = [ops.convert_to_numpy(v) for v in trainer.trainable_variables]
        trainer.compile(
            keras.optimizers.AdamW(1e-3, weight_decay=0.0), run_eagerly=True
        )
        trainer.train_on_batch(given(trainer))
        after = [ops.convert_to_numpy(v) for v in trainer.trainable_variables]
        moved[rate] = [b - a for a, b in zip(before, after, strict=True)]
    count = len(trainer.taught[UNET].trainable_variables)
    for i, (whole, slow) in enumerate(zip(moved[1.0], moved[0.25], strict=True)):
        share = 1.0 if i < count else 0.25
        np.testing.assert_allclose(slow, share * whole, rtol=1e-3, atol=1e-7)


@pytest.mark.heavy
def test_checkpoints_hold_what_is_taught_and_a_run_goes_on_from_them(tmp_path):
    def run(trainer, *seeds):
        return [trainer.train_on_batch(given(trainer, seed=s)) for s in seeds]

    def make():
        trainer = small(LoRA(2))
        trainer.compile(keras.optimizers.AdamW(1e-2), run_eagerly=True)
        trainer.optimizer.build(trainer.trainable_variables)
        return trainer

    whole, broken, again = make(), make(), make()
    run(whole, 1, 2, 3)
    run(broken, 1, 2)
    path = tmp_path / "x.weights.h5"
    broken.save_weights(path)
    with open_tensors(path) as file:
        numbers = sum(math.prod(file.shape(key)) for key in file.keys())
    assert numbers < 4 * sum(math.prod(v.shape) for v in broken.trainable_variables)
    again.load_weights(path)
    run(again, 3)
    for a, b in zip(whole.trainable_variables, again.trainable_variables, strict=True):
        np.testing.assert_array_equal(*(ops.convert_to_numpy(v) for v in (a, b)))


def test_eight_bits_and_worn_adapters_are_refused_in_words(tmp_path):
    model = tiny_model(config=ONE_LEVEL)
    path = small(LoRA(2)).save(tmp_path / "x.safetensors")
    model.load_adapter(path)
    with pytest.raises(ValueError, match="without adapters in their weights"):
        Finetuner(model, LoRA(2))
    model.remove_adapter()
    model.quantize("int8", ["diffusion_model"])
    with pytest.raises(ValueError, match="trained before they are quantized"):
        Finetuner(model, LoRA(2))


def test_networks_that_see_more_and_coarse_weights_are_refused():
    for config in (TINY_DEPTH, TINY_REFINER, TINY_UPSCALER):
        with pytest.raises(ValueError, match="see latents, a timestep and text"):
            Finetuner(types.SimpleNamespace(config=config), LoRA(2))
    with pytest.raises(ValueError, match="16 bits are too coarse"):
        Finetuner(tiny_model(precision="bfloat16"))
    with pytest.raises(ValueError, match=r"LoRA\(text_encoders=...\) says it"):
        small(LoRA(2), text_encoders=True)
