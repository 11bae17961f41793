"""One layer and an adapter of it: what peers compute, and what is read from files."""

from __future__ import annotations

import numpy as np
import torch
from safetensors.torch import save_file

from kerasdiffusion.adapters import read
from kerasdiffusion.adapters.namespaces import Namespace, Target, flat
from kerasdiffusion.presets.families import SD1
from kerasdiffusion.weights.modules import Module

#: Layers of even and odd sizes: dense, 1x1 and 3x3 convolutions, a norm.
LAYERS = {
    "dense": lambda: torch.nn.Linear(24, 16),
    "square": lambda: torch.nn.Linear(16, 16, bias=False),
    "odd": lambda: torch.nn.Linear(15, 21),
    "1x1": lambda: torch.nn.Conv2d(24, 16, 1),
    "3x3": lambda: torch.nn.Conv2d(12, 16, 3, padding=1),
    "odd 3x3": lambda: torch.nn.Conv2d(9, 15, 3, padding=1),
    "norm": lambda: torch.nn.LayerNorm(16),
}


class OneLayer(Namespace):
    """Names of a network that is one layer."""

    def __init__(self, layer):
        shapes = {"weight": tuple(layer.weight.shape)}
        if layer.bias is not None:
            shapes["bias"] = tuple(layer.bias.shape)
        module = Module("layer", "layer", shapes, shapes)
        self.modules = {"diffusion_model": {"layer": module}}
        target = Target("diffusion_model", module)
        self._names = {"diffusion_model": {flat("layer"): (target,)}}


def make(name: str, seed: int = 0):
    """A layer with random weights, and what it is given."""
    torch.manual_seed(seed)
    layer = LAYERS[name]()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter))
    if isinstance(layer, torch.nn.Conv2d):
        return layer, torch.randn(2, layer.in_channels, 5, 7)
    width = layer.weight.shape[-1]
    return layer, torch.randn(2, 5, width)


def enliven(module, scale: float = 0.3) -> None:
    """Random numbers in every parameter of an adapter."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn_like(parameter))


def read_layer(
    layer, tensors, folder, monkeypatch, metadata=None, name="adapter_model"
):
    """The adapter in a file with these tensors."""
    monkeypatch.setattr(read, "namespace", lambda config: OneLayer(layer))
    path = folder / f"{name}.safetensors"
    tensors = {key: each.detach().clone().contiguous() for key, each in tensors.items()}
    save_file(tensors, path, metadata)
    return read.read_adapter(path, SD1)


def merged(layer, adapter, strength: float = 1.0):
    """The layer with the adapter's changes in its own tensors."""
    base = {
        name: parameter.detach().numpy().copy()
        for name, parameter in layer.named_parameters()
    }
    values = {name: each.copy() for name, each in base.items()}
    for entry in adapter.entries:
        values[entry.change.leaf] += entry.change.difference(base, strength)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(torch.from_numpy(values[name]))
    return layer


def assert_same(ours, theirs, base) -> None:
    """Within 1e-5 of the size of the outputs, which are not the base's."""
    ours, theirs, base = (np.asarray(x.detach()) for x in (ours, theirs, base))
    size = np.abs(theirs).max()
    assert np.abs(theirs - base).max() > 1e-3 * size
    assert np.abs(ours - theirs).max() <= 1e-5 * size
