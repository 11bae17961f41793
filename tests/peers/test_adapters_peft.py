"""PEFT's kinds of adapters, against the forward pass of its own layers."""

import json

import peft
import pytest
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.oft.layer import OFTRotationModule

from kerasdiffusion.weights.base import WeightsError
from tests.peers.one_layer import assert_same, make, merged, read_layer

LORA, DORA = {"r": 4, "lora_alpha": 2}, {"use_dora": True}
EVERY = ("dense", "square", "odd", "1x1", "3x3", "odd 3x3")
CASES = [
    *(("LoraConfig", layer, LORA) for layer in EVERY),
    *(("LoraConfig", layer, LORA | DORA) for layer in EVERY),
    ("LoraConfig", "odd", {"r": 32, "lora_alpha": 8}),
    ("LoraConfig", "odd", {**LORA, "use_rslora": True}),
    ("LoraConfig", "odd", {**LORA, "use_rslora": True, **DORA}),
    ("LoraConfig", "odd", {**LORA, "alpha_pattern": {"layer": 7}}),
    ("LoraConfig", "odd", {**LORA, "rank_pattern": {"layer": 3}}),
    ("LoraConfig", "odd", {**LORA, "lora_bias": True}),
    *(("LoHaConfig", layer, {"r": 4, "alpha": 2}) for layer in EVERY),
    ("LoHaConfig", "odd 3x3", {"r": 4, "alpha": 2, "use_effective_conv2d": True}),
    *(("LoKrConfig", layer, {"r": 2, "alpha": 3}) for layer in EVERY),
    ("LoKrConfig", "odd", {"r": 16, "alpha": 3}),
    ("LoKrConfig", "3x3", {"r": 1, "alpha": 3, "use_effective_conv2d": True}),
    ("LoKrConfig", "dense", {"r": 1, "alpha": 3, "decompose_both": True}),
    *(("IA3Config", layer, {"feedforward_modules": []}) for layer in EVERY),
    *(("IA3Config", layer, {"feedforward_modules": ["layer"]}) for layer in EVERY),
    *(
        ("OFTConfig", layer, {"oft_block_size": size, "r": 0, **how})
        for layer, size in (("dense", 8), ("odd", 5), ("1x1", 8))
        for how in (
            {},
            {"use_cayley_neumann": False},
            {"num_cayley_neumann_terms": 3},
            {"block_share": True},
            {"coft": True, "eps": 0.1},
        )
    ),
    *(
        ("BOFTConfig", layer, {"boft_block_size": size})
        for layer, size in (("dense", 8), ("odd", 5), ("3x3", 6))
    ),
    *(
        ("GloraConfig", layer, {"r": 4, **how})
        for layer in ("dense", "square", "odd")
        for how in (
            {},
            {"config_A_B": "vector", "config_C": "vector", "config_D_E": "vector"},
            {"config_A_B": "constant", "config_D_E": "constant"},
        )
    ),
]


class Net(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


def name_of(case):
    kind, layer, options = case
    return "-".join([kind, layer, *(f"{k}={v}" for k, v in options.items())])


def adapted(kind, name, options, seed=0, scale=0.3):
    """A layer, its input, and PEFT's model with random numbers in it."""
    layer, x = make(name, seed)
    config = getattr(peft, kind)(target_modules=["layer"], **options)
    model = peft.get_peft_model(Net(make(name, seed)[0]), config)
    for key, parameter in model.named_parameters():
        if "base_layer" not in key:
            with torch.no_grad():
                parameter.add_(scale * torch.randn_like(parameter))
    return layer, x, model.eval()


def saved(model, folder):
    """What PEFT writes: tensors, and the settings beside them."""
    model.save_pretrained(folder / "saved")
    from safetensors.torch import load_file

    text = (folder / "saved/adapter_config.json").read_text("utf-8")
    (folder / "adapter_config.json").write_text(text, "utf-8")
    return load_file(folder / "saved/adapter_model.safetensors")


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_output_is_that_of_the_forward_pass(case, tmp_path, monkeypatch):
    layer, x, model = adapted(*case)
    base, theirs = layer(x), model(x)
    tensors = saved(model, tmp_path)
    adapter = read_layer(layer, tensors, tmp_path, monkeypatch)
    assert not adapter.unused
    assert_same(merged(layer, adapter)(x), theirs, base)


@pytest.mark.parametrize("how", ["pissa", "olora"])
def test_what_began_as_a_part_of_the_base_is_a_change_of_the_whole(
    how, tmp_path, monkeypatch
):
    # PEFT's own base lacks the part; the file is for a base that has it.
    case = "LoraConfig", "odd", {**LORA, "init_lora_weights": how}
    layer, x, model = adapted(*case, scale=0.05)
    base, theirs = layer(x), model(x)
    adapter = read_layer(layer, saved(model, tmp_path), tmp_path, monkeypatch)
    assert adapter.kinds == ({"pissa": "PiSSA", "olora": "OLoRA"}[how],)
    assert_same(merged(layer, adapter)(x), theirs, base)
    plain = read_layer(layer, saved(model, tmp_path), tmp_path, monkeypatch, name="x")
    assert (merged(make("odd")[0], plain)(x) - theirs).abs().max() > 0.1


def test_adapters_that_changed_the_base_otherwise_are_refused(tmp_path, monkeypatch):
    layer, _, model = adapted("LoraConfig", "odd", LORA)
    tensors = saved(model, tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text("utf-8"))
    for change, match in (
        ({"init_lora_weights": "pissa_niter_4"}, "changed the base"),
        ({"init_lora_weights": "loftq"}, "changed the base"),
        ({"peft_type": "VERA"}, "kinds these are read"),
        ({"alpha_pattern": {"(a+)+$": 3}}, "names of modules"),
        ({"r": "4"}, "a number as rank"),
    ):
        text = json.dumps(settings | change)
        (tmp_path / "adapter_config.json").write_text(text, "utf-8")
        with pytest.raises(ValueError, match=match):
            read_layer(layer, tensors, tmp_path, monkeypatch)


def test_a_constraint_counts_before_the_first_pass_too(tmp_path, monkeypatch):
    """PEFT's forward pass writes the constrained numbers back; a file may be older."""
    options = {"oft_block_size": 8, "r": 0, "coft": True, "eps": 0.1}
    layer, x, model = adapted("OFTConfig", "dense", options)
    tensors = saved(model, tmp_path)
    base, theirs = layer(x), model(x)
    adapter = read_layer(layer, tensors, tmp_path, monkeypatch)
    assert_same(merged(layer, adapter)(x), theirs, base)


def test_oft_of_a_large_convolution_is_refused(tmp_path, monkeypatch):
    """Its forward pass adds up patches that overlap; its own merge gives another."""
    options = {"oft_block_size": 6, "r": 0}
    layer, x, model = adapted("OFTConfig", "3x3", options)
    theirs = model(x)
    tensors = saved(model, tmp_path)
    assert (model.merge_and_unload()(x) - theirs).abs().max() > 0.1
    with pytest.raises(ValueError, match="overlapping patches, which no weight does"):
        read_layer(layer, tensors, tmp_path, monkeypatch)


@pytest.mark.parametrize("is_scaled", [False, True])
@pytest.mark.parametrize("name", ["dense", "1x1", "3x3"])
def test_oft_of_onetrainer(name, is_scaled, tmp_path, monkeypatch):
    """Its dense layers turn inputs; its convolutions turn weights, the other way."""
    layer, x = make(name)
    base, size = layer(x), 4
    columns = layer.weight[0].numel()
    torch.manual_seed(1)
    numbers = 0.3 * torch.randn(columns // size, size * (size - 1) // 2)
    scaled = numbers / (2 * (size - 1) ** 0.5) if is_scaled else numbers
    module = OFTRotationModule(columns // size, numbers.shape[1], size, columns)
    turns = torch.block_diag(*module._cayley_batch(scaled, size))
    flat = layer.weight.reshape(len(layer.weight), -1)
    flat = flat @ (turns.T if name == "dense" else turns)
    theirs, _ = make(name)
    with torch.no_grad():
        theirs.weight.copy_(flat.reshape(layer.weight.shape))
    tensors = {"lora_unet_layer.oft_R.weight": numbers}
    if is_scaled:
        tensors["lora_unet_layer.oft_R.scaled_oft"] = torch.tensor(True)
    adapter = read_layer(layer, tensors, tmp_path, monkeypatch, name="x")
    assert not adapter.unused and adapter.kinds == ("OFT of OneTrainer",)
    assert_same(merged(layer, adapter)(x), theirs(x), base)


READ = {"LORA", "LOHA", "LOKR", "OFT", "BOFT", "IA3", "GLORA"}
#: What some kinds need beside the layer's name.
NEEDED = {
    "OFT": {"r": 0, "oft_block_size": 8},
    "BOFT": {"boft_block_size": 8},
    "IA3": {"feedforward_modules": []},
    "ADALORA": {"total_step": 10},
    "C3A": {"block_size": 8},
    "FOURIERFT": {"n_frequency": 10},
    "WAVEFT": {"n_frequency": 10},
    "VBLORA": {"num_vectors": 4, "vector_length": 8, "topk": 2},
    "SHIRA": {"r": 2},
    "MISS": {"r": 8},
    "PSOFT": {"r": 4},
    "ROAD": {"group_size": 8},
    "UNILORA": {"theta_d_length": 16},
}
#: Of language models and of lists of tokens: a U-Net has neither.
ELSEWHERE = {
    *("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT"),
    *("ADAPTION_PROMPT", "CARTRIDGE", "TRAINABLE_TOKENS", "XLORA", "SHADOW"),
    "ADAMSS",  # PEFT makes it where scikit-learn is
}


KINDS = [each.value for each in peft.PeftType if each.value not in ELSEWHERE]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_right_or_refused(kind, tmp_path, monkeypatch):
    config = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    torch.manual_seed(0)
    layer, x = make("square")
    net = Net(make("square")[0])
    options = {"target_modules": ["layer"], **NEEDED.get(kind, {})}
    model = peft.get_peft_model(net, config(**options))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "base_layer" not in key and parameter.is_floating_point():
                parameter.add_(0.3 * torch.randn_like(parameter))
    tensors = saved(model.eval(), tmp_path)
    if kind in READ:
        theirs = model(x)
        adapter = read_layer(layer, tensors, tmp_path, monkeypatch)
        assert not adapter.unused
        base = layer(x)
        assert_same(merged(layer, adapter)(x), theirs, base)
        return
    with pytest.raises(WeightsError, match="Of PEFT's kinds these are read: LORA"):
        read_layer(layer, tensors, tmp_path, monkeypatch)
    with pytest.raises(WeightsError):  # by its names too, where the settings are gone
        read_layer(layer, tensors, tmp_path, monkeypatch, name="x")


def test_several_stages_of_a_butterfly(tmp_path, monkeypatch):
    # PEFT makes them where its CUDA extension is; its permutations need none.
    from peft.tuners.boft.layer import BOFTLayer

    layer, x = make("dense")
    width, size, stages = 24, 4, 2
    numbers = width // size
    torch.manual_seed(1)
    blocks = 0.3 * torch.randn(stages, numbers, size, size)
    scales = 1 + 0.3 * torch.randn(16, 1)
    whole = torch.eye(width)
    for i in range(stages):
        turned = BOFTLayer.cayley_batch(None, blocks[i])
        order = BOFTLayer.block_butterfly_perm(
            None, width, int(numbers / 2**i), size // 2, stages - 1
        )
        permuted = BOFTLayer.perm2mat(None, order)
        whole = permuted @ torch.block_diag(*turned) @ permuted.T @ whole
    base = layer(x)
    theirs = torch.nn.functional.linear(
        x, (whole @ layer.weight.T).T * scales, layer.bias
    )
    tensors = {
        "base_model.model.layer.boft_R": blocks,
        "base_model.model.layer.boft_s": scales,
    }
    adapter = read_layer(layer, tensors, tmp_path, monkeypatch)
    assert_same(merged(layer, adapter)(x), theirs, base)


def test_names_of_adapters_in_keys(tmp_path, monkeypatch):
    layer, x, model = adapted("LoraConfig", "odd", LORA | DORA)
    base, theirs = layer(x), model(x)
    saved(model, tmp_path)
    tensors = {key: each for key, each in model.state_dict().items() if "lora_" in key}
    assert any(".default." in key for key in tensors)
    adapter = read_layer(layer, tensors, tmp_path, monkeypatch)
    assert_same(merged(layer, adapter)(x), theirs, base)
