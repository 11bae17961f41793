"""Diffusers' JSON files and our configurations, each from the other.

A field that we have no place for is accepted at the value that our networks are built
for, and refused by name at any other: nothing is silently ignored.

Reference:
    diffusers `models/unets/unet_2d_condition.py` and `models/autoencoders/
    autoencoder_kl.py` for the fields and their defaults.
"""

from __future__ import annotations

from collections.abc import Mapping

from kerasdiffusion.presets.config import (
    AutoencoderConfig,
    ScheduleConfig,
    TextEncoderConfig,
    TinyAutoencoderConfig,
)
from kerasdiffusion.weights.fields import DIFFUSERS_VERSION, Fields, per_level, same

# Fields with one possible value here: what diffusers takes where they are absent.
VAE_FIXED = {
    "act_fn": "silu",
    "mid_block_add_attention": True,
    "shift_factor": None,
    "use_post_quant_conv": True,
    "use_quant_conv": True,
}
TINY_VAE_FIXED = {
    "act_fn": "relu",
    "shift_factor": 0.0,
    "upsample_fn": "nearest",
    "upsampling_scaling_factor": 2,
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

# Fields that do not change what the trained network is: training, precision, sampling.
VAE_FREE = {"sample_size"}
SCHEDULERS = (
    "DDIMScheduler DDPMScheduler PNDMScheduler LMSDiscreteScheduler "
    "EulerDiscreteScheduler EulerAncestralDiscreteScheduler HeunDiscreteScheduler "
    "DPMSolverMultistepScheduler DPMSolverSinglestepScheduler UniPCMultistepScheduler "
    "DEISMultistepScheduler KDPM2DiscreteScheduler KDPM2AncestralDiscreteScheduler "
    "DPMSolverSDEScheduler LCMScheduler TCDScheduler EDMEulerScheduler "
    "EDMDPMSolverMultistepScheduler"
).split()

# What `timestep_spacing` may be: see `GenerationConfig.spacing`.
TIMESTEP_SPACINGS = ("leading", "linspace", "trailing")

# Whose `set_alpha_to_one` is true where it is not written.
ENDS_AT_ONE = ("DDIMScheduler", "LCMScheduler", "TCDScheduler")


def vae_from_json(
    values: Mapping, where: str = "vae", force_upcast: bool = False
) -> AutoencoderConfig | TinyAutoencoderConfig:
    """The autoencoder that diffusers' `vae/config.json` describes.

    `force_upcast` is what counts where the file does not say it. The other arguments,
    the result and the errors are those of `unet_from_json`.
    """
    fields = Fields(values, where)
    if values.get("_class_name") == "AutoencoderTiny":
        return _tiny_vae(fields)
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
        latents_mean=_per_channel(fields, "latents_mean"),
        latents_std=_per_channel(fields, "latents_std"),
        force_upcast=_bool(fields, "force_upcast", force_upcast),
    )
    fields.finish(VAE_FIXED, VAE_FREE)
    return config


def _per_channel(fields: Fields, name: str) -> tuple[float, ...]:
    """A number for each latent channel, or nothing."""
    values = fields.take(name, ())
    channels = fields.values.get("latent_channels", 4)
    if not isinstance(values, (list, tuple)) or len(values) not in (0, channels):
        fields.refuse(name, values)
    return tuple(map(float, values))


def _bool(fields: Fields, name: str, default: bool) -> bool:
    value = fields.take(name, default)
    if not isinstance(value, bool):
        fields.refuse(name, value)
    return value


def _tiny_vae(fields: Fields) -> TinyAutoencoderConfig:
    encoder = tuple(fields.take("num_encoder_blocks", (1, 3, 3, 3)))
    decoder = tuple(fields.take("num_decoder_blocks", (3, 3, 3, 1)))
    widths = []
    for half, blocks in (("encoder", encoder), ("decoder", decoder)):
        name = f"{half}_block_out_channels"
        widths += per_level(fields, name, fields.take(name, 64), len(blocks))
    # Diffusers writes it by this name too, and does not read it.
    fields.take("block_out_channels")
    channels = fields.take("in_channels", 3)
    if fields.take("out_channels", 3) != channels or len(encoder) != len(decoder):
        fields.refuse("out_channels", channels)
    config = TinyAutoencoderConfig(
        image_channels=channels,
        latent_channels=fields.take("latent_channels", 4),
        width=same(fields, "encoder_block_out_channels", widths),
        encoder_blocks=encoder,
        decoder_blocks=decoder,
        scale_factor=float(fields.take("scaling_factor", 1.0)),
    )
    fields.finish(
        TINY_VAE_FIXED, VAE_FREE | {"force_upcast", "latent_magnitude", "latent_shift"}
    )
    return config


def vae_to_json(
    config: AutoencoderConfig | TinyAutoencoderConfig, sample_size: int = 512
) -> dict:
    """Diffusers' `vae/config.json` of an autoencoder."""
    if isinstance(config, TinyAutoencoderConfig):
        return {
            "_class_name": "AutoencoderTiny",
            "_diffusers_version": DIFFUSERS_VERSION,
            "act_fn": "relu",
            "decoder_block_out_channels": [config.width] * len(config.decoder_blocks),
            "encoder_block_out_channels": [config.width] * len(config.encoder_blocks),
            "in_channels": config.image_channels,
            "latent_channels": config.latent_channels,
            "num_decoder_blocks": list(config.decoder_blocks),
            "num_encoder_blocks": list(config.encoder_blocks),
            "out_channels": config.image_channels,
            "scaling_factor": config.scale_factor,
        }
    levels = len(config.block_widths)
    channels = {
        name: list(getattr(config, name))
        for name in ("latents_mean", "latents_std")
        if getattr(config, name)
    }
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": DIFFUSERS_VERSION,
        "act_fn": "silu",
        "block_out_channels": list(config.block_widths),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "force_upcast": config.force_upcast,
        "in_channels": config.image_channels,
        "latent_channels": config.latent_channels,
        "layers_per_block": config.blocks_per_level,
        "norm_num_groups": config.norm_groups,
        "out_channels": config.image_channels,
        "sample_size": sample_size,
        "scaling_factor": config.scale_factor,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        **channels,
    }


def text_encoder_from_json(
    values: Mapping, where: str = "text_encoder"
) -> TextEncoderConfig:
    """The text encoder that transformers' `text_encoder/config.json` describes.

    Arguments, result and errors are those of `unet_from_json`.
    """
    fields = Fields(values, where)
    projects = False
    for name in fields.take("architectures", []):
        if name not in ("CLIPTextModel", "CLIPModel", "CLIPTextModelWithProjection"):
            fields.refuse("architectures", name)
        projects = name == "CLIPTextModelWithProjection"
    config = TextEncoderConfig(
        vocabulary_size=fields.take("vocab_size", 49408),
        context_length=fields.take("max_position_embeddings", 77),
        width=fields.take("hidden_size", 512),
        depth=fields.take("num_hidden_layers", 12),
        heads=fields.take("num_attention_heads", 8),
        mlp_width=fields.take("intermediate_size", 2048),
        activation=fields.take("hidden_act", "quick_gelu"),
        projection_width=fields.take("projection_dim", 512) if projects else 0,
    )
    if config.activation not in ("quick_gelu", "gelu"):
        fields.refuse("hidden_act", config.activation)
    # The rest of transformers' fields speak of training, generation and other models.
    fields.finish(TEXT_ENCODER_FIXED, set(fields.values) - set(TEXT_ENCODER_FIXED))
    return config


def text_encoder_to_json(config: TextEncoderConfig) -> dict:
    """Transformers' `text_encoder/config.json` of a text encoder."""
    return {
        "architectures": [
            f"CLIPTextModel{'WithProjection' if config.projection_width else ''}"
        ],
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
        "projection_dim": config.projection_width or config.width,
        "vocab_size": config.vocabulary_size,
    }


def schedule_from_json(values: Mapping, where: str = "scheduler") -> ScheduleConfig:
    """The noise that diffusers' `scheduler/scheduler_config.json` describes.

    Arguments, result and errors are those of `unet_from_json`.
    """
    fields = Fields(values, where)
    name = fields.take("_class_name", "PNDMScheduler")
    if name not in SCHEDULERS:
        fields.refuse("_class_name", name)
    if name.startswith("EDM"):
        return _range_from_json(fields)
    config = ScheduleConfig(
        beta_schedule=fields.take("beta_schedule", "linear"),
        beta_start=fields.take("beta_start", 0.0001),
        beta_end=fields.take("beta_end", 0.02),
        train_steps=fields.take("num_train_timesteps", 1000),
        prediction_type=fields.take("prediction_type", "epsilon"),
        # Diffusers' Stable Diffusion pipelines set it to 1 whatever the file says.
        steps_offset=1,
        final_alpha_one=bool(fields.take("set_alpha_to_one", name in ENDS_AT_ONE)),
        zero_terminal_snr=bool(fields.take("rescale_betas_zero_snr", False)),
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


def _range_from_json(fields: Fields) -> ScheduleConfig:
    """The noise of a network that was trained on a range of noise levels."""
    kinds = {"epsilon": "edm", "v_prediction": "v_prediction"}
    kind = fields.take("prediction_type", "epsilon")
    if kind not in kinds:
        fields.refuse("prediction_type", kind)
    return ScheduleConfig(
        train_steps=fields.take("num_train_timesteps", 1000),
        prediction_type=kinds[kind],
        sigma_min=float(fields.take("sigma_min", 0.002)),
        sigma_max=float(fields.take("sigma_max", 80.0)),
        sigma_data=float(fields.take("sigma_data", 0.5)),
    )


def schedule_to_json(config: ScheduleConfig, spacing: str | None = None) -> dict:
    """Diffusers' `scheduler/scheduler_config.json` of a schedule: DDIM's or EDM's.

    Args:
        config: The schedule.
        spacing: The model's, if it is one of `TIMESTEP_SPACINGS`.
    """
    if config.steps_offset != 1:
        raise ValueError(
            f"Diffusers knows `steps_offset` 1 only. Received: {config.steps_offset}"
        )
    if config.is_continuous:
        edm = config.prediction_type == "edm"
        return {
            "_class_name": "EDMDPMSolverMultistepScheduler",
            "_diffusers_version": DIFFUSERS_VERSION,
            "num_train_timesteps": config.train_steps,
            "prediction_type": "epsilon" if edm else config.prediction_type,
            "sigma_data": config.sigma_data,
            "sigma_max": config.sigma_max,
            "sigma_min": config.sigma_min,
            "sigma_schedule": "karras" if edm else "exponential",
        }
    spaced = {"timestep_spacing": spacing} if spacing in TIMESTEP_SPACINGS else {}
    return {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": DIFFUSERS_VERSION,
        "beta_end": config.beta_end,
        "beta_schedule": config.beta_schedule,
        "beta_start": config.beta_start,
        "clip_sample": False,
        "num_train_timesteps": config.train_steps,
        "prediction_type": config.prediction_type,
        "rescale_betas_zero_snr": config.zero_terminal_snr,
        "set_alpha_to_one": config.final_alpha_one,
        "steps_offset": 1,
        "trained_betas": None,
        **spaced,
    }
