"""Every family at a small geometry, as arguments of the peers' own networks."""

VOCABULARY = 99
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 9,
    "hidden_act": "quick_gelu",
    "bos_token_id": VOCABULARY - 2,
    "eos_token_id": VOCABULARY - 1,
}
OPEN_CLIP = {**TEXT, "hidden_act": "gelu", "hidden_size": 40}
BIG_G = {**OPEN_CLIP, "projection_dim": 24, "num_hidden_layers": 4}
DOWN, CROSS_DOWN = "DownBlock2D", "CrossAttnDownBlock2D"


def unet(widths, attention, context, **more) -> dict:
    """A U-Net of levels with attention or without."""
    down = [CROSS_DOWN if attend else DOWN for attend in attention]
    return {
        "block_out_channels": widths,
        "down_block_types": down,
        "up_block_types": [name.replace("Down", "Up") for name in down[::-1]],
        "layers_per_block": 1,
        "cross_attention_dim": context,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
        **more,
    }


def vae(levels: int = 2, **more) -> dict:
    """An autoencoder of some levels."""
    return {
        "block_out_channels": (8, 16, 16, 16)[:levels],
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        **more,
    }


LINEAR = {"use_linear_projection": True}
SD2 = {**LINEAR, "attention_head_dim": [1, 2, 4]}
SCALED = {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
V_PREDICTION = {**SCALED, "prediction_type": "v_prediction"}
UPSCALER = {**V_PREDICTION, "beta_start": 0.0001, "beta_end": 0.02}
XL_VECTOR = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 24 + 6 * 8,
}
XL = {**SD2, **XL_VECTOR, "transformer_layers_per_block": [1, 2, 3]}
THREE, ATTEND = (16, 24, 32), (1, 1, 0)
XL_VAE = vae(scaling_factor=0.13025)

FAMILIES = {
    "sd1": {
        "text": TEXT,
        "unet": unet(THREE, ATTEND, 32, layers_per_block=2),
        "vae": vae(),
        "scheduler": SCALED,
    },
    "sd1-inpainting": {
        "text": TEXT,
        "unet": unet(THREE, ATTEND, 32, in_channels=9),
        "vae": vae(),
        "scheduler": SCALED,
    },
    "lcm": {
        "text": TEXT,
        "unet": unet(THREE, ATTEND, 32, time_cond_proj_dim=12),
        "vae": vae(),
        "scheduler": {**SCALED, "_class_name": "LCMScheduler"},
    },
    "bk-sdm": {
        "text": TEXT,
        "unet": unet(THREE, (1, 1, 1), 32, mid_block_type=None),
        "vae": vae(),
        "scheduler": SCALED,
    },
    "sd2": {
        "text": OPEN_CLIP,
        "unet": unet(THREE, ATTEND, 40, layers_per_block=2, **SD2),
        "vae": vae(),
        "scheduler": V_PREDICTION,
    },
    "sd2-depth": {
        "text": OPEN_CLIP,
        "unet": unet(THREE, ATTEND, 40, in_channels=5, **SD2),
        "vae": vae(),
        "scheduler": SCALED,
    },
    "sd2-upscaler": {
        "text": OPEN_CLIP,
        "unet": unet(
            (16, 24, 40),
            (0, 1, 1),
            40,
            in_channels=7,
            num_class_embeds=21,
            only_cross_attention=[True, True, False],
            **LINEAR,
        ),
        "vae": vae(3, scaling_factor=0.08333),
        "scheduler": UPSCALER,
    },
    "sdxl": {
        "text": TEXT,
        "text_2": BIG_G,
        "unet": unet(THREE, (0, 1, 1), 72, **XL),
        "vae": XL_VAE,
        "scheduler": SCALED,
    },
    "sdxl-refiner": {
        "text": None,
        "text_2": BIG_G,
        "unet": unet(
            THREE,
            (0, 1, 0),
            40,
            **{
                **XL,
                "transformer_layers_per_block": 2,
                "projection_class_embeddings_input_dim": 24 + 5 * 8,
            },
        ),
        "vae": XL_VAE,
        "scheduler": SCALED,
    },
    "ssd-1b": {
        "text": TEXT,
        "text_2": BIG_G,
        "unet": unet(
            THREE,
            (0, 1, 1),
            72,
            **{
                **XL,
                "layers_per_block": 2,
                "mid_block_type": "UNetMidBlock2D",
                "transformer_layers_per_block": [1, [1, 1], [2, 2]],
                "reverse_transformer_layers_per_block": [[2, 2, 3], [2, 1, 1], 1],
            },
        ),
        "vae": XL_VAE,
        "scheduler": SCALED,
    },
    "list of blocks": {
        "text": TEXT,
        "unet": unet(THREE, ATTEND, 32, layers_per_block=[1, 2, 1]),
        "vae": vae(),
        "scheduler": SCALED,
    },
}
