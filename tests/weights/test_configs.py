"""Diffusers' JSON files and our configurations, each from the other."""

import json
from dataclasses import replace

import pytest

from kerasdiffusion.presets.config import (
    AutoencoderConfig,
    DiffusionModelConfig,
    ScheduleConfig,
    TextEncoderConfig,
    TinyAutoencoderConfig,
)
from kerasdiffusion.presets.families import SD1
from kerasdiffusion.presets.named import PRESETS
from kerasdiffusion.weights import WeightsError
from kerasdiffusion.weights.configs import (
    text_encoder_from_json,
    text_encoder_to_json,
    vae_from_json,
    vae_to_json,
)
from kerasdiffusion.weights.folders import read_folder, write_configs
from kerasdiffusion.weights.schedule_json import (
    schedule_from_json,
    schedule_to_json,
)
from kerasdiffusion.weights.unet_json import unet_from_json, unet_to_json
from tests.weights.geometries import NARROW, WIDE

# As published in CompVis/stable-diffusion-v1-4.
SD1_FILES = {
    "model_index.json": {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.2.2",
        "scheduler": ["diffusers", "PNDMScheduler"],
        "unet": ["diffusers", "UNet2DConditionModel"],
    },
    "unet/config.json": {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": "0.2.2",
        "act_fn": "silu",
        "attention_head_dim": 8,
        "block_out_channels": [320, 640, 1280, 1280],
        "center_input_sample": False,
        "cross_attention_dim": 768,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": 4,
        "layers_per_block": 2,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-05,
        "norm_num_groups": 32,
        "out_channels": 4,
        "sample_size": 64,
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    },
    "vae/config.json": {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": "0.2.2",
        "act_fn": "silu",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": 2,
        "out_channels": 3,
        "sample_size": 512,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    },
    "text_encoder/config.json": {
        "_name_or_path": "openai/clip-vit-large-patch14",
        "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "dropout": 0.0,
        "eos_token_id": 2,
        "hidden_act": "quick_gelu",
        "hidden_size": 768,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 77,
        "model_type": "clip_text_model",
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "pad_token_id": 1,
        "torch_dtype": "float32",
        "transformers_version": "4.21.0.dev0",
        "vocab_size": 49408,
    },
    "scheduler/scheduler_config.json": {
        "_class_name": "PNDMScheduler",
        "_diffusers_version": "0.7.0.dev0",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
        "clip_sample": False,
    },
}


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))


def test_reads_the_published_folder_of_sd_1(tmp_path):
    write(tmp_path, SD1_FILES)
    # Its pictures are made by its own scheduler, as diffusers' are.
    generation = replace(SD1.generation, sampler="pndm")
    assert read_folder(tmp_path) == SD1.replace(generation=generation)


FAMILIES = {name: preset.config for name, preset in PRESETS.items() if preset.config}


@pytest.mark.parametrize("name", [*FAMILIES, "wide", "narrow"])
def test_writes_what_it_reads(tmp_path, name):
    config = {"wide": WIDE, "narrow": NARROW, **FAMILIES}[name]
    write_configs(tmp_path, config)
    assert read_folder(tmp_path) == config


def test_the_size_of_pictures_comes_from_the_u_net(tmp_path):
    files = dict(SD1_FILES)
    files["unet/config.json"] = files["unet/config.json"] | {"sample_size": [96, 64]}
    write(tmp_path, files)
    generation = read_folder(tmp_path).generation
    assert (generation.height, generation.width) == (768, 512)


@pytest.mark.parametrize(
    ("convert", "values", "field"),
    [
        # unCLIP's, GLIGEN's and others' fields.
        (unet_from_json, {"addition_embed_type": "text_time"}, "addition_embed_type"),
        (unet_from_json, {"class_embed_type": "projection"}, "class_embed_type"),
        (unet_from_json, {"attention_type": "gated"}, "attention_type"),
        (unet_from_json, {"mid_block_type": "UNetMidBlock3D"}, "mid_block_type"),
        (unet_from_json, {"only_cross_attention": True}, "only_cross_attention"),
        (unet_from_json, {"only_cross_attention": [True]}, "only_cross_attention"),
        (unet_from_json, {"act_fn": "gelu"}, "act_fn"),
        (unet_from_json, {"norm_eps": 1e-6}, "norm_eps"),
        (unet_from_json, {"layers_per_block": [1, 2, 2]}, "layers_per_block"),
        (unet_from_json, {"attention_head_dim": [5, 10]}, "attention_head_dim"),
        (unet_from_json, {"down_block_types": ["KDownBlock2D"]}, "down_block_types"),
        (unet_from_json, {"up_block_types": ["UpBlock2D"] * 4}, "up_block_types"),
        (unet_from_json, {"field_of_next_year": 3}, "field_of_next_year"),
        (vae_from_json, {"shift_factor": 0.1}, "shift_factor"),
        (vae_from_json, {"use_quant_conv": False}, "use_quant_conv"),
        (vae_from_json, {"latents_mean": [0.0] * 3}, "latents_mean"),
        (vae_from_json, {"out_channels": 4}, "out_channels"),
        (vae_from_json, {"down_block_types": ["X"]}, "down_block_types"),
        (text_encoder_from_json, {"hidden_act": "relu"}, "hidden_act"),
        (text_encoder_from_json, {"layer_norm_eps": 1e-6}, "layer_norm_eps"),
        (text_encoder_from_json, {"model_type": "t5"}, "model_type"),
        (
            text_encoder_from_json,
            {"architectures": ["CLIPVisionModel"]},
            "architectures",
        ),
        (schedule_from_json, {"_class_name": "VQDiffusionScheduler"}, "_class_name"),
        (
            schedule_from_json,
            {"_class_name": "EDMEulerScheduler", "prediction_type": "sample"},
            "prediction_type",
        ),
        (schedule_from_json, {"trained_betas": [0.1, 1.0]}, "trained_betas"),
        (schedule_from_json, {"trained_betas": "x"}, "trained_betas"),
        (schedule_from_json, {"trained_betas": [0.1]}, "num_train_timesteps"),
        (schedule_from_json, {"num_train_timesteps": 0}, "num_train_timesteps"),
        (schedule_from_json, {"beta_start": float("nan")}, "beta_start"),
        (schedule_from_json, {"_class_name": []}, "_class_name"),
        (schedule_from_json, {"timestep_type": "odd"}, "timestep_type"),
        (vae_from_json, {"scaling_factor": float("nan")}, "scaling_factor"),
        (vae_from_json, {"scaling_factor": 0}, "scaling_factor"),
        (vae_from_json, {"scaling_factor": "0.18"}, "scaling_factor"),
        (vae_from_json, {"latents_std": [1.0, 1.0, 0.0, 1.0]}, "latents_std"),
        (unet_from_json, {"block_out_channels": 320}, "block_out_channels"),
        (unet_from_json, {"block_out_channels": [[], {}]}, "block_out_channels"),
        (unet_from_json, {"down_block_types": [[[]]] * 4}, "down_block_types"),
        (unet_from_json, {"mid_block_type": [[]]}, "mid_block_type"),
        (unet_from_json, {"in_channels": "4"}, "in_channels"),
        (unet_from_json, {"in_channels": True}, "in_channels"),
        (text_encoder_from_json, {"num_attention_heads": 7}, "num_attention_heads"),
        (text_encoder_from_json, {"architectures": 3}, "architectures"),
        (schedule_from_json, {"beta_schedule": "sigmoid"}, "beta_schedule"),
        (schedule_from_json, {"beta_schedule": ["linear"]}, "beta_schedule"),
        (schedule_from_json, {"prediction_type": "flow"}, "prediction_type"),
        (schedule_from_json, {"variance_type": "learned_range"}, "variance_type"),
    ],
)
def test_names_the_field_that_it_cannot_represent(convert, values, field):
    with pytest.raises(WeightsError, match=f"{field}.*not supported.*in some/file"):
        convert(values, "some/file")


@pytest.mark.parametrize(
    ("convert", "values"),
    [
        (unet_from_json, {"class_embed_type": None, "upcast_attention": True}),
        (unet_from_json, {"field_of_next_year": None, "dual_cross_attention": False}),
        (vae_from_json, {"mid_block_add_attention": True}),
        (schedule_from_json, {"use_karras_sigmas": True, "solver_order": 2}),
        # Of what was trained with a moving average (SDXL's inpainting model).
        (unet_from_json, {"decay": 0.9999, "inv_gamma": 1.0, "power": 0.75}),
        (unet_from_json, {"min_decay": 0.0, "optimization_step": 37000}),
        (unet_from_json, {"update_after_step": 0, "use_ema_warmup": False}),
        (vae_from_json, {"decay": 0.9999, "optimization_step": 5}),
    ],
)
def test_takes_fields_at_the_value_that_it_is_built_for(convert, values):
    assert convert(values) == convert({})


def test_whether_float16_holds_the_autoencoders_values():
    assert vae_from_json({"force_upcast": True}).force_upcast
    assert not vae_from_json({}).force_upcast
    assert vae_from_json({}, force_upcast=True).force_upcast  # the family's
    assert not vae_from_json({"force_upcast": False}, force_upcast=True).force_upcast
    with pytest.raises(WeightsError, match="force_upcast.*not supported.*in some/file"):
        vae_from_json({"force_upcast": "yes"}, "some/file")


@pytest.mark.parametrize(
    ("convert", "values", "rule"),
    [
        (unet_from_json, {"layers_per_block": 10**9}, "at most 100 layers"),
        (unet_from_json, {"transformer_layers_per_block": 10**9}, "at most 100 layers"),
        (unet_from_json, {"block_out_channels": [320] * 17}, "at most 16 levels"),
        (unet_from_json, {"block_out_channels": [10**9]}, "at most 65536 channels"),
        (unet_from_json, {"cross_attention_dim": 10**9}, "at most 65536 channels"),
        (unet_from_json, {"attention_head_dim": 10**9}, "at most 65536 channels"),
        (unet_from_json, {"num_class_embeds": 10**9}, "at most 100000 training steps"),
        (vae_from_json, {"layers_per_block": 10**9}, "at most 100 layers"),
        (vae_from_json, {"latent_channels": 10**9}, "at most 65536 channels"),
        (
            vae_from_json,
            {"_class_name": "AutoencoderTiny", "num_encoder_blocks": [10**9] * 4},
            "at most",
        ),
        (text_encoder_from_json, {"num_hidden_layers": 10**9}, "at most 100 layers"),
        (text_encoder_from_json, {"vocab_size": 10**9}, "at most 2097152 tokens"),
        (text_encoder_from_json, {"hidden_size": 10**9}, "at most 65536 channels"),
        (
            text_encoder_from_json,
            {"max_position_embeddings": 10**9},
            "at most 16384 tokens",
        ),
        (schedule_from_json, {"num_train_timesteps": 10**9}, "at most 100000"),
        (schedule_from_json, {"trained_betas": [0.1] * 100_001}, "at most 100000"),
    ],
)
def test_counts_have_limits(convert, values, rule):
    with pytest.raises(WeightsError, match=f"{rule}.*Received: .*some/file"):
        convert(values, "some/file")


def test_the_offset_of_steps_is_what_diffusers_pipelines_make_it():
    assert schedule_from_json({"steps_offset": 0}).steps_offset == 1
    for offset in (0, 1, 3):
        values = {"steps_offset": offset}
        assert schedule_from_json(values, "", None).steps_offset == offset
    assert schedule_from_json({}, "", None).steps_offset == 0


def test_empty_files_have_the_defaults_of_diffusers():
    assert unet_from_json({}) == DiffusionModelConfig(context_width=1280)
    assert vae_from_json({}) == AutoencoderConfig(
        block_widths=(64,), blocks_per_level=1
    )
    assert schedule_from_json({}) == ScheduleConfig("linear", 0.0001, 0.02)
    assert schedule_from_json({"_class_name": "DDIMScheduler"}).final_alpha_one


@pytest.mark.parametrize(
    ("to_json", "from_json", "config"),
    [
        (unet_to_json, unet_from_json, DiffusionModelConfig(linear_projection=True)),
        (
            unet_to_json,
            unet_from_json,
            DiffusionModelConfig(
                block_widths=(320, 640, 1280),
                transformer_depths=(0, 2, 10),
                mid_transformer_depth=10,
                heads=(5, 10, 20),
            ),
        ),
        (vae_to_json, vae_from_json, AutoencoderConfig(force_upcast=True)),
        (vae_to_json, vae_from_json, AutoencoderConfig(scale_factor=0.13025)),
        (vae_to_json, vae_from_json, TinyAutoencoderConfig(width=32)),
        (schedule_to_json, schedule_from_json, ScheduleConfig(zero_terminal_snr=True)),
        (text_encoder_to_json, text_encoder_from_json, TextEncoderConfig(depth=3)),
        (schedule_to_json, schedule_from_json, ScheduleConfig(final_alpha_one=True)),
        (
            schedule_to_json,
            schedule_from_json,
            ScheduleConfig(beta_end=0.02, zero_terminal_snr=True),
        ),
    ],
)
def test_json_is_exact_both_ways(to_json, from_json, config):
    assert from_json(json.loads(json.dumps(to_json(config)))) == config


@pytest.mark.parametrize(
    ("to_json", "config", "message"),
    [
        (
            unet_to_json,
            DiffusionModelConfig(transformer_depths=(1,) * 4, mid_transformer_depth=3),
            "as deep as",
        ),
        (
            unet_to_json,
            DiffusionModelConfig(transformer_depths=(1, 1, 1, 2)),
            "as deep as the last level",
        ),
        (schedule_to_json, ScheduleConfig(steps_offset=0), "steps_offset"),
    ],
)
def test_says_what_diffusers_cannot_represent(to_json, config, message):
    with pytest.raises(ValueError, match=message):
        to_json(config)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "model_index.json",
            {"_class_name": "StableDiffusion3Pipeline"},
            "family.*Received: 'StableDiffusion3Pipeline'",
        ),
        ("model_index.json", [], "must hold a JSON object"),
        ("unet/config.json", None, "must hold a JSON object"),
        (
            "kerasdiffusion.json",
            {"generation": {"height": "large"}},
            "'height' must be like 512",
        ),
        ("kerasdiffusion.json", {"generation": {"depth": 1}}, "'depth' is unknown"),
    ],
)
def test_refuses_broken_folders(tmp_path, name, content, message):
    write(tmp_path, SD1_FILES | {name: content})
    with pytest.raises(WeightsError, match=message):
        read_folder(tmp_path)


def test_refuses_folders_that_are_no_model(tmp_path):
    with pytest.raises(WeightsError, match="no model_index.json and no unet/config"):
        read_folder(tmp_path)
    write(tmp_path, {"unet/config.json": {}})
    with pytest.raises(WeightsError, match="no autoencoder: pass one as `vae`"):
        read_folder(tmp_path)
    (tmp_path / "unet/config.json").write_text("{")
    with pytest.raises(WeightsError, match="must be JSON.*unet/config.json"):
        read_folder(tmp_path)
