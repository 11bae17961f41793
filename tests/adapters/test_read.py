"""Dialects, families and broken files: what is read, what is refused, and how."""

import json
import re

import numpy as np
import pytest

from kerasdiffusion.adapters.namespaces import namespace
from kerasdiffusion.adapters.outline import outline
from kerasdiffusion.adapters.read import read_adapter
from kerasdiffusion.adapters.settings import METADATA_KEY
from kerasdiffusion.adapters.telling import describe_file
from kerasdiffusion.presets import families
from kerasdiffusion.weights.base import WeightsError
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


@pytest.mark.parametrize(
    "theirs, name",
    [
        (families.SDXL, "SDXL"),
        (families.SD2, "Stable Diffusion 2"),
        (families.SDXL_REFINER, "SDXL's refiner"),
    ],
)
def test_files_for_another_family_say_for_which(theirs, name, tmp_path):
    shapes = shapes_of(theirs, sgm=name == "SDXL")
    some = {
        key: np.zeros(shape, "float16") for key, shape in list(shapes.items())[:300]
    }
    path = files.save(tmp_path, "other", some)
    match = f"The adapter is for {name}, and the model is Stable Diffusion 1"
    with pytest.raises(WeightsError, match=match):
        read_adapter(path, families.SD1)


@pytest.mark.parametrize(
    "key, match",
    [
        ("lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight", "is for Flux"),
        ("transformer.transformer_blocks.0.attn.to_q.lora_A.weight", "Diffusion 3"),
        ("model.layers.0.self_attn.q_proj.lora_A.weight", "a language model"),
        ("lora_unet_conv_in.q_layer.weight", "T-LoRA"),
        ("lora_unet_conv_in.set_weight", "another shape or value"),
        ("base_model.model.conv_in.hra_u", "of a kind of PEFT's"),
        ("base_model.model.conv_in.lora_E.default", "of a kind of PEFT's"),
        ("base_model.model.conv_in.vera_lambda_b.default", "of a kind of PEFT's"),
        ("base_model.model.conv_norm_out.ln_tuning_layers.weight", "kind of PEFT's"),
        ("lora_controlnet", "is for Control-LoRA"),
        ("lllite_unet_input_blocks_1_1.down.0.weight", "ControlNet-LLLite"),
        ("controlnet_down_blocks.0.lora_A.weight", "control_network"),
        ("nothing.that.means.anything", "none of its 1 names means one"),
    ],
)
def test_strangers_are_named(key, match, tmp_path):
    path = files.save(tmp_path, "x", {key: np.zeros((4, 4), "float32")})
    with pytest.raises(WeightsError, match=match):
        read_adapter(path, TINY)


FLUX = "lora_unet_double_blocks_0_img_attn_proj"


@pytest.mark.parametrize("config", [families.SD1, families.SDXL])
def test_a_text_encoder_that_others_have_too_is_not_taken_for_a_half(config, tmp_path):
    """Flux and Stable Diffusion 3 have CLIP's, whose layers fit by name and size."""
    stem = f"lora_te1_{flat(TEXT_Q)}"
    tensors = {
        f"{FLUX}.lora_up.weight": np.zeros((3072, 4), "float32"),
        f"{FLUX}.lora_down.weight": np.zeros((4, 3072), "float32"),
        f"{stem}.lora_up.weight": np.zeros((768, 4), "float32"),
        f"{stem}.lora_down.weight": np.zeros((4, 768), "float32"),
    }
    path = files.save(tmp_path, "x", tensors)
    with pytest.raises(WeightsError, match="is for Flux, and the model is"):
        read_adapter(path, config)
    assert describe_file(path)["for"] == "Flux"


def broken(**changed):
    stem = f"lora_unet_{flat(Q)}"
    tensors = {
        f"{stem}.lora_up.weight": pair()["up"],
        f"{stem}.lora_down.weight": pair()["down"],
        f"{stem}.alpha": np.ones((), "float32"),
    }
    for name, value in changed.items():
        key = f"{stem}.{name.replace('__', '.')}"
        tensors.pop(key, None)
        if value is not None:
            tensors[key] = value
    return tensors


@pytest.mark.parametrize(
    "changed, match",
    [
        ({"lora_up__weight": np.zeros((32, 0), "float32"),
          "lora_down__weight": np.zeros((0, 32), "float32")}, "rank must be 1 or more"),
        ({"lora_up__weight": np.full((32, 4), np.nan, "float32")}, "must be finite"),
        ({"alpha": np.array(np.inf, "float32")}, "must be finite"),
        ({"alpha": np.array(1e30, "float32")}, "alpha over rank must be a number"),
        ({"alpha": np.zeros(2, "float32")}, "Alpha must be one number"),
        ({"lora_up__weight": np.zeros((31, 4), "float32")}, "does not fit"),
        ({"lora_up__weight": np.zeros((32, 5), "float32")}, "ranks of up"),
        ({"lora_up__weight": None}, "has down without up"),
        ({"lora_down__weight": None}, "has up without down"),
        ({"lora_up__weight": np.zeros(32, "float32")}, "must be matrices"),
        ({"lora_up__weight": np.zeros((32, 4), "bool")}, "must be floats"),
        ({"dora_scale": np.zeros((7, 1), "float32")}, "neither the outputs nor the"),
        ({"lora_mid__weight": np.zeros((3, 3, 1, 1), "float32")}, "the core"),
    ],
    ids=str,
)  # fmt: skip
def test_broken_files_have_one_clear_error(changed, match, tmp_path):
    path = files.save(tmp_path, "x", broken(**changed))
    with pytest.raises(WeightsError, match=match):
        read_adapter(path, TINY)


def test_one_tensor_twice_and_broken_settings(tmp_path):
    twice = broken()
    twice[f"unet.{Q}.lora.up.weight"] = pair()["up"]
    with pytest.raises(WeightsError, match="one tensor twice"):
        read_adapter(files.save(tmp_path, "x", twice), TINY)
    for text, match in (
        ("[" * 10**4, "JSON text"),
        ('{"r": "x"}', "a number as rank"),
        ('{"r": 4, "use_qalora": true}', "QALoRA.*merge_and_unload"),
        ('{"r": 4, "modules_to_save": ["conv_in"]}', "whole layers"),
        ('{"r": 4, "bias": "all"}', "biases that were trained"),
    ):
        path = files.save(tmp_path, "y", broken(alpha=None), {METADATA_KEY: text})
        with pytest.raises(WeightsError, match=match):
            read_adapter(path, TINY)


@pytest.mark.parametrize("cut", [4, 20, -8])
def test_a_file_that_was_cut_is_refused(cut, tmp_path):
    path = files.save(tmp_path, "x", broken())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(WeightsError, match="truncated"):
        read_adapter(path, TINY)


def test_pickles_of_tensors_are_read_and_those_of_more_refused(tmp_path):
    import torch

    tensors = {key: torch.from_numpy(value) for key, value in broken().items()}
    torch.save(tensors, tmp_path / "x.pt")
    assert len(read_adapter(tmp_path / "x.pt", TINY).entries) == 1
    torch.save({**tensors, "x": print}, tmp_path / "y.pt")
    with pytest.raises(WeightsError, match="tensors and nothing else.*print.*not run"):
        read_adapter(tmp_path / "y.pt", TINY)
