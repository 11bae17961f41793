"""What a file says of its making, as other programs read it."""

import json
from pathlib import Path

import pytest

from kerasdiffusion.presets.families import SD1, SD2, SD2_BASE, SDXL
from kerasdiffusion.training.examples.batches import Sample
from kerasdiffusion.training.examples.buckets import fit
from kerasdiffusion.training.examples.folders import Picture
from kerasdiffusion.training.lessons.lesson import Lesson
from kerasdiffusion.training.lessons.notes import notes
from tests.tiny import TINY


def samples():
    pictures = [
        Picture(Path("dogs/a.png"), "sks dog, grass", (512, 512), 3, name="dog"),
        Picture(Path("dogs/b.png"), "sks dog", (512, 768), 3, name="dog"),
        Picture(Path("class/c.png"), "a dog", (512, 512), is_class=True),
    ]
    return [Sample(each, fit(each.size, 512, 64)) for each in pictures]


def written(config=SD1, base="sd1.5", **fields):
    lesson = Lesson(**fields).settled(config, 2)
    found = notes(
        lesson, config, base, samples(), title="dog", steps_per_epoch=6, started=1.0
    )
    assert all(type(key) is type(value) is str for key, value in found.items())
    return found


def family_in_the_web_ui(metadata):
    """AUTOMATIC1111's rule: `extensions-builtin/Lora/network.py`, version 1.10."""
    if metadata.get("ss_base_model_version", "").startswith("sdxl_"):
        return "SDXL"
    return "SD2" if metadata.get("ss_v2") == "True" else "SD1"


@pytest.mark.parametrize(
    "config, version, family, architecture",
    [
        (SD1, "sd_v1", "SD1", "stable-diffusion-v1/lora"),
        (SD2_BASE, "sd_v2", "SD2", "stable-diffusion-v2-512/lora"),
        (SD2, "sd_v2_v", "SD2", "stable-diffusion-v2-768-v/lora"),
        (SDXL, "sdxl_base_v1-0", "SDXL", "stable-diffusion-xl-v1-base/lora"),
        # A toy is no Stable Diffusion 1, though the web UI lists it there.
        (TINY, "latent-diffusion", "SD1", "latent-diffusion/lora"),
    ],
)
def test_the_family_is_known(config, version, family, architecture):
    found = written(config)
    assert found["ss_base_model_version"] == version
    assert family_in_the_web_ui(found) == family
    assert found["modelspec.architecture"] == architecture
    is_v = config.schedule.prediction_type == "v_prediction"
    assert found["modelspec.prediction_type"] == ("v" if is_v else "epsilon")


def test_the_adapter():
    found = written(rank=8, alpha=4.0)
    assert found["ss_network_module"] == "networks.lora"
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("8", "4.0")
    found = written(algorithm="lokr", modules="all", rank=8)
    assert found["ss_network_module"] == "lycoris.kohya"
    args = json.loads(found["ss_network_args"])
    assert args == {"algo": "lokr", "conv_dim": 8, "conv_alpha": 8}


def test_the_pictures():
    found = written()
    assert json.loads(found["ss_tag_frequency"]) == {
        "3_dog": {"sks dog": 2, "grass": 1}
    }
    assert json.loads(found["ss_dataset_dirs"]) == {
        "3_dog": {"n_repeats": 3, "img_count": 2}
    }
    buckets = json.loads(found["ss_bucket_info"])["buckets"]
    assert {"resolution": [512, 512], "count": 1} in buckets.values()
    assert found["ss_num_train_images"] == "6" and found["ss_num_reg_images"] == "1"
    assert found["ss_resolution"] == "(512, 512)"
    assert json.loads(found["ss_datasets"])[0]["num_train_images"] == 6


def test_a_base_in_a_file_has_its_hashes(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(range(256)) * 8192)
    found = written(base=path)
    assert found["ss_sd_model_name"] == "model.safetensors"
    assert len(found["ss_new_sd_model_hash"]) == 64
    assert len(found["ss_sd_model_hash"]) == 8
    assert "ss_sd_model_hash" not in written()


def test_a_trigger():
    found = written(instance_prompt="a photo of sks dog")
    assert found["modelspec.trigger_phrase"] == "a photo of sks dog"
    found = written(kind="textual-inversion", word="<dog>")
    assert found["modelspec.trigger_phrase"] == "<dog>"
    assert found["modelspec.architecture"].endswith("/textual-inversion")
