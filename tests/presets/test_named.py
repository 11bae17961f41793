import subprocess
import sys

import pytest

from kerasdiffusion import StableDiffusion
from kerasdiffusion.presets.named import PRESETS, find_preset


def test_a_presets_name_is_its_source_and_configuration():
    assert find_preset("sd1.5") == (PRESETS["sd1.5"].source, PRESETS["sd1.5"].config)


@pytest.mark.parametrize("source", ["hf://owner/name", "a/folder", None, {"unet": "x"}])
def test_anything_else_is_a_source_itself(source):
    assert find_preset(source) == (source, None)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("SDXL", "sdxl"),
        ("stable-diffusion-v1-5", "sd1.5"),
        ("stable-diffusion-2-1", "sd2.1"),
        ("sdxl-lightning", "sdxl-lightning-"),
        ("LCM_Dreamshaper_v7", "lcm-dreamshaper"),
    ],
)
def test_what_people_call_a_model_leads_to_its_preset(written, meant):
    with pytest.raises(ValueError, match=f"Did you mean .*{meant}.*Received"):
        find_preset(written)


def test_a_mistyped_keyword_has_near_matches():
    message = "`StableDiffusion` takes .* Did you mean precision.*Received: 'presision'"
    with pytest.raises(TypeError, match=message):
        StableDiffusion.from_preset("emoji", presision="float16")


def test_a_mistyped_name_is_said_before_a_framework_loads():
    with pytest.raises(ValueError, match=r"Did you mean .*sd1.5.*Received: 'sd15'"):
        find_preset("sd15")
    script = (
        "import sys; from kerasdiffusion.apps.cli import main\n"
        "assert main(['generate', 'x', '--preset', 'sd15']) == 1\n"
        "print({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))"
    )
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert child.stdout.strip() == "set()" and "Did you mean" in child.stderr


def test_a_file_that_is_not_there_is_no_mistyped_name():
    with pytest.raises(FileNotFoundError, match="Received: 'missing.safetensors'"):
        find_preset("missing.safetensors")


def test_the_presets_print_as_a_table():
    lines = str(PRESETS).splitlines()
    assert len(lines) == len(PRESETS)
    for line, (name, preset) in zip(lines, PRESETS.items(), strict=True):
        assert line.split()[:2] == [name, preset.source] and line.endswith(preset.about)
