"""Names of SDXL against the original code's, and what files of each family are."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from kerasdiffusion.presets.families import COSXL, PLAYGROUND, SD2, UPSCALER
from kerasdiffusion.presets.named import PRESETS
from kerasdiffusion.weights import names
from kerasdiffusion.weights.detect import detect
from kerasdiffusion.weights.layout import FIELDS
from kerasdiffusion.weights.modules import EMBEDDER, PREFIXES
from kerasdiffusion.weights.open_clip import Unfused, fused_name, unfused


@pytest.mark.parametrize("name", ["sdxl", "sdxl-refiner"])
def test_the_original_u_net_has_these_tensors_and_no_others(name):
    """Listed from the code itself.

    That is `sgm/modules/diffusionmodules/openaimodel.py` of Stability's
    generative-models, with `configs/inference/sd_xl_base.yaml` and
    `sd_xl_refiner.yaml`.
    """
    path = Path(__file__).parent / "data" / f"sgm_{name.replace('-', '_')}.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    expected = {
        key: tuple(map(int, shape.split("x")))
        for key, shape in (line.split(" ") for line in lines)
    }
    table = names.tensors("diffusion_model", PRESETS[name].config.diffusion_model)
    assert {row.original: row.original_shape for row in table} == expected


class Shapes:
    """A file's names and shapes, of a model at its published size, without values."""

    path, metadata = Path("model.safetensors"), {}

    def __init__(self, config, **more):
        self.shapes = dict(more)
        for part in config.parts:
            for row in names.tensors(part, getattr(config, FIELDS[part])):
                name = row.original
                if part == "text_encoder" and config.diffusion_model.vector_width:
                    name = name.replace(PREFIXES[part], EMBEDDER, 1)
                self.shapes[name] = row.original_shape

    def keys(self):
        return list(self.shapes)

    def shape(self, name):
        return self.shapes[name]


# Of those that no shape tells apart, the first; what it makes of the noise of Stable
# Diffusion 2's base is tested below.
KNOWN = {
    "sd1.5": "sd1.5",
    "sd1.5-inpainting": "sd1.5-inpainting",
    "instruct-pix2pix": "instruct-pix2pix",
    "sd2.1": "sd2.1",
    "sd2-inpainting": "sd2-inpainting",
    "sd2-depth": "sd2-depth",
    "sd2-upscaler": "sd2-upscaler",
    "sdxl": "sdxl",
    "sdxl-refiner": "sdxl-refiner",
    "sdxl-inpainting": "sdxl-inpainting",
    "sd-turbo": "sd2.1",
    "sdxl-turbo": "sdxl",
    "lcm-dreamshaper": "lcm-dreamshaper",
    "bk-sdm-base": "bk-sdm-base",
    "bk-sdm-small": "bk-sdm-small",
    "bk-sdm-tiny": "bk-sdm-tiny",
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_family_is_known_by_its_keys_and_shapes(name):
    found = detect(Shapes(PRESETS[name].config))
    assert found == PRESETS[KNOWN[name]].config


@pytest.mark.parametrize("name", ["ssd-1b", "vega"])
def test_small_u_nets_of_sdxl_are_known_but_for_their_scale(name):
    config = PRESETS[name].config
    found = detect(Shapes(config))
    assert found.replace(generation=config.generation) == config


def test_the_last_layer_of_open_clip_is_left_out():
    more = {"cond_stage_model.model.transformer.resblocks.23.ln_1.bias": (1024,)}
    assert detect(Shapes(SD2, **more)) == SD2
    assert names.IGNORED.fullmatch(*more)


@pytest.mark.parametrize(
    ("metadata", "more", "prediction_type", "zero_snr"),
    [
        ({}, {}, "v_prediction", False),
        ({"modelspec.prediction_type": "epsilon"}, {}, "epsilon", False),
        ({}, {"v_pred": (0,), "ztsnr": (0,)}, "v_prediction", True),
    ],
)
def test_what_is_predicted(metadata, more, prediction_type, zero_snr):
    file = Shapes(SD2, **more)
    file.metadata = metadata
    schedule = detect(file).schedule
    assert schedule.prediction_type == prediction_type
    assert schedule.zero_terminal_snr == zero_snr


@pytest.mark.parametrize(
    ("name", "prediction_type"),
    [
        ("512-base-ema.ckpt", "epsilon"),
        ("v2-1_512-ema-pruned.safetensors", "epsilon"),
        ("sd_turbo.safetensors", "epsilon"),
        ("768-v-ema.ckpt", "v_prediction"),
        ("v2-1_768-ema-pruned.safetensors", "v_prediction"),
    ],
)
def test_what_the_published_files_of_sd2_predict_is_in_their_names(
    name, prediction_type, monkeypatch
):
    monkeypatch.setattr(Shapes, "path", Path("models") / name)
    assert detect(Shapes(SD2)).schedule.prediction_type == prediction_type


def test_playground_and_cosxl_are_known_by_tensors_of_their_own():
    mean, std = (
        np.reshape(getattr(PLAYGROUND.autoencoder, name), (1, 4, 1, 1))
        for name in ("latents_mean", "latents_std")
    )
    marks = {"edm_mean": mean, "edm_std": std}
    assert detect(Marked(PLAYGROUND, marks)) == PLAYGROUND
    marks = {"edm_vpred.sigma_max": np.array(120.0)}
    assert detect(Marked(COSXL, marks)) == COSXL
    assert all(names.IGNORED.fullmatch(name) for name in ("edm_mean", *marks))


class Marked(Shapes):
    """With the values of some tensors."""

    def __init__(self, config, marks):
        super().__init__(config, **{name: each.shape for name, each in marks.items()})
        self.read = marks.__getitem__


def test_the_upscaler_has_a_noise_of_its_own():
    assert UPSCALER.schedule.beta_end == UPSCALER.low_res_schedule.beta_end == 0.02
    assert UPSCALER.autoencoder.downsampling == 4


class Arrays:
    """An open file with OpenCLIP's names."""

    path, metadata = Path("clip.safetensors"), {}

    def __init__(self, **arrays):
        self.arrays = arrays

    def keys(self):
        return list(self.arrays)

    def shape(self, name):
        return self.arrays[name].shape

    def read(self, name):
        return self.arrays[name]


def test_fused_weights_are_seen_apart():
    random = np.random.default_rng(0)
    arrays = {
        "r.0.attn.in_proj_weight": random.normal(size=(6, 2)),
        "r.0.attn.in_proj_bias": random.normal(size=6),
        "positional_embedding": random.normal(size=(3, 2)),
        "text_projection": random.normal(size=(2, 5)),
        "logit_scale": random.normal(size=()),
    }
    file = unfused(Arrays(**arrays))
    assert isinstance(file, Unfused)
    weight, bias = arrays["r.0.attn.in_proj_weight"], arrays["r.0.attn.in_proj_bias"]
    for third, letter in enumerate("qkv"):
        rows = slice(2 * third, 2 * third + 2)
        name = f"r.0.attn.{letter}_proj"
        np.testing.assert_array_equal(file.read(f"{name}.weight"), weight[rows])
        np.testing.assert_array_equal(file.read(f"{name}.bias"), bias[rows])
        assert file.shape(f"{name}.weight") == (2, 2)
        assert fused_name(f"{name}.bias") == ("r.0.attn.in_proj_bias", False)
    projection = file.read("text_projection.weight")
    np.testing.assert_array_equal(projection, arrays["text_projection"].T)
    assert file.shape("text_projection.weight") == (5, 2)
    assert fused_name("text_projection.weight") == ("text_projection", True)
    assert len(file.keys()) == 9


def test_other_files_are_seen_as_they_are():
    file = Arrays(**{"r.0.attn.q_proj.weight": np.ones((2, 2))})
    assert unfused(file) is file
