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
    TextEncoderConfig,
    TinyAutoencoderConfig,
)
from kerasdiffusion.weights.fields import (
    DIFFUSERS_VERSION,
    EMA,
    Fields,
    per_level,
    same,
)

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

# Fields that do not change what the trained network is: training, precision, sampling.
VAE_FREE = {"sample_size", *EMA}


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
    widths = fields.widths("block_out_channels", (64,))
    for name, block in (
        ("down_block_types", "DownEncoderBlock2D"),
        ("up_block_types", "UpDecoderBlock2D"),
    ):
        blocks = fields.listed(name, [block])
        if list(blocks) != [block] * len(widths):
            fields.refuse(name, blocks)
    channels = fields.whole("in_channels", 3, "channels")
    outs = fields.whole("out_channels", 3, "channels")
    if outs != channels:
        fields.refuse("out_channels", outs)
    latents = fields.whole("latent_channels", 4, "channels")
    config = AutoencoderConfig(
        image_channels=channels,
        latent_channels=latents,
        block_widths=widths,
        blocks_per_level=fields.whole("layers_per_block", 1, "layers"),
        norm_groups=fields.whole("norm_num_groups", 32, "channels"),
        scale_factor=fields.number("scaling_factor", 0.18215, 0, 1e6),
        latents_mean=_per_channel(fields, "latents_mean", latents),
        latents_std=_per_channel(fields, "latents_std", latents),
        force_upcast=_bool(fields, "force_upcast", force_upcast),
    )
    fields.finish(VAE_FIXED, VAE_FREE)
    return config


def _per_channel(fields: Fields, name: str, channels: int) -> tuple[float, ...]:
    """A number for each latent channel, or nothing."""
    values = fields.listed(name, (), "channels")
    least = 0.0 if name == "latents_std" else -1e6
    if len(values) not in (0, channels) or not all(
        type(value) in (int, float) and least < value < 1e6 for value in values
    ):
        fields.refuse(name, values)
    return tuple(map(float, values))


def _bool(fields: Fields, name: str, default: bool) -> bool:
    value = fields.take(name, default)
    if not isinstance(value, bool):
        fields.refuse(name, value)
    return value


def _tiny_vae(fields: Fields) -> TinyAutoencoderConfig:
    encoder = fields.widths("num_encoder_blocks", (1, 3, 3, 3))
    decoder = fields.widths("num_decoder_blocks", (3, 3, 3, 1))
    fields.check("layers", max(*encoder, *decoder))
    widths = []
    for half, blocks in (("encoder", encoder), ("decoder", decoder)):
        name = f"{half}_block_out_channels"
        widths += per_level(fields, name, fields.take(name, 64), len(blocks))
    # Diffusers writes it by this name too, and does not read it.
    fields.take("block_out_channels")
    channels = fields.whole("in_channels", 3, "channels")
    if fields.take("out_channels", 3) != channels or len(encoder) != len(decoder):
        fields.refuse("out_channels", channels)
    config = TinyAutoencoderConfig(
        image_channels=channels,
        latent_channels=fields.whole("latent_channels", 4, "channels"),
        width=same(fields, "encoder_block_out_channels", widths),
        encoder_blocks=encoder,
        decoder_blocks=decoder,
        scale_factor=fields.number("scaling_factor", 1.0, 0, 1e6),
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
    for name in fields.listed("architectures", []):
        if name not in ("CLIPTextModel", "CLIPModel", "CLIPTextModelWithProjection"):
            fields.refuse("architectures", name)
        projects = name == "CLIPTextModelWithProjection"
    projection = fields.whole("projection_dim", 512, "channels")
    vocabulary_size = fields.whole("vocab_size", 49408, "vocabulary")
    end_id = fields.take("eos_token_id", 49407)
    # 2 is transformers' word for the highest id of a prompt (its issue 24650); so is
    # the last of the vocabulary.
    if not projects or end_id in (2, vocabulary_size - 1):
        end_id = None
    elif type(end_id) is not int or not 0 <= end_id < vocabulary_size:
        fields.refuse("eos_token_id", end_id)
    config = TextEncoderConfig(
        vocabulary_size=vocabulary_size,
        end_id=end_id,
        context_length=fields.whole("max_position_embeddings", 77, "tokens", 2),
        width=fields.whole("hidden_size", 512, "channels"),
        depth=fields.whole("num_hidden_layers", 12, "layers"),
        heads=fields.whole("num_attention_heads", 8, "channels"),
        mlp_width=fields.whole("intermediate_size", 2048, "channels"),
        activation=fields.take("hidden_act", "quick_gelu"),
        projection_width=projection if projects else 0,
    )
    if config.activation not in ("quick_gelu", "gelu"):
        fields.refuse("hidden_act", config.activation)
    if config.width % config.heads:
        fields.refuse("num_attention_heads", config.heads)
    # The rest of transformers' fields speak of training, generation and other models.
    fields.finish(TEXT_ENCODER_FIXED, set(fields.values) - set(TEXT_ENCODER_FIXED))
    return config


def text_encoder_to_json(config: TextEncoderConfig, tokenizer=None) -> dict:
    """Transformers' `text_encoder/config.json` of a text encoder.

    Args:
        config: Its configuration.
        tokenizer: Its `Tokenizer`; by default one whose last ids are start and end.
    """
    start, end = config.vocabulary_size - 2, config.vocabulary_size - 1
    pad = end
    if tokenizer is not None:
        start, end, pad = tokenizer.start_id, tokenizer.end_id, tokenizer.pad_id
    if config.end_id is not None:
        end = config.end_id
    elif tokenizer is not None and end < tokenizer.vocabulary_size - 1:
        end = 2  # transformers' word for the highest
    return {
        "architectures": [
            f"CLIPTextModel{'WithProjection' if config.projection_width else ''}"
        ],
        "attention_dropout": 0.0,
        "bos_token_id": start,
        "eos_token_id": end,
        "hidden_act": config.activation,
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": config.context_length,
        "model_type": "clip_text_model",
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.depth,
        "pad_token_id": pad,
        "projection_dim": config.projection_width or config.width,
        "vocab_size": config.vocabulary_size,
    }
