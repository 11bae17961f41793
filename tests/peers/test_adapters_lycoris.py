"""Every algorithm of LyCORIS, against the forward pass of its own modules.

Not against its merge, which scales LoHa and low-rank LoKr twice (4.1.3).
"""

import copy

import pytest
import torch
from lycoris.modules.boft import ButterflyOFTModule
from lycoris.modules.diag_oft import DiagOFTModule
from lycoris.modules.dylora import DyLoraModule
from lycoris.modules.full import FullModule
from lycoris.modules.glora import GLoRAModule
from lycoris.modules.ia3 import IA3Module
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from lycoris.modules.norms import NormModule

from tests.peers.one_layer import assert_same, enliven, make, merged, read_layer

DORA = {"weight_decompose": True}
OLD_DORA = {**DORA, "wd_on_out": False}
TUCKER = {"use_tucker": True}
LOW = (LoConModule, LohaModule, LokrModule)
EVERY = ("dense", "square", "odd", "1x1", "3x3", "odd 3x3")
CASES = [
    *((kind, layer, {"lora_dim": 4, "alpha": 1}) for kind in LOW for layer in EVERY),
    # A rank above the width.
    *((kind, "odd", {"lora_dim": 32, "alpha": 8}) for kind in LOW),
    *((kind, "odd 3x3", {"lora_dim": 4, "alpha": 2, **TUCKER}) for kind in LOW),
    *((kind, "dense", {"lora_dim": 2, "alpha": 4, "rs_lora": True}) for kind in LOW),
    *(
        (kind, layer, {"lora_dim": 4, "alpha": 1, **how})
        for kind in LOW
        for layer in ("odd", "square", "odd 3x3")
        for how in (DORA, OLD_DORA)
    ),
    (LokrModule, "dense", {"lora_dim": 1, "alpha": 1, "decompose_both": True}),
    (LokrModule, "odd", {"lora_dim": 2, "alpha": 1, "factor": 3}),
    (LokrModule, "dense", {"full_matrix": True}),
    (LokrModule, "3x3", {"full_matrix": True}),
    *((FullModule, layer, {}) for layer in ("dense", "square", "odd 3x3")),
    (NormModule, "norm", {}),
    *((GLoRAModule, layer, {"lora_dim": 4, "alpha": 1}) for layer in EVERY),
    *((IA3Module, layer, {}) for layer in EVERY),
    *((IA3Module, layer, {"train_on_input": True}) for layer in EVERY),
    *((DiagOFTModule, layer, {"lora_dim": 4}) for layer in EVERY),
    (DiagOFTModule, "odd", {"lora_dim": 4, "rescaled": True}),
    (DiagOFTModule, "odd 3x3", {"lora_dim": 4, "constraint": 0.05}),
    *(
        (ButterflyOFTModule, layer, {"lora_dim": 4})
        for layer in ("dense", "square", "1x1", "3x3")
    ),
    (ButterflyOFTModule, "dense", {"lora_dim": 4, "rescaled": True}),
    (ButterflyOFTModule, "3x3", {"lora_dim": 2, "constraint": 0.05}),
]


def saved(module):
    """What a file has of it, under LyCORIS's own names."""
    return {f"lycoris_layer.{key}": each for key, each in module.state_dict().items()}


def name_of(case):
    kind, layer, options = case
    return "-".join([kind.__name__, layer, *map(str, options.values())])


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_output_is_that_of_the_forward_pass(case, tmp_path, monkeypatch):
    kind, name, options = case
    layer, x = make(name)
    base = layer(x)
    module = kind("lycoris_layer", copy.deepcopy(layer), **options)
    enliven(module)
    with torch.no_grad():
        theirs = module.eval()(x) if kind is FullModule else _forward(module, x)
    tensors = {
        f"lycoris_layer.{key}": each for key, each in module.state_dict().items()
    }
    if kind is FullModule:  # before it is applied it has the difference as its weight
        tensors = {
            {"weight": "lycoris_layer.diff", "bias": "lycoris_layer.diff_b"}[key]: each
            for key, each in module.named_parameters()
        }
    adapter = read_layer(layer, tensors, tmp_path, monkeypatch)
    assert not adapter.unused
    assert_same(merged(layer, adapter)(x), theirs, base)


def _forward(module, x):
    module.org_forward = module.org_module[0].forward
    return module.eval()(x)


@pytest.mark.parametrize(
    "kind, options",
    [
        *((kind, {"lora_dim": 4, "alpha": 2}) for kind in LOW),
        (GLoRAModule, {"lora_dim": 4, "alpha": 2}),
        (IA3Module, {}),
        (DiagOFTModule, {"lora_dim": 4}),
        (ButterflyOFTModule, {"lora_dim": 4}),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
@pytest.mark.parametrize("strength", [0.7, -0.3])
def test_strength_is_that_of_the_forward_pass(
    kind, options, strength, tmp_path, monkeypatch
):
    layer, x = make("3x3")
    base = layer(x)
    module = kind("lycoris_layer", copy.deepcopy(layer), multiplier=strength, **options)
    enliven(module)
    with torch.no_grad():
        theirs = _forward(module, x)
    tensors = {
        f"lycoris_layer.{key}": each for key, each in module.state_dict().items()
    }
    adapter = read_layer(layer, tensors, tmp_path, monkeypatch)
    assert_same(merged(layer, adapter, strength)(x), theirs, base)


def test_dylora_is_read_at_its_full_rank(tmp_path, monkeypatch):
    layer, x = make("odd 3x3")
    base = layer(x)
    module = DyLoraModule(
        "lycoris_layer", copy.deepcopy(layer), lora_dim=4, alpha=2, block_size=1
    )
    enliven(module)
    # Its forward pass takes a rank by chance; the whole of it is this.
    module.get_random_rank_weight = lambda: module.get_weight(3)
    with torch.no_grad():
        theirs = _forward(module, x)
    tensors = saved(module)
    adapter = read_layer(layer, tensors, tmp_path, monkeypatch)
    assert_same(merged(layer, adapter)(x), theirs, base)
