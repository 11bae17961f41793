"""The fronts of `kerasdiffusion.keras_cv` beside keras-cv 0.9.0 itself."""

import gzip
from importlib import resources

import numpy as np
import pytest
from keras import ops

from kerasdiffusion.keras_cv.models import stable_diffusion as ours
from kerasdiffusion.presets.config import TokenizerConfig
from kerasdiffusion.prompts.tokenizer import Tokenizer

pytest.importorskip("keras_cv")

from keras_cv.src.models import stable_diffusion as theirs  # noqa: E402
from keras_cv.src.models.stable_diffusion import constants  # noqa: E402
from keras_cv.src.models.stable_diffusion.stable_diffusion import (  # noqa: E402
    StableDiffusionBase,
)

from tests.peers import small_keras_cv as small  # noqa: E402

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.mark.parametrize("arguments", [{}, SD, {**SD, "train_timesteps": 50}])
def test_noise_is_theirs(arguments):
    found, expected = (
        ours.NoiseScheduler(**arguments),
        theirs.NoiseScheduler(**arguments),
    )
    random = np.random.default_rng(0)
    clean, noise = random.normal(size=(2, 4, 8, 8, 4)).astype("float32")
    steps = np.array([0, 1, 20, 49])
    for name in ("betas", "alphas", "alphas_cumprod"):
        mine, other = (np.asarray(getattr(each, name)) for each in (found, expected))
        np.testing.assert_allclose(mine, other, rtol=2e-4, atol=1e-6)
    args = ops.convert_to_tensor(clean), ops.convert_to_tensor(noise), steps
    np.testing.assert_allclose(
        found.add_noise(*args), expected.add_noise(*args), atol=1e-5
    )


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("predict_epsilon", [True, False])
def test_steps_are_theirs_with_the_same_noise(variance, predict_epsilon):
    """With `clip_sample`, their default, theirs fails on Keras 3: it calls
    `ops.clip_by_value`, which there is not."""
    how = {**SD, "variance_type": variance, "clip_sample": False}
    found, expected = ours.NoiseScheduler(**how), theirs.NoiseScheduler(**how)
    random = np.random.default_rng(0)
    sample, output = map(
        ops.convert_to_tensor, random.normal(size=(2, 2, 8, 8, 4)).astype("float32")
    )
    for timestep in (999, 500, 1, 0):
        args = output, timestep, sample, predict_epsilon
        np.testing.assert_allclose(
            found.step(*args), expected.step(*args), rtol=1e-3, atol=1e-3
        )
    with pytest.raises(AttributeError, match="clip_by_value"):
        theirs.NoiseScheduler(**SD).step(output, 5, sample)


def test_constants_are_theirs():
    found = ours.constants
    assert found._UNCONDITIONAL_TOKENS == constants._UNCONDITIONAL_TOKENS
    np.testing.assert_allclose(
        found._ALPHAS_CUMPROD, constants._ALPHAS_CUMPROD, rtol=1e-4
    )


def test_tokens_are_theirs(tmp_path):
    asset = resources.files("kerasdiffusion") / "assets" / "clip" / "merges.txt.gz"
    lines = gzip.decompress(asset.read_bytes()).decode("utf-8").strip().split("\n")
    lines = [line for line in lines if not line.startswith("#version")]
    path = tmp_path / "bpe.txt.gz"
    path.write_bytes(gzip.compress("\n".join(["", *lines]).encode()))
    found, expected = ours.SimpleTokenizer(), theirs.SimpleTokenizer(str(path))
    assert found.vocab == expected.vocab
    for tokenizer in (found, expected):
        assert tokenizer.add_tokens("<my-funny-cat-token>") == 1
    texts = ["", "a photo of my <my-funny-cat-token>, 3D!", "IT'S  naïve &amp; 猫 ☕"]
    texts += ["<|startoftext|> <my-funny-cat-token><my-funny-cat-token>", "x" * 200]
    for text in texts:
        ids = found.encode(text)
        assert ids == expected.encode(text), text
        if "<my" not in text:
            assert found.decode(ids) == expected.decode(ids)
    assert found.end_of_text == expected.end_of_text
    assert len(found.vocab) == len(expected.vocab) == 49409


class Theirs(StableDiffusionBase):
    """KerasCV's own loop over its small networks."""

    def __init__(self, networks, context):
        super().__init__(128, 128, jit_compile=False)
        self.networks, self.context = networks, context
        self._decoder = networks["decoder"]

    @property
    def diffusion_model(self):
        return self.networks["diffusion_model"]

    def _get_unconditional_context(self):
        return self.context

    def _get_timestep_embedding(self, timestep, batch_size):
        return super()._get_timestep_embedding(timestep, batch_size, dim=32)


@pytest.mark.heavy
def test_pictures_are_theirs(tmp_path):
    """From one seed, to a level: theirs are cut off to whole numbers, ours rounded."""
    networks = {part: make() for part, make in small.build(size=128).items()}
    for part, network in networks.items():
        small.randomise(network)
        network.save_weights(tmp_path / f"{part}.weights.h5")
    front = ours.StableDiffusion(
        128,
        128,
        jit_compile=False,
        weights=tmp_path,
        tokenizer=Tokenizer(TokenizerConfig(7)),
    )
    random = np.random.default_rng(3)
    context, empty = random.normal(size=(2, 1, 7, 48)).astype("float32")
    peer = Theirs(networks, ops.convert_to_tensor(empty))
    how = {"batch_size": 2, "num_steps": 4, "seed": 11}
    expected = peer.generate_image(ops.convert_to_tensor(context), **how)
    found = front.generate_image(
        context, negative_prompt=empty, progress_bar=False, **how
    )
    assert expected.std() > 10
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
