"""Every verb of `kerasdiffusion adapter` on files of models, in both layouts."""

import diffusers
import numpy as np
import pytest

from kerasdiffusion.adapters.checkpoints import reader
from kerasdiffusion.adapters.read import read_adapter
from kerasdiffusion.apps.cli import main
from kerasdiffusion.weights.load import read_config
from tests.adapters import files
from tests.tiny import TINY, TINY_SDXL, tiny_model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")
SHAPED = {
    "SD 1.5": (TINY, diffusers.StableDiffusionPipeline),
    "SDXL": (TINY_SDXL, diffusers.StableDiffusionXLPipeline),
}


@pytest.fixture(scope="module", params=SHAPED)
def made(request, tmp_path_factory):
    """A model's folder and single file, two LoRA, and the model with the first."""
    config, kind = SHAPED[request.param]
    root = tmp_path_factory.mktemp(request.param.replace(" ", "-"))
    model = tiny_model(config=config)
    for name in ("model", "model.safetensors"):
        model.save_preset(root / name)
    for seed, name in enumerate("ab"):
        files.save(root, name, files.kohya(config, seed=seed))
    for name in ("model", "model.safetensors"):
        run(
            root,
            "bake",
            "a.safetensors:0.7",
            "--model",
            root / name,
            to=f"baked-{name}",
        )
    return root, config, kind


def run(root, verb, *arguments, to):
    arguments = [
        str(root / each) if str(each).startswith(("a.", "b.")) else str(each)
        for each in arguments
    ]
    assert main(["adapter", verb, *arguments, "-o", str(root / to)]) == 0
    return root / to


def differences(path, config):
    adapter = read_adapter(path, config)
    assert not adapter.unused
    return {
        (entry.part, entry.tensor): entry.change.difference({})
        for entry in adapter.entries
    }


def assert_near(found, wanted, atol=1e-5):
    assert found.keys() == wanted.keys()
    for key, values in wanted.items():
        np.testing.assert_allclose(found[key], values, atol=atol)


def test_what_is_baked_is_what_diffusers_fuses(made):
    root, config, kind = made
    pipeline = kind.from_pretrained(root / "model")
    plain = {k: v.clone() for k, v in pipeline.unet.state_dict().items()}
    pipeline.load_lora_weights(root / "a.safetensors")
    pipeline.fuse_lora(lora_scale=0.7)
    pipeline.unload_lora_weights()
    baked = kind.from_pretrained(root / "baked-model")
    parts = ["unet", "text_encoder"]
    for part in parts + ["text_encoder_2"] * (config is TINY_SDXL):
        wanted = getattr(pipeline, part).state_dict()
        found = getattr(baked, part).state_dict()
        assert found.keys() == wanted.keys()
        for key, values in wanted.items():
            assert (found[key] - values).abs().max() <= 1e-5, key
    found = baked.unet.state_dict()
    assert max((found[key] - plain[key]).abs().max() for key in plain) > 0.1


def test_a_single_file_is_baked_as_a_folder_is(made):
    root, config, _ = made
    file, folder = root / "baked-model.safetensors", root / "baked-model"
    assert read_config(file).diffusion_model == config.diffusion_model
    names = 0
    with reader(file, config) as one, reader(folder, config) as other:
        for (part, tensor), _ in differences(root / "a.safetensors", config).items():
            np.testing.assert_array_equal(one(part, tensor), other(part, tensor))
            names += 1
    assert names > 50


@pytest.mark.parametrize("name", ["model", "model.safetensors"])
def test_what_was_baked_is_taken_out_again(name, made):
    root, config, _ = made
    models = root / name, root / f"baked-{name}"
    path = run(
        root, "extract", *models, "--rank", "4", to=f"difference-{name[5:]}.safetensors"
    )
    wanted = differences(root / "a.safetensors", config)
    assert_near(
        differences(path, config), {k: 0.7 * v for k, v in wanted.items()}, 1e-4
    )


def test_converted_cut_and_joined(made):
    """With `--model`: no file of so small a one is of a known family."""
    root, config, _ = made
    one, two = (differences(root / f"{name}.safetensors", config) for name in "ab")
    of = "--model", root / "model"
    path = run(
        root, "convert", "a.safetensors", "--format", "diffusers", *of,
        to="converted.safetensors",
    )  # fmt: skip
    assert_near(differences(path, config), one)
    pair = "a.safetensors:0.7", "b.safetensors:-0.3"
    path = run(root, "merge", *pair, *of, to="joined.safetensors")
    assert_near(
        differences(path, config), {k: 0.7 * one[k] - 0.3 * two[k] for k in one}
    )
    path = run(
        root, "resize", "a.safetensors", "--rank", "2", *of, to="cut.safetensors"
    )
    for key, values in differences(path, config).items():
        left, sizes, right = np.linalg.svd(one[key].reshape(len(values), -1), False)
        wanted = (left[:, :2] * sizes[:2]) @ right[:2]
        np.testing.assert_allclose(values.reshape(wanted.shape), wanted, atol=1e-4)
