"""`low_memory="smallest"`: all tasks with kernels that were read into 8 bits."""

import numpy as np
import pytest

from kerasdiffusion import StableDiffusion
from kerasdiffusion.networks.quantization import is_quantized
from kerasdiffusion.training.finetuning.finetuner import Finetuner
from kerasdiffusion.training.finetuning.learned import LoRA
from tests.adapters import files
from tests.networks.test_adapted import CAT
from tests.tiny import tiny_model


@pytest.fixture
def saved(tmp_path):
    """A folder of a model."""
    tiny_model().save_preset(tmp_path / "model")
    return tmp_path / "model"


def read(saved, **options):
    return StableDiffusion.from_preset(saved, img_height=32, img_width=32, **options)


@pytest.mark.heavy
def test_it_paints_what_quantize_paints(saved, tmp_path):
    later, model = read(saved), read(saved, low_memory="smallest")
    later.quantize()
    model.save_preset(tmp_path / "floats")  # builds it: from now on parts are kept
    assert is_quantized(model.diffusion_model) and not is_quantized(model.decoder)
    floats = read(tmp_path / "floats")
    assert not is_quantized(floats.diffusion_model)
    expected = later.text_to_image(**CAT)
    assert (model.text_to_image(**CAT) == expected).all()
    assert np.abs(floats.text_to_image(**CAT).astype(int) - expected).max() <= 2


@pytest.mark.heavy
def test_pictures_masks_and_adapters_are_taken(saved, tmp_path):
    later, model = read(saved), read(saved, low_memory="smallest")
    later.quantize()
    first, second = (
        files.save(tmp_path, name, files.kohya(seed=seed))
        for seed, name in enumerate(("detail", "style"))
    )
    cat, mask = np.full((32, 32, 3), 99, "uint8"), np.zeros((32, 32), "uint8")
    mask[8:] = 255
    for task, inputs in (
        ("text_to_image", {}),
        ("image_to_image", {"image": cat}),
        ("inpaint", {"image": cat, "mask": mask}),
    ):
        expected, plain = getattr(later, task), getattr(model, task)
        assert (plain(**inputs, **CAT) == expected(**inputs, **CAT)).all(), task
    before = model.text_to_image(**CAT)
    for each in (later, model):
        each.load_adapter(first, 0.8)
    with_one = later.text_to_image(**CAT)
    assert (model.text_to_image(**CAT) == with_one).all()
    assert (with_one != before).any()
    with_two = later.text_to_image(**CAT, adapters=(second, 0.5))
    assert (model.text_to_image(**CAT, adapters=(second, 0.5)) == with_two).all()
    model.remove_adapter()
    assert (model.text_to_image(**CAT) == before).all()


def test_what_cannot_be_leads_to_what_can(saved, tmp_path):
    model = read(saved, low_memory="smallest")
    with pytest.raises(ValueError, match='low_memory=True in place of "smallest"'):
        Finetuner(model, LoRA(2))
    with pytest.raises(ValueError, match="`save_preset` writes them as floats"):
        model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="`precision` of bfloat16 or float32"):
        read(saved, low_memory="smallest", precision="mixed_float16")
    with pytest.raises(ValueError, match="low_memory='smallest', jit_compile=\"open"):
        read(saved, low_memory="smallest", jit_compile="openvino")
