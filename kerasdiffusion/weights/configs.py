"""Diffusers' JSON files and our configurations, each from the other.

A field that we have no place for is accepted at the value that our networks are built
for, and refused by name at any other: nothing is silently ignored.

Reference:
    diffusers `models/unets/unet_2d_condition.py` and `models/autoencoders/
    autoencoder_kl.py` for the fields and their defaults.
"""

from __future__ import annotations

from collections.abc import Mapping

from kerasdiffusion.config import (
    AutoencoderConfig,
    DiffusionModelConfig,
    ScheduleConfig,
    TextEncoderConfig,
)
from kerasdiffusion.weights.base import WeightsError

DIFFUSERS_VERSION = "0.30.0"  # whose fields we write

# Fields with one possible value here: what diffusers takes where they are absent.
UNET_FIXED = {
    "act_fn": "silu",
    "addition_embed_type": None,
    "addition_embed_type_num_heads": 64,
    "addition_time_embed_dim": None,
    "attention_type": "default",
    "center_input_sample": False,
    "class_embed_type": None,
    "class_embeddings_concat": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_norm": None,
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_only_cross_attention": None,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "norm_eps": 1e-5,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "projection_class_embeddings_input_dim": None,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "reverse_transformer_layers_per_block": None,
    "time_cond_proj_dim": None,
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
}
VAE_FIXED = {
    "act_fn": "silu",
    "latents_mean": None,
    "latents_std": None,
    "mid_block_add_attention": True,
    "shift_factor": None,
    "use_post_quant_conv": True,
    "use_quant_conv": True,
}
TEXT_ENCODER_FIXED = {
    "layer_norm_eps": 1e-5,
    "model_type": "clip_text_model",
}
SCHEDULER_FIXED = {
    "thresholding": False,
    "trained_betas": None,
    "use_flow_sigmas": False,
    "variance_type": None,
}

# What does not change what the trained network is: training, precision, sampling.
UNET_FREE = {"dropout", "sample_size", "upcast_attention"}
VAE_FREE = {"force_upcast", "sample_size"}
SCHEDULERS = (
    "DDIMScheduler DDPMScheduler PNDMScheduler LMSDiscreteScheduler "
    "EulerDiscreteScheduler EulerAncestralDiscreteScheduler HeunDiscreteScheduler "
    "DPMSolverMultistepScheduler DPMSolverSinglestepScheduler UniPCMultistepScheduler "
    "DEISMultistepScheduler KDPM2DiscreteScheduler KDPM2AncestralDiscreteScheduler "
    "DPMSolverSDEScheduler LCMScheduler TCDScheduler"
).split()


class _Fields:
    """One JSON file's fields, each taken once; what is left over is checked."""

    def __init__(self, values: Mapping, where: str):
        self.values, self.where = dict(values), where

    def take(self, name: str, default=None):
        value = self.values.pop(name, None)
        return default if value is None else value

    def need(self, name: str):
        if name not in self.values:
            raise WeightsError(f"The field {name!r} is needed. Received: {self.where}")
        return self.values.pop(name)

    def refuse(self, name: str, value):
        raise WeightsError(
            f"The field {name!r} has a value that is not supported. Received: "
            f"{value!r} in {self.where}"
        )

    def finish(self, fixed: Mapping, free=()) -> None:
        """Refuse what the networks here cannot represent."""
        for name, value in self.values.items():
            if name.startswith("_") or name in free:
                continue
            # A new field of a later version is harmless where it is off.
            if value != fixed[name] if name in fixed else value:
                self.refuse(name, value)


def _per_level(fields: _Fields, name: str, value, levels: int) -> tuple[int, ...]:
    """One number a level from a field that holds one number or a list."""
    values = value if isinstance(value, (list, tuple)) else [value] * levels
    if len(values) != levels or not all(
        type(number) is int and number > 0 for number in values
    ):
        fields.refuse(name, value)
    return tuple(values)


def _same(fields: _Fields, name: str, value):
    """The one value of a field that may be a list of equal ones."""
    values = value if isinstance(value, (list, tuple)) else [value]
    if not values or any(item != values[0] for item in values):
        fields.refuse(name, value)
    return values[0]


def unet_from_json(values: Mapping, where: str = "unet") -> DiffusionModelConfig:
    """The U-Net that diffusers' `unet/config.json` describes.

    Args:
        values: The JSON object.
        where: Its file, for messages.

    Returns:
        A `DiffusionModelConfig`.

    Raises:
        WeightsError: Naming the field, where it describes something else.
    """
    fields = _Fields(values, where)
    widths = tuple(fields.take("block_out_channels", (320, 640, 1280, 1280)))
    levels = len(widths)
    down = fields.take(
        "down_block_types", ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
    )
    up = fields.take("up_block_types", ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3)
    if len(down) != levels or not set(down) <= {"CrossAttnDownBlock2D", "DownBlock2D"}:
        fields.refuse("down_block_types", down)
    if list(up) != [block.replace("Down", "Up") for block in reversed(down)]:
        fields.refuse("up_block_types", up)
    depth = fields.take("transformer_layers_per_block", 1)
    depths = _per_level(fields, "transformer_layers_per_block", depth, levels)
    heads = fields.take("attention_head_dim", 8)
    heads = fields.take("num_attention_heads", heads)
    config = DiffusionModelConfig(
        in_channels=fields.take("in_channels", 4),
        out_channels=fields.take("out_channels", 4),
        block_widths=widths,
        blocks_per_level=_same(
            fields, "layers_per_block", fields.take("layers_per_block", 2)
        ),
        transformer_depths=tuple(
            depth if block.startswith("CrossAttn") else 0
            for block, depth in zip(down, depths, strict=True)
        ),
        mid_transformer_depth=depths[-1],
        heads=_per_level(fields, "attention_head_dim", heads, levels),
        context_width=_same(
            fields, "cross_attention_dim", fields.take("cross_attention_dim", 1280)
        ),
        linear_projection=bool(fields.take("use_linear_projection", False)),
        norm_groups=fields.take("norm_num_groups", 32),
    )
    fields.finish(UNET_FIXED, UNET_FREE)
    return config


def unet_to_json(config: DiffusionModelConfig, sample_size=None) -> dict:
    """Diffusers' `unet/config.json` of a U-Net.

    Args:
        config: A `DiffusionModelConfig`.
        sample_size: Side of the latents that pictures have by default, or (height,
            width).

    Returns:
        A JSON object.

    Raises:
        ValueError: If diffusers has no field for something.
    """
    down = [
        "CrossAttnDownBlock2D" if depth else "DownBlock2D"
        for depth in config.transformer_depths
    ]
    # Diffusers gives the middle block the depth of the last level.
    depths = [depth or 1 for depth in config.transformer_depths]
    if not config.transformer_depths[-1]:
        depths[-1] = config.mid_transformer_depth
    if depths[-1] != config.mid_transformer_depth or not config.mid_transformer_depth:
        raise ValueError(
            "In diffusers' layout the middle block is as deep as the last level. "
            f"Received: mid_transformer_depth={config.mid_transformer_depth}, "
            f"transformer_depths={config.transformer_depths}"
        )
    heads = list(config.heads)
    return {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": DIFFUSERS_VERSION,
        "act_fn": "silu",
        "attention_head_dim": heads[0] if len(set(heads)) == 1 else heads,
        "block_out_channels": list(config.block_widths),
        "center_input_sample": False,
        "cross_attention_dim": config.context_width,
        "down_block_types": down,
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": config.in_channels,
        "layers_per_block": config.blocks_per_level,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-5,
        "norm_num_groups": config.norm_groups,
        "out_channels": config.out_channels,
        "sample_size": sample_size,
        "transformer_layers_per_block": (
            depths[0] if len(set(depths)) == 1 else depths
        ),
        "up_block_types": [block.replace("Down", "Up") for block in reversed(down)],
        "use_linear_projection": config.linear_projection,
    }


def vae_from_json(values: Mapping, where: str = "vae") -> AutoencoderConfig:
    """The autoencoder that diffusers' `vae/config.json` describes.

    Arguments, result and errors are those of `unet_from_json`.
    """
    fields = _Fields(values, where)
    widths = tuple(fields.take("block_out_channels", (64,)))
    for name, block in (
        ("down_block_types", "DownEncoderBlock2D"),
        ("up_block_types", "UpDecoderBlock2D"),
    ):
        blocks = fields.take(name, [block])
        if list(blocks) != [block] * len(widths):
            fields.refuse(name, blocks)
    channels = fields.take("in_channels", 3)
    outs = fields.take("out_channels", 3)
    if outs != channels:
        fields.refuse("out_channels", outs)
    config = AutoencoderConfig(
        image_channels=channels,
        latent_channels=fields.take("latent_channels", 4),
        block_widths=widths,
        blocks_per_level=fields.take("layers_per_block", 1),
        norm_groups=fields.take("norm_num_groups", 32),
        scale_factor=fields.take("scaling_factor", 0.18215),
    )
    fields.finish(VAE_FIXED, VAE_FREE)
    return config


def vae_to_json(config: AutoencoderConfig, sample_size: int = 512) -> dict:
    """Diffusers' `vae/config.json` of an autoencoder."""
    levels = len(config.block_widths)
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": DIFFUSERS_VERSION,
        "act_fn": "silu",
        "block_out_channels": list(config.block_widths),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "in_channels": config.image_channels,
        "latent_channels": config.latent_channels,
        "layers_per_block": config.blocks_per_level,
        "norm_num_groups": config.norm_groups,
        "out_channels": config.image_channels,
        "sample_size": sample_size,
        "scaling_factor": config.scale_factor,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
    }


def text_encoder_from_json(
    values: Mapping, where: str = "text_encoder"
) -> TextEncoderConfig:
    """The text encoder that transformers' `text_encoder/config.json` describes.

    Arguments, result and errors are those of `unet_from_json`.
    """
    fields = _Fields(values, where)
    for name in fields.take("architectures", []):
        if name not in ("CLIPTextModel", "CLIPModel"):
            fields.refuse("architectures", name)
    config = TextEncoderConfig(
        vocabulary_size=fields.take("vocab_size", 49408),
        context_length=fields.take("max_position_embeddings", 77),
        width=fields.take("hidden_size", 512),
        depth=fields.take("num_hidden_layers", 12),
        heads=fields.take("num_attention_heads", 8),
        mlp_width=fields.take("intermediate_size", 2048),
        activation=fields.take("hidden_act", "quick_gelu"),
    )
    if config.activation not in ("quick_gelu", "gelu"):
        fields.refuse("hidden_act", config.activation)
    # The rest of transformers' fields speak of training, generation and other models.
    fields.finish(TEXT_ENCODER_FIXED, set(fields.values) - set(TEXT_ENCODER_FIXED))
    return config


def text_encoder_to_json(config: TextEncoderConfig) -> dict:
    """Transformers' `text_encoder/config.json` of a text encoder."""
    return {
        "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": config.vocabulary_size - 2,
        "eos_token_id": config.vocabulary_size - 1,
        "hidden_act": config.activation,
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": config.context_length,
        "model_type": "clip_text_model",
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.depth,
        "pad_token_id": config.vocabulary_size - 1,
        "projection_dim": config.width,
        "vocab_size": config.vocabulary_size,
    }


def schedule_from_json(values: Mapping, where: str = "scheduler") -> ScheduleConfig:
    """The noise that diffusers' `scheduler/scheduler_config.json` describes.

    Arguments, result and errors are those of `unet_from_json`.
    """
    fields = _Fields(values, where)
    name = fields.take("_class_name", "PNDMScheduler")
    if name not in SCHEDULERS:
        fields.refuse("_class_name", name)
    config = ScheduleConfig(
        beta_schedule=fields.take("beta_schedule", "linear"),
        beta_start=fields.take("beta_start", 0.0001),
        beta_end=fields.take("beta_end", 0.02),
        train_steps=fields.take("num_train_timesteps", 1000),
        prediction_type=fields.take("prediction_type", "epsilon"),
        # Diffusers' Stable Diffusion pipelines set it to 1 whatever the file says.
        steps_offset=1,
        final_alpha_one=bool(fields.take("set_alpha_to_one", name == "DDIMScheduler")),
        timestep_spacing=fields.take("timestep_spacing"),
        rescale_zero_terminal_snr=bool(fields.take("rescale_betas_zero_snr", False)),
    )
    if config.beta_schedule not in ("scaled_linear", "linear"):
        fields.refuse("beta_schedule", config.beta_schedule)
    if config.prediction_type not in ("epsilon", "v_prediction", "sample"):
        fields.refuse("prediction_type", config.prediction_type)
    variance = fields.take("variance_type", "")
    if variance.startswith("learned"):
        fields.refuse("variance_type", variance)
    fields.finish(SCHEDULER_FIXED, set(fields.values) - set(SCHEDULER_FIXED))
    return config


def schedule_to_json(config: ScheduleConfig) -> dict:
    """Diffusers' `scheduler/scheduler_config.json` of a schedule: DDIM's."""
    if config.steps_offset != 1:
        raise ValueError(
            f"Diffusers knows `steps_offset` 1 only. Received: {config.steps_offset}"
        )
    spacing = config.timestep_spacing and {"timestep_spacing": config.timestep_spacing}
    return {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": DIFFUSERS_VERSION,
        "beta_end": config.beta_end,
        "beta_schedule": config.beta_schedule,
        "beta_start": config.beta_start,
        "clip_sample": False,
        "num_train_timesteps": config.train_steps,
        "prediction_type": config.prediction_type,
        "rescale_betas_zero_snr": config.rescale_zero_terminal_snr,
        "set_alpha_to_one": config.final_alpha_one,
        "steps_offset": 1,
        "trained_betas": None,
        **(spacing or {}),
    }
