"""Dialects and families: what is read, and as what."""

import json
import re

import numpy as np
import pytest

from kerasdiffusion.adapters.namespaces import namespace
from kerasdiffusion.adapters.outline import outline
from kerasdiffusion.adapters.read import read_adapter
from kerasdiffusion.adapters.settings import METADATA_KEY
from kerasdiffusion.presets import families
from tests.adapters import files
from tests.tiny import TINY, TINY_SD2, TINY_SDXL

Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
SGM_Q = "input_blocks.1.1.transformer_blocks.0.attn1.to_q"
OUT = Q.replace("to_q", "to_out.0")
TEXT_Q = "text_model.encoder.layers.1.self_attn.q_proj"


def flat(name):
    return name.replace(".", "_")


def pair(seed=0, outs=32, ins=32, rank=4):
    up, down = files.lora(np.random.default_rng(seed), (outs, ins), rank)
    return {"up": up, "down": down}


def written(folder, keys, metadata=None, name="x", **shapes):
    """A file with one pair under two keys."""
    tensors = pair(**shapes)
    return files.save(
        folder, name, dict(zip(keys, tensors.values(), strict=True)), metadata
    )


DIALECTS = {
    "kohya": (f"lora_unet_{flat(Q)}.lora_", "up.weight", "down.weight"),
    "kohya, SGM's names": (
        f"lora_unet_{flat(SGM_Q)}.lora_",
        "up.weight",
        "down.weight",
    ),
    "diffusers, old": (
        f"unet.{Q.replace('.attn1.', '.attn1.processor.')}_lora.",
        *("up.weight", "down.weight"),
    ),
    "diffusers, old, without a part": (
        f"{Q.replace('.attn1.', '.attn1.processor.')}_lora.",
        *("up.weight", "down.weight"),
    ),
    "diffusers, middle": (f"unet.{Q}.lora.", "up.weight", "down.weight"),
    "diffusers, new": (f"unet.{Q}.lora_", "B.weight", "A.weight"),
    "PEFT": (f"base_model.model.{Q}.lora_", "B.weight", "A.weight"),
    "PEFT, named": (
        f"base_model.model.{Q}.lora_",
        "B.default.weight",
        "A.default.weight",
    ),
    "ComfyUI": (f"diffusion_model.{SGM_Q}.lora_", "up.weight", "down.weight"),
    "LyCORIS": (f"lycoris_{flat(Q)}.lora_", "up.weight", "down.weight"),
    "OneTrainer": (f"lora_unet.{Q}.lora_", "up.weight", "down.weight"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_names_the_same_module(dialect, tmp_path):
    stem, up, down = DIALECTS[dialect]
    adapter = read_adapter(written(tmp_path, (stem + up, stem + down)), TINY)
    (entry,) = adapter.entries
    assert (entry.part, entry.module) == ("diffusion_model", Q)
    wanted = pair()["up"] @ pair()["down"]
    np.testing.assert_allclose(entry.change.difference({}), wanted, atol=1e-6)
    assert not adapter.unused and adapter.ranks == (4,) and adapter.alphas == (4.0,)


@pytest.mark.parametrize(
    "stem, config, part",
    [
        (f"lora_te_{flat(TEXT_Q)}.lora_", TINY, "text_encoder"),
        (f"text_encoder.{TEXT_Q}.lora_linear_layer.", TINY, "text_encoder"),
        (f"lora_te1_{flat(TEXT_Q)}.lora_", TINY_SDXL, "text_encoder"),
        (f"base_model.model.{TEXT_Q}.lora_", TINY, "text_encoder"),
        (f"text_encoders.clip_l.transformer.{TEXT_Q}.lora_", TINY, "text_encoder"),
        (f"lora_te2_{flat(TEXT_Q)}.lora_", TINY_SDXL, "text_encoder_2"),
        (f"text_encoder_2.{TEXT_Q}.lora_linear_layer.", TINY_SDXL, "text_encoder_2"),
        (f"base_model.model.{TEXT_Q}.lora_", TINY_SDXL, "text_encoder_2"),
        (f"clip_g.transformer.{TEXT_Q}.lora_", TINY_SDXL, "text_encoder_2"),
    ],
)
def test_text_encoders(stem, config, part, tmp_path):
    width = getattr(config, part).width
    keys = f"{stem}up.weight", f"{stem}down.weight"
    path = written(tmp_path, keys, outs=width, ins=width)
    (entry,) = read_adapter(path, config).entries
    assert (entry.part, entry.module) == (part, TEXT_Q)


def test_names_of_both_kinds_in_one_file(tmp_path):
    """diffusers 0.42 maps a file as a whole, and loses the half of another kind."""
    tensors = {}
    for stem in (
        f"lora_unet_{flat(SGM_Q)}",
        f"lora_unet_{flat(OUT)}",
        f"unet.{TEXT_Q}",
    ):
        tensors |= {f"{stem}.lora_{k}.weight": v for k, v in pair().items()}
    tensors.pop(f"unet.{TEXT_Q}.lora_up.weight")
    tensors.pop(f"unet.{TEXT_Q}.lora_down.weight")
    tensors |= {
        f"unet.{OUT.replace('attn1', 'attn2')}.lora_{k}.weight": v
        for k, v in zip("BA", pair().values(), strict=True)
    }
    adapter = read_adapter(files.save(tmp_path, "mixed", tensors), TINY)
    assert len(adapter.entries) == 3 and not adapter.unused


@pytest.mark.parametrize(
    "name, module",
    [
        ("input_blocks_0_0", "conv_in"),
        ("out_2", "conv_out"),
        ("time_embed_0", "time_embedding.linear_1"),
        ("label_emb_0_2", "add_embedding.linear_2"),
        ("input_blocks_3_0_op", "down_blocks.0.downsamplers.0.conv"),
        ("input_blocks_6_0_op", "down_blocks.1.downsamplers.0.conv"),
        ("input_blocks_4_0_in_layers_2", "down_blocks.1.resnets.0.conv1"),
        ("input_blocks_4_0_out_layers_3", "down_blocks.1.resnets.0.conv2"),
        ("input_blocks_4_0_emb_layers_1", "down_blocks.1.resnets.0.time_emb_proj"),
        ("input_blocks_4_0_skip_connection", "down_blocks.1.resnets.0.conv_shortcut"),
        ("output_blocks_2_2_conv", "up_blocks.0.upsamplers.0.conv"),
        ("middle_block_1_proj_in", "mid_block.attentions.0.proj_in"),
    ],
)
def test_every_module_of_sdxl_in_the_original_names(name, module):
    (target,) = namespace(families.SDXL).find(f"lora_unet_{name}")
    assert target.module.name == module


@pytest.mark.parametrize(
    "config",
    [
        *(families.SD1, families.SD2, families.SDXL, families.SDXL_REFINER),
        *(families.BK_SDM_TINY, families.SSD_1B, families.SEGMIND_VEGA),
    ],
)
def test_flat_names_are_no_other_modules(config):
    """Where two modules had one flat name, one would be taken for the other."""
    names = namespace(config)
    for part, modules in names.modules.items():
        start = {"text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
        for name, module in modules.items():
            found = names.find(start.get(part, "lora_unet_") + flat(name))
            assert found[0].module is module and found[0].part == part


@pytest.mark.parametrize("alpha", [np.float16(8), np.ones(1, "float32") * 8])
def test_alpha_is_a_number_or_an_array_of_one(alpha, tmp_path):
    tensors = files.kohya(layers=("attn1",))
    tensors = {
        key: np.asarray(alpha) if key.endswith("alpha") else value
        for key, value in tensors.items()
    }
    adapter = read_adapter(files.save(tmp_path, "x", tensors), TINY)
    assert adapter.alphas == (8.0,)


def test_settings_in_the_header(tmp_path):
    stated = {
        **{"unet.r": 4, "unet.lora_alpha": 8, "unet.alpha_pattern": {"attn2.to_q": 2}},
        "text_encoder.r": 4,
        "text_encoder.lora_alpha": 1,
    }
    second = Q.replace("attn1", "attn2")
    tensors = {}
    for stem in (f"unet.{Q}", f"unet.{second}", f"text_encoder.{TEXT_Q}"):
        tensors[f"{stem}.lora_A.weight"] = pair()["down"]
        tensors[f"{stem}.lora_B.weight"] = pair()["up"]
    path = files.save(tmp_path, "x", tensors, {METADATA_KEY: json.dumps(stated)})
    scales = {
        entry.module: entry.change.scale for entry in read_adapter(path, TINY).entries
    }
    assert scales == {Q: 2.0, second: 0.5, TEXT_Q: 0.25}


@pytest.mark.parametrize("ins, config", [(4, 9), (9, 4)])
def test_the_first_convolution_of_an_inpainting_model(ins, config, tmp_path):
    own = families.with_channels(TINY, config)
    up, down = files.lora(np.random.default_rng(0), (32, ins, 3, 3))
    tensors = {
        "lora_unet_conv_in.lora_up.weight": up,
        "lora_unet_conv_in.lora_down.weight": down,
    }
    (entry,) = read_adapter(files.save(tmp_path, "x", tensors), own).entries
    found = entry.change.difference({})
    whole = np.einsum("orxy,rihw->oihw", up, down)
    assert found.shape == (32, config, 3, 3) and not found[:, 4:].any()
    np.testing.assert_allclose(found[:, :4], whole[:, :4], atol=1e-5)


@pytest.mark.parametrize("name", ["proj_in", "proj_out"])
@pytest.mark.parametrize("config, sides", [(TINY, ()), (TINY_SD2, (1, 1))])
def test_projections_are_dense_or_1x1_in_either_model(name, config, sides, tmp_path):
    stem = f"lora_unet_down_blocks_0_attentions_0_{name}"
    tensors = {
        f"{stem}.lora_up.weight": pair()["up"].reshape(32, 4, *sides),
        f"{stem}.lora_down.weight": pair()["down"].reshape(4, 32, *sides),
    }
    (entry,) = read_adapter(files.save(tmp_path, "x", tensors), config).entries
    assert entry.change.difference({}).size == 32 * 32


def test_comfyuis_flat_convolutions_and_biases(tmp_path):
    up, down = files.lora(np.random.default_rng(0), (32, 32, 3, 3))
    stem = "diffusion_model.input_blocks.1.0.in_layers.2"
    tensors = {
        f"{stem}.lora_up.weight": up.reshape(32, 4),
        f"{stem}.lora_down.weight": down.reshape(4, -1),
        f"{stem}.alpha": np.ones((), "float32"),
        f"{stem}.diff_b": np.ones(32, "float32"),
        "diffusion_model.input_blocks.1.0.in_layers.0.diff": np.ones(32, "float32"),
    }
    adapter = read_adapter(files.save(tmp_path, "x", tensors), TINY)
    found = {entry.tensor: entry.change.difference({}) for entry in adapter.entries}
    whole = np.einsum("orxy,rihw->oihw", up, down) / 4
    start = "down_blocks.0.resnets.0"
    np.testing.assert_allclose(found[f"{start}.conv1.weight"], whole, atol=1e-6)
    assert (found[f"{start}.conv1.bias"] == 1).all()
    assert (found[f"{start}.norm1.weight"] == 1).all() and not adapter.unused


def test_openclips_fused_attention_is_taken_apart(tmp_path):
    up, down = files.lora(np.random.default_rng(0), (120, 40))
    stem = "lora_te2_transformer_resblocks_1_attn_in_proj"
    tensors = {f"{stem}.lora_up.weight": up, f"{stem}.lora_down.weight": down}
    adapter = read_adapter(files.save(tmp_path, "x", tensors), TINY_SDXL)
    found = {entry.module.rsplit(".")[-1]: entry for entry in adapter.entries}
    assert list(found) == ["q_proj", "k_proj", "v_proj"]
    for i, entry in enumerate(found.values()):
        wanted = (up @ down)[40 * i : 40 * (i + 1)]
        np.testing.assert_allclose(entry.change.difference({}), wanted, atol=1e-6)


def shapes_of(config, sgm=False):
    """The shapes of a LoRA of rank 8 of all attentions."""
    found = {}
    for part, modules in namespace(config).modules.items():
        for name, module in modules.items():
            if re.search(r"attn\d?\.(to_|[qkv]_|out_)", name):
                spelled = name
                if sgm and part == "diffusion_model":
                    spelled = module.original.removeprefix("model.diffusion_model.")
                start = {"text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
                stem = start.get(part, "lora_unet_") + flat(spelled)
                outs, ins = module.shapes["weight"]
                found[f"{stem}.lora_up.weight"] = (outs, 8)
                found[f"{stem}.lora_down.weight"] = (8, ins)
                found[f"{stem}.alpha"] = ()
    return found


@pytest.mark.parametrize(
    "config, sgm, modules",
    # As many as kohya's trainer makes of these families' attentions.
    [(families.SD1, False, 128 + 48), (families.SDXL, True, 560 + 48 + 128)],
)
def test_files_of_whole_families_resolve_with_nothing_left_over(config, sgm, modules):
    shapes = shapes_of(config, sgm)
    found = outline(shapes, namespace(config))
    assert len(found.groups) == modules == len(shapes) // 3
    assert not (found.unused or found.broken or found.misfits)
