"""Fine-tuning against diffusers' networks, PEFT's layers and PyTorch's optimizers.

Loops as diffusers' training scripts have them: `teaching.py`.
"""

from dataclasses import replace

import keras
import numpy as np
import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")
pytest.importorskip("peft")

import diffusers  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from kerasdiffusion.compute.backend import to_numpy  # noqa: E402
from kerasdiffusion.sampling.noise import initial_noise  # noqa: E402
from kerasdiffusion.training.finetuning.finetuner import Finetuner  # noqa: E402
from kerasdiffusion.training.finetuning.learned import LoHa, LoKr, LoRA  # noqa: E402
from kerasdiffusion.training.finetuning.words import NewWords  # noqa: E402
from kerasdiffusion.training.objective import Objective  # noqa: E402
from tests.peers.networks import channels_first, channels_last  # noqa: E402
from tests.peers.teaching import (  # noqa: E402
    RATE,
    SCHEDULE,
    STEPS,
    adamw,
    add_lora,
    batches,
    enliven,
    factors_of,
    losses_of,
    networks,
    our_step,
    ours_adamw,
)
from tests.tiny import ONE_LEVEL, TINY, TINY_SDXL, tiny_model  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")
V = "v_prediction"
AT_LENGTH = [pytest.mark.heavy, pytest.mark.every_backend_at_length]
SOME = ["attn1.to_q", "conv1", "ff.net.0.proj"]


def assert_near(ours, theirs, tolerance, floor=0.0):
    for key, value in theirs.items():
        wanted = value.detach().numpy().reshape(ours[key].shape)
        error = np.abs(ours[key] - wanted).max()
        assert error <= tolerance * max(np.abs(wanted).max(), floor), (key, error)


CASES = {
    "sd1": (TINY, LoRA(4), {}),
    "one level": (ONE_LEVEL, LoRA(4), {}),
    "sd1 with its text encoder": (TINY, LoRA(4, text_encoders=True), {}),
    "sdxl": (TINY_SDXL, LoRA(4), {}),
    "dora": (TINY, LoRA(4, dora=True), {}),
}


def make(case, folder, live=False):
    config, adapter, _ = CASES[case]
    model = tiny_model(config=config)
    theirs = networks(folder / "model", model)
    trainer = Finetuner(model, adapter)
    if live:
        enliven(trainer)
    parameters = {
        (module, slot): each
        for module, slot, each in add_lora(theirs, trainer, dora=adapter.dora)
    }
    tokens = None
    if adapter.text_encoders:
        tokens = model.tokenizer(["two cats", "a red apple on a blue background"])
    return config, trainer, theirs, parameters, tokens


@pytest.mark.every_backend_at_length
@pytest.mark.parametrize(
    "case",
    ["sd1", *(pytest.param(case, marks=pytest.mark.heavy) for case in list(CASES)[1:])],
)
def test_losses_and_factors_of_twenty_steps(case, tmp_path):
    config, trainer, theirs, parameters, tokens = make(case, tmp_path)
    trainer.compile(ours_adamw())
    optimizer, begin = adamw(parameters.values()), factors_of(trainer)
    for batch in batches(config, tokens=tokens):
        loss = losses_of(theirs, batch).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert our_step(trainer, batch) == pytest.approx(loss.item(), abs=1e-4)
    ours = factors_of(trainer)
    assert ours.keys() == parameters.keys()
    moved = {key: np.abs(ours[key] - begin[key]).max() for key in ours}
    assert min(moved.values()) > 0.2 * STEPS * RATE
    for key, value in parameters.items():
        wanted = value.detach().numpy().reshape(ours[key].shape)
        np.testing.assert_allclose(ours[key], wanted, atol=1e-3)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param("one level", marks=pytest.mark.every_backend),
        # By default `test_losses_and_factors_of_twenty_steps` follows its gradients.
        pytest.param("sd1", marks=AT_LENGTH),
        pytest.param("sdxl", marks=AT_LENGTH),
    ],
)
def test_gradients(case, tmp_path):
    """A step of plain descent at rate 1 shows them."""
    config, trainer, theirs, parameters, tokens = make(case, tmp_path, live=True)
    # Op by op is quicker than a program, but where each op is one too.
    eagerly = keras.backend.backend() != "jax"
    trainer.compile(keras.optimizers.SGD(1.0), run_eagerly=eagerly)
    (batch,) = batches(config, 1, tokens)
    losses_of(theirs, batch).mean().backward()
    begin = factors_of(trainer)
    our_step(trainer, batch)
    ours = {key: begin[key] - each for key, each in factors_of(trainer).items()}
    gradients = {key: each.grad for key, each in parameters.items()}
    most = max(float(each.abs().max()) for each in gradients.values())
    assert most > 1e-3
    assert_near(ours, gradients, 1e-3, floor=1e-2 * most)


@pytest.mark.every_backend_at_length
@pytest.mark.parametrize("steps", [1, pytest.param(2, marks=pytest.mark.heavy)])
def test_prior_preservation_of_the_whole_network(steps, tmp_path):
    """Their loss is the mean of the new pictures' and a share of the old ones'.

    Ours is the mean over all of them, each at its weight.
    """
    model = tiny_model()
    theirs, share = networks(tmp_path / "model", model), 0.5
    theirs["unet"].requires_grad_(True)
    trainer = Finetuner(model)
    trainer.compile(ours_adamw(), run_eagerly=True)
    optimizer = adamw(theirs["unet"].parameters())
    for batch in batches(TINY, steps):
        new, old = losses_of(theirs, batch)
        loss = new.mean() + share * old.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        batch["weight"] = np.array([2.0, 2.0 * share], "float32")
        assert our_step(trainer, batch) == pytest.approx(loss.item(), abs=1e-4)
    ours = to_numpy(model.diffusion_model.conv_in.kernel)
    wanted = theirs["unet"].conv_in.weight.detach().numpy().transpose(2, 3, 1, 0)
    np.testing.assert_allclose(ours, wanted, atol=1e-3)


@pytest.mark.heavy
@pytest.mark.every_backend_at_length
def test_textual_inversion(tmp_path):
    """Their table of tokens has two rows more; all others are put back each step."""
    model = tiny_model()
    theirs = networks(tmp_path / "model", model)
    word = NewWords("<thing>", vectors=2, begin="cats")
    trainer = Finetuner(model, words=word)
    tokens = trainer.tokenize(["a red <thing> on", "two <thing>"])["tokens"]
    size = model.config.text_encoder.vocabulary_size
    assert (tokens >= size).sum() == 4

    theirs["text_encoder"].resize_token_embeddings(size + 2)
    table = theirs["text_encoder"].get_input_embeddings().weight
    (cats,) = model.tokenizer.tokens("cats")
    with torch.no_grad():
        table[size:] = table[cats]
    table.requires_grad_(True)
    before = table.detach().clone()
    rate = 0.1 * RATE
    trainer.compile(ours_adamw(rate))
    optimizer = adamw([table], rate)
    for batch in batches(TINY, tokens=tokens):
        loss = losses_of(theirs, batch).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            table[:size] = before[:size]
        assert our_step(trainer, batch) == pytest.approx(loss.item(), abs=1e-4)
    ours = to_numpy(trainer.trainable_variables[0])
    wanted = table.detach().numpy()[size:]
    assert np.abs(wanted - before.numpy()[size:]).max() > 0.5 * STEPS * rate
    np.testing.assert_allclose(ours, wanted, atol=1e-3)


def test_losses_of_v_and_of_min_snr(tmp_path):
    """diffusers' weights of v-prediction divide by the ratio and one more."""
    config = TINY.replace(schedule=replace(TINY.schedule, prediction_type=V))
    model = tiny_model(config=config)
    theirs = networks(tmp_path / "model", model)
    trainer = Finetuner(model, LoRA(4), objective=Objective(snr_gamma=5.0))
    (batch,) = batches(TINY, 1)
    scheduler = diffusers.DDPMScheduler(**SCHEDULE, prediction_type=V)
    timestep = torch.from_numpy(batch["timestep"]).long()
    snr = diffusers.training_utils.compute_snr(scheduler, timestep)
    weight = torch.clamp(snr, max=5.0) / (snr + 1)
    loss = (weight * losses_of(theirs, batch, V).mean(dim=(1, 2, 3))).mean()
    found = to_numpy(trainer(batch)).mean()
    assert found == pytest.approx(loss.item(), rel=1e-4)


def latents_of(pipeline, noise):
    """Four steps of DDIM of diffusers' pipeline."""
    pipeline.scheduler = diffusers.DDIMScheduler(
        **SCHEDULE, set_alpha_to_one=False, steps_offset=1, clip_sample=False
    )
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        "two cats",
        negative_prompt="blurry, dark",
        height=32,
        width=32,
        num_inference_steps=4,
        guidance_scale=5.0,
        latents=channels_first(noise),
        output_type="latent",
    ).images
    return channels_last(images)


@pytest.mark.parametrize(
    "adapter",
    [
        LoRA(4, text_encoders=True),
        pytest.param(LoRA(4, modules="all"), marks=pytest.mark.heavy),
        pytest.param(LoHa(2, modules=SOME), marks=pytest.mark.heavy),
        pytest.param(LoKr(2, modules=SOME, factor=4), marks=pytest.mark.heavy),
    ],
    ids=["LoRA", "LoCon", "LoHa", "LoKr"],
)
def test_files_give_the_pictures_that_we_give(adapter, tmp_path):
    """LoRA in diffusers; LoHa and LoKr by LyCORIS' own modules in its pipeline."""
    model = tiny_model()
    model.save_preset(tmp_path / "model")
    trainer = Finetuner(model, adapter)
    enliven(trainer)
    path = trainer.save(tmp_path / "taught.safetensors")
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "model")
    noise = initial_noise([3], model.latent_shape)
    plain = latents_of(pipeline, noise)
    if isinstance(adapter, LoRA):
        pipeline.load_lora_weights(path)
    else:
        apply_lycoris(pipeline.unet, path)
    expected, seen = latents_of(pipeline, noise), []
    trainer.model.text_to_image(
        "two cats",
        "blurry, dark",
        num_steps=4,
        unconditional_guidance_scale=5.0,
        sampler="ddim",
        seed=3,
        callback=lambda step: seen.append(np.asarray(step.latents)),
        progress_bar=False,
    )
    size = np.abs(expected).max()
    assert np.abs(plain - expected).max() > 0.02 * size
    assert np.abs(seen[-1] - expected).max() <= 1e-3 * size


def apply_lycoris(unet, path):
    """Its modules in place of the network's, by its own prefix: see the reader's test.

    Its kohya reader (4.1.3) makes layers of a U-Net twice.
    """
    lycoris = pytest.importorskip("lycoris")
    tensors = {
        key.replace("lora_unet_", "lycoris_"): each
        for key, each in load_file(path).items()
    }
    network, _ = lycoris.create_lycoris_from_weights(
        1.0, None, unet, weights_sd=tensors
    )
    network.apply_to()
