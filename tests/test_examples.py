"""The examples of the docstrings run, and print what they say."""

import doctest
import importlib
import pkgutil
import re

import keras
import numpy as np
import pytest
from keras import ops
from safetensors.numpy import save_file

import kerasdiffusion
from kerasdiffusion.networks.parts import make_parts
from kerasdiffusion.presets.config import (
    AutoencoderConfig,
    ScheduleConfig,
    TextEncoderConfig,
)
from kerasdiffusion.sampling import loop
from kerasdiffusion.sampling.denoiser import denoiser
from kerasdiffusion.sampling.noise import initial_noise
from kerasdiffusion.sampling.rng import TorchCPU
from kerasdiffusion.sampling.samplers import make_table
from tests.tiny import TINY
from tests.training.conftest import without_graph_optimizer  # noqa: F401

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="once is enough"
)
#: What needs files or devices that are not there.
ELSEWHERE = {
    "networks.control.Control": "Stable Diffusion 1.5 and a ControlNet",
    "compute.devices.sharded_weights": "JAX",
    "weights.hub.resolve": "the hub",
}
#: What the examples of one room use of others.
FAMILIAR = {
    "AutoencoderConfig": AutoencoderConfig,
    "ScheduleConfig": ScheduleConfig,
    "TextEncoderConfig": TextEncoderConfig,
    "TorchCPU": TorchCPU,
    "denoiser": denoiser,
    "initial_noise": initial_noise,
    "loop": loop,
    "make_table": make_table,
}
SHAPES = re.compile(r"TensorShape\(\[(\d+)(?:, )?([^\]]*)\]\)")


class Checker(doctest.OutputChecker):
    """Takes TensorFlow's shapes for tuples."""

    def check_output(self, want, got, options):
        got = SHAPES.sub(lambda m: f"({m[1]}, {m[2]})".replace(", )", ",)"), got)
        return super().check_output(want, got, options)


@pytest.fixture(scope="module")
def at_hand():
    """What a user has: a model's parts and its configuration."""
    parts = make_parts(TINY, TINY.parts, "float32", dict.fromkeys(TINY.parts))
    return {"parts": parts, "config": TINY}


def modules():
    for each in pkgutil.walk_packages(kerasdiffusion.__path__, "kerasdiffusion."):
        # Peers are imported by the processes that measure them.
        if ".bench" not in each.name and not each.name.endswith("__main__"):
            yield importlib.import_module(each.name)


def examples():
    """A parameter for each docstring that has one, the costly ones marked."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for module in modules():
        for test in finder.find(module, module.__name__, module):
            if test.examples:
                name = test.name.removeprefix("kerasdiffusion.")
                why = ELSEWHERE.get(name)
                marks = [pytest.mark.skip(reason=f"needs {why}")] if why else []
                if "StableDiffusion" in test.docstring or "main(" in test.docstring:
                    marks.append(pytest.mark.heavy)
                yield pytest.param(module, test, id=name, marks=marks)


@pytest.mark.parametrize("module, test", list(examples()))
def test_it_runs(module, test, at_hand, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file({"weight": np.ones(3, "float32")}, "model.safetensors")
    (tmp_path / "config.json").write_text('{"sample_size": 64}', "utf-8")
    up, down = np.ones((320, 4, 1, 1), "float32"), np.ones((4, 4, 3, 3), "float32")
    lora = {"lora_up.weight": up, "lora_down.weight": down}
    lora = {f"lora_unet_conv_in.{name}": values for name, values in lora.items()}
    save_file(lora, "detail.safetensors")
    public = {name: getattr(kerasdiffusion, name) for name in kerasdiffusion._PUBLIC}
    test.globs = {"np": np, "keras": keras, "ops": ops}
    test.globs |= FAMILIAR | at_hand | public | vars(module)
    lines = []
    runner = doctest.DocTestRunner(Checker(), optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=lines.append, clear_globs=False)
    assert runner.failures == 0, "".join(lines)
    assert runner.tries == len(test.examples)
