"""Names as real files have them: all mean modules, and nothing is left over.

Facts from InvokeAI (`backend/patches/lora_conversions/sdxl_lora_conversion_utils.py`,
`backend/model_manager/omi/vendor/convert/lora/`, `tests/backend/model_manager/configs/
test_sdxl_slider_lora_identification.py`, `tests/backend/patches/lora_conversions/
lora_state_dicts/`) and from what kohya's trainer prints as it begins.
"""

import re

import pytest

from kerasdiffusion.adapters.namespaces import flat, namespace
from kerasdiffusion.adapters.outline import outline
from kerasdiffusion.adapters.read import read_adapter
from kerasdiffusion.presets import families
from kerasdiffusion.weights.base import WeightsError
from tests.adapters import files

XL = families.SDXL
RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


def sdxl_blocks():
    """From SGM's blocks to diffusers', as the converters have them."""
    yield "input_blocks.0.0", "conv_in"
    for i in range(3):
        for j in range(2):
            yield f"input_blocks.{3 * i + j + 1}.0", f"down_blocks.{i}.resnets.{j}"
            yield f"input_blocks.{3 * i + j + 1}.1", f"down_blocks.{i}.attentions.{j}"
        for j in range(3):
            yield f"output_blocks.{3 * i + j}.0", f"up_blocks.{i}.resnets.{j}"
            yield f"output_blocks.{3 * i + j}.1", f"up_blocks.{i}.attentions.{j}"
        yield f"input_blocks.{3 * i + 3}.0.op", f"down_blocks.{i}.downsamplers.0.conv"
        yield f"output_blocks.{3 * i + 2}.2.conv", f"up_blocks.{i}.upsamplers.0.conv"
    yield "middle_block.0", "mid_block.resnets.0"
    yield "middle_block.1", "mid_block.attentions.0"
    yield "middle_block.2", "mid_block.resnets.1"
    for i in range(2):
        yield f"time_embed.{2 * i}", f"time_embedding.linear_{i + 1}"
        yield f"label_emb.0.{2 * i}", f"add_embedding.linear_{i + 1}"
    yield "out.0", "conv_norm_out"
    yield "out.2", "conv_out"


def to_sgm(name: str) -> str | None:
    for sgm, own in sdxl_blocks():
        if f"{name}.".startswith(f"{own}."):
            rest = name.removeprefix(own).lstrip(".")
            rest = {new: old for old, new in RESNET.items()}.get(rest, rest)
            return f"{sgm}.{rest}" if rest else sgm
    return None


@pytest.mark.parametrize("start", ["lora_unet_", "unet.", "diffusion_model."])
def test_every_module_of_sdxl_has_the_converters_name(start):
    names = namespace(XL)
    for name in names.modules["diffusion_model"]:
        spelled = f"{start}{to_sgm(name)}"
        (target,) = names.find(flat(spelled) if "_" in start[-1] else spelled)
        assert target.module.name == name
    # As many modules with tensors as diffusers' U-Net of SDXL has.
    assert len(names.modules["diffusion_model"]) == 1050


#: Kohya's default layers, and with them the modules that it says it made.
LAYERS = r"(attn[12]\.to_\w+(\.0)?|ff\.net\.(0\.proj|2)|proj_in|proj_out)$"
TEXT = r"(self_attn\.\w+_proj|mlp\.fc[12])$"
KOHYA = [
    (families.SD1, {"diffusion_model": 192, "text_encoder": 72}, False),
    (families.SD2, {"diffusion_model": 192, "text_encoder": 138}, False),
    *(
        (
            XL,
            {"diffusion_model": 722, "text_encoder": 72, "text_encoder_2": 192},
            sgm,
        )
        for sgm in (False, True)
    ),
]


def shapes_of(config, sgm=False, rank=16, starts=("lora_unet_", "lora_te_", "")):
    found = {}
    for part, start in zip(
        ("diffusion_model", "text_encoder", "text_encoder_2"), starts, strict=True
    ):
        layers = LAYERS if part == "diffusion_model" else TEXT
        for name, module in namespace(config).modules.get(part, {}).items():
            if re.search(layers, name):
                spelled = to_sgm(name) if sgm and part == "diffusion_model" else name
                stem = start + (spelled if start.endswith(".") else flat(spelled))
                outs, ins, *sides = module.shapes["weight"]
                found[f"{stem}.alpha"] = ()
                found[f"{stem}.lora_down.weight"] = (rank, ins, *sides)
                found[f"{stem}.lora_up.weight"] = (outs, rank, *(1 for _ in sides))
    return found


@pytest.mark.parametrize("config, modules, sgm", KOHYA)
def test_kohyas_files_of_whole_families(config, modules, sgm):
    starts = ("lora_unet_", "lora_te_", "")
    if "text_encoder_2" in modules:
        starts = ("lora_unet_", "lora_te1_", "lora_te2_")
    assert_whole(shapes_of(config, sgm, starts=starts), config, modules)


def test_the_omi_names_of_sdxl():
    shapes = shapes_of(XL, True, starts=("unet.", "clip_l.", "clip_g."))
    stem = "clip_g.text_projection"
    shapes |= {
        f"{stem}.lora_down.weight": (4, 1280),
        f"{stem}.lora_up.weight": (1280, 4),
    }
    shapes["bundle_emb.zzz.clip_l"] = (2, 768)
    found = assert_whole(
        shapes,
        XL,
        {"diffusion_model": 722, "text_encoder": 72, "text_encoder_2": 193},
    )
    assert found.words == {"zzz": {"text_encoder": "bundle_emb.zzz.clip_l"}}


@pytest.mark.parametrize(
    "small, large, kept",
    [
        (families.BK_SDM_BASE, families.SD1, 120),
        (families.BK_SDM_SMALL, families.SD1, 108),
        (families.SSD_1B, XL, 360),
        (families.SEGMIND_VEGA, XL, 170),
    ],
)
def test_of_a_distilled_unet_the_layers_that_are_left(small, large, kept):
    """The keys of those that are not are told, and nothing is refused.

    Ten layers a transformer block, and two projections around one or more of them.
    """
    shapes = shapes_of(large)
    shapes = {key: shape for key, shape in shapes.items() if "lora_unet" in key}
    found = outline(shapes, namespace(small))
    assert len(found.groups) == kept and not (found.broken or found.misfits)
    assert 3 * kept + len(found.unused) == len(shapes)


#: "Dramatic Lighting Slider": 840 keys, of self-attention alone.
SLIDER = {
    "down_blocks_1_attentions_0": 2,
    "down_blocks_1_attentions_1": 2,
    "down_blocks_2_attentions_0": 10,
    "down_blocks_2_attentions_1": 10,
    "mid_block_attentions_0": 10,
    **{f"up_blocks_0_attentions_{i}": 10 for i in range(3)},
    **{f"up_blocks_1_attentions_{i}": 2 for i in range(3)},
}


def test_a_slider_of_sdxl_without_text_and_metadata():
    shapes = {}
    for block, depth in SLIDER.items():
        width = 640 if "_blocks_1_" in block else 1280
        for i in range(depth):
            for layer in ("to_q", "to_k", "to_v", "to_out_0"):
                stem = f"lora_unet_{block}_transformer_blocks_{i}_attn1_{layer}"
                shapes[f"{stem}.alpha"] = ()
                shapes[f"{stem}.lora_down.weight"] = (4, width)
                shapes[f"{stem}.lora_up.weight"] = (width, 4)
    assert len(shapes) == 840
    assert_whole(shapes, XL, {"diffusion_model": 280})


def assert_whole(shapes, config, modules):
    found = outline(shapes, namespace(config))
    parts = [group.targets[0].part for group in found.groups]
    assert {part: parts.count(part) for part in set(parts)} == modules
    assert not (found.unused or found.broken or found.misfits)
    return found


#: The first keys of InvokeAI's lists for other families.
OTHERS = {
    "Anima": [
        "lora_unet_blocks_0_cross_attn_k_proj.lora_down.weight",
        "diffusion_model.blocks.0.cross_attn.k_proj.lokr_w1",
        "diffusion_model.blocks.0.cross_attn.k_proj.lora_A.weight",
    ],
    "Flux": [
        "double_blocks.0.img_attn.proj.lora_A.weight",
        "diffusion_model.double_blocks.0.img_attn.proj.lokr_w1",
        "base_model.model.single_transformer_blocks.0.attn.to_k.lora_A.weight",
        "transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight",
        "lora_unet_double_blocks_0_img_attn_proj.lora_down.weight",
        "double_blocks.0.processor.proj_lora1.down.weight",
    ],
    "Krea 2": ["lora_unet_blocks_0_attn_gate.lora_down.weight"],
    "Qwen-Image": [
        "transformer_blocks.0.attn.to_k.lora_down.weight",
        "lora_unet_transformer_blocks_0_attn_to_k.lokr_w1",
    ],
}


@pytest.mark.parametrize("family", OTHERS)
def test_files_for_other_families_are_refused_with_what_they_are_for(family, tmp_path):
    import numpy as np

    for i, key in enumerate(OTHERS[family]):
        tensors = {key: np.zeros((16, 3072), "float16")}
        path = files.save(tmp_path, f"{i}", tensors)
        for config in (families.SD1, XL):
            with pytest.raises(WeightsError, match=f"is for .*{family}"):
                read_adapter(path, config)
