"""What a model is made of, as frozen dataclasses.

One dataclass per part. A model family is a set of values for these fields; nothing
here imports a framework.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TokenizerConfig:
    """The CLIP byte-pair tokenizer (`tokenizer.py`).

    Args:
        context_length: Tokens in an encoded prompt, start and end included.
        pad_token: The token that fills a short prompt up: `"<|endoftext|>"` for
            SD 1, `"!"` (id 0) for SD 2.
    """

    context_length: int = 77
    pad_token: str = "<|endoftext|>"


@dataclass(frozen=True)
class TextEncoderConfig:
    """The text transformer of CLIP (`models/text_encoder.py`).

    The defaults are CLIP ViT-L/14's, which SD 1 uses.

    Args:
        vocabulary_size: Rows of the token table.
        context_length: Tokens that the position table has room for.
        width: Channels of a token.
        depth: Transformer layers.
        heads: Attention heads.
        mlp_width: Hidden channels of the perceptrons.
        activation: `"quick_gelu"` (OpenAI's CLIP) or `"gelu"` (OpenCLIP, whose names
            an original file then has).
        skipped_layers: Layers at the end that the context leaves out; 1 is the
            penultimate layer.
        final_norm: Whether the context goes through the final norm.
        projection_width: Channels of the pooled text, or 0 for an encoder without.
        end_id: The id at whose first place the pooled text is taken; `None` is the
            highest id of the prompt, which the end of CLIP's vocabulary is.
    """

    vocabulary_size: int = 49408
    context_length: int = 77
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_width: int = 3072
    activation: str = "quick_gelu"
    skipped_layers: int = 0
    final_norm: bool = True
    projection_width: int = 0
    end_id: int | None = None

    @property
    def is_open_clip(self) -> bool:
        """Whether it is one of OpenCLIP's, and not OpenAI's."""
        return self.activation == "gelu"


@dataclass(frozen=True)
class DiffusionModelConfig:
    """The U-Net (`models/diffusion_model.py`). The defaults are SD 1's.

    Args:
        in_channels: Channels of the network's input: latents and `concat` together.
        out_channels: Channels of the prediction.
        block_widths: Channels of each resolution level, finest first.
        blocks_per_level: Residual blocks a level on the way down (one more on the
            way up); one number, or one for each level.
        transformer_depths: Transformer layers after each residual block of a level;
            0 for a level without attention. A level may have a number for each of its
            blocks.
        mid_transformer_depth: The same for the middle block; 0 for a middle block that
            is one residual block, `None` for no middle block.
        up_transformer_depths: The same as `transformer_depths` for the way up, finest
            level first and blocks in the order of their use, where it differs.
        heads: Attention heads of each level; the middle block takes the last.
        context_width: Width of the text encoder's output.
        linear_projection: Whether the transformers project by dense layers (SD 2,
            SDXL) or by 1x1 convolutions (SD 1). The function is the same, the
            weights' shapes differ.
        norm_groups: Groups of every group normalisation.
        only_cross_attention: For each level, whether pixels attend to the context
            twice and never to each other (the x4 upscaler); nowhere if empty.
        vector_width: Channels of `vector`, the pooled text and the embedded size ids
            (SDXL), or 0 for a network without.
        vector_id_width: Channels of one embedded size id.
        guidance_width: Channels of the embedded guidance scale (LCM), or 0.
        noise_levels: Rows of the table of noise levels (the x4 upscaler), or 0.
    """

    in_channels: int = 4
    out_channels: int = 4
    block_widths: tuple[int, ...] = (320, 640, 1280, 1280)
    blocks_per_level: int | tuple[int, ...] = 2
    transformer_depths: tuple[int | tuple[int, ...], ...] = (1, 1, 1, 0)
    mid_transformer_depth: int | None = 1
    heads: tuple[int, ...] = (8, 8, 8, 8)
    context_width: int = 768
    linear_projection: bool = False
    norm_groups: int = 32
    up_transformer_depths: tuple[int | tuple[int, ...], ...] | None = None
    only_cross_attention: tuple[bool, ...] = ()
    vector_width: int = 0
    vector_id_width: int = 256
    guidance_width: int = 0
    noise_levels: int = 0

    def blocks(self, level: int) -> int:
        """Residual blocks of a level on the way down."""
        blocks = self.blocks_per_level
        return blocks if isinstance(blocks, int) else blocks[level]

    def depths(self, level: int) -> tuple[int, ...]:
        """Transformer layers after each residual block of a level on the way down."""
        return _each(self.transformer_depths[level], self.blocks(level))

    def up_depths(self, level: int) -> tuple[int, ...]:
        """The same on the way up."""
        depths = self.up_transformer_depths or self.transformer_depths
        return _each(depths[level], self.blocks(level) + 1)

    @property
    def skip_widths(self) -> list[int]:
        """Channels of each skip, in the order of their making."""
        widths, last = [self.block_widths[0]], len(self.block_widths) - 1
        for level, width in enumerate(self.block_widths):
            widths += [width] * (self.blocks(level) + (level < last))
        return widths

    def is_cross_only(self, level: int) -> bool:
        """Whether the pixels of a level do not attend to each other."""
        return bool(self.only_cross_attention) and self.only_cross_attention[level]


def _each(depths: int | tuple[int, ...], blocks: int) -> tuple[int, ...]:
    depths = (depths,) * blocks if isinstance(depths, int) else depths
    if len(depths) != blocks or (min(depths) == 0 < max(depths)):
        raise ValueError(
            f"The transformer depths of a level must be one number, or one for each of "
            f"its {blocks} blocks, all 0 or none. Received: {depths}"
        )
    return depths


@dataclass(frozen=True)
class ControlNetConfig(DiffusionModelConfig):
    """A ControlNet (`models/controlnet.py`): the way down of a U-Net, and a picture.

    The defaults are those for SD 1. What is said of the way up counts nothing.

    Args:
        picture_channels: Channels of the picture that is followed.
        picture_widths: Channels of the convolutions that bring it to the size of the
            latents, finest first. Every one but the last halves height and width.
        bgr: Whether the network takes blue before green and red.
        pooled: Whether what it adds is the same everywhere, and nothing under the
            negative prompt (shuffle).
    """

    picture_channels: int = 3
    picture_widths: tuple[int, ...] = (16, 32, 96, 256)
    bgr: bool = False
    pooled: bool = False

    @property
    def downsampling(self) -> int:
        """Pixels on a side of one latent."""
        return 2 ** (len(self.picture_widths) - 1)


@dataclass(frozen=True)
class T2IAdapterConfig:
    """A T2I-Adapter (`models/t2i_adapter.py`). The defaults are those for SD 1.

    Args:
        kind: `"full_adapter"`; `"light_adapter"`, of narrower blocks; or
            `"full_adapter_xl"`, whose second level alone is half as large as the first.
        picture_channels: Channels of the picture that is followed: 1 for grey.
        block_widths: Channels of the features of each level, finest first.
        blocks_per_level: Residual blocks of each.
        downsampling: Pixels on a side of what the first level sees as one.
    """

    kind: str = "full_adapter"
    picture_channels: int = 3
    block_widths: tuple[int, ...] = (320, 640, 1280, 1280)
    blocks_per_level: int = 2
    downsampling: int = 8

    def halves(self, level: int) -> bool:
        """Whether a level begins by halving height and width."""
        return level == 2 if self.kind == "full_adapter_xl" else level > 0


@dataclass(frozen=True)
class AutoencoderConfig:
    """The KL autoencoder (`models/autoencoder.py`). The defaults are SD 1's.

    Args:
        image_channels: Channels of a picture.
        latent_channels: Channels of the latents.
        block_widths: Channels of each resolution level, finest first. Every level
            but the last halves height and width.
        blocks_per_level: Residual blocks a level in the encoder (one more in the
            decoder).
        norm_groups: Groups of every group normalisation.
        scale_factor: What encoded latents are multiplied by, so that their standard
            deviation is near 1.
        latents_mean: What is taken away from each channel ahead of that; nothing if
            empty.
        latents_std: What each channel is divided by; nothing if empty.
        force_upcast: Whether values inside are beyond float16's, so that it computes in
            float32 where the model computes in float16: SDXL's published one.
    """

    image_channels: int = 3
    latent_channels: int = 4
    block_widths: tuple[int, ...] = (128, 256, 512, 512)
    blocks_per_level: int = 2
    norm_groups: int = 32
    scale_factor: float = 0.18215
    latents_mean: tuple[float, ...] = ()
    latents_std: tuple[float, ...] = ()
    force_upcast: bool = False

    @property
    def downsampling(self) -> int:
        """Pixels on a side of one latent."""
        return 2 ** (len(self.block_widths) - 1)


@dataclass(frozen=True)
class TinyAutoencoderConfig:
    """TAESD, a small autoencoder of the same latents (`models/tiny_autoencoder.py`).

    Args:
        image_channels: Channels of a picture.
        latent_channels: Channels of the latents.
        width: Channels of every layer.
        encoder_blocks: Blocks of each level of the encoder, finest first.
        decoder_blocks: Blocks of each level of the decoder, coarsest first.
        scale_factor: What encoded latents are multiplied by: it was trained with
            scaled ones.
    """

    image_channels: int = 3
    latent_channels: int = 4
    width: int = 64
    encoder_blocks: tuple[int, ...] = (1, 3, 3, 3)
    decoder_blocks: tuple[int, ...] = (3, 3, 3, 1)
    scale_factor: float = 1.0

    @property
    def downsampling(self) -> int:
        """Pixels on a side of one latent."""
        return 2 ** (len(self.decoder_blocks) - 1)


@dataclass(frozen=True)
class ScheduleConfig:
    """The noise that the U-Net was trained with (`sampling/schedule.py`).

    Args:
        beta_schedule: `"scaled_linear"` (linear in the root of beta, SD's),
            `"linear"` (DDPM's) or `"squaredcos_cap_v2"` (improved DDPM's).
        beta_start: Beta of the first training step.
        beta_end: Beta of the last training step.
        train_steps: Number of training steps.
        prediction_type: What the U-Net predicts: `"epsilon"`, `"v_prediction"`,
            `"sample"` or `"edm"`, as in Karras et al. 2022.
        steps_offset: What `"leading"` spacing adds to its timesteps.
        final_alpha_one: Whether DDIM and PNDM end at no noise at all, or (SD) at the
            noise of training step 0.
        zero_terminal_snr: Whether the last training step is noise alone: the betas are
            rescaled as in Lin et al. 2024, algorithm 1.
        align_your_steps: Whose table the spacing of that name takes: `"sd1"` or
            `"sdxl"`.
        sigma_min: The lowest noise level of a network that was trained on a range of
            them and is told `log(sigma) / 4` (Karras et al. 2022); betas count nothing
            then. 0 for a network that was trained on steps.
        sigma_max: The highest.
        sigma_data: The standard deviation of its latents.
        timestep_type: `"discrete"`: the network is told the training step;
            `"continuous"`: it is told `log(sigma) / 4`.
        trained_betas: Of each training step, in place of a `beta_schedule`.
    """

    beta_schedule: str = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012
    train_steps: int = 1000
    prediction_type: str = "epsilon"
    steps_offset: int = 1
    final_alpha_one: bool = False
    zero_terminal_snr: bool = False
    align_your_steps: str = "sd1"
    sigma_min: float = 0.0
    sigma_max: float = 0.0
    sigma_data: float = 1.0
    timestep_type: str = "discrete"
    trained_betas: tuple[float, ...] = ()

    @property
    def is_continuous(self) -> bool:
        """Whether the network was trained on a range of noise levels."""
        return self.sigma_max > 0.0


@dataclass(frozen=True)
class GenerationConfig:
    """What `text_to_image` takes where the caller leaves it `None`.

    Args:
        height: In pixels.
        width: In pixels.
        sampler: A sampler's name.
        num_steps: Denoising steps.
        guidance_scale: 1 for models that were distilled to need none.
        spacing: How the steps of samplers are spaced that have no more special way by
            their name; each sampler's own if `None`.
        zero_negative: Whether no negative prompt means vectors of zeros (SDXL), and
            not those of the empty prompt.
        timesteps: What the default steps start from, where they are not spaced
            (Hyper-SD's one step).
    """

    height: int = 512
    width: int = 512
    sampler: str = "dpmpp_2m_karras"
    num_steps: int = 25
    guidance_scale: float = 7.5
    spacing: str | None = None
    zero_negative: bool = False
    timesteps: tuple[float, ...] = ()


@dataclass(frozen=True)
class ModelConfig:
    """Everything that defines a model but its weights.

    Args:
        tokenizer: The tokenizer of `text_encoder`.
        text_encoder: The text encoder; the first of SDXL's.
        diffusion_model: The U-Net.
        autoencoder: The autoencoder, KL or tiny.
        schedule: The noise that the U-Net was trained with.
        generation: What a call takes by default.
        text_encoder_2: SDXL's second text encoder, whose context is beside the first's.
        tokenizer_2: Its tokenizer.
        low_res_schedule: The noise that is added to the x4 upscaler's small picture.
    """

    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    text_encoder: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    diffusion_model: DiffusionModelConfig = field(default_factory=DiffusionModelConfig)
    autoencoder: AutoencoderConfig | TinyAutoencoderConfig = field(
        default_factory=AutoencoderConfig
    )
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    text_encoder_2: TextEncoderConfig | None = None
    tokenizer_2: TokenizerConfig | None = None
    low_res_schedule: ScheduleConfig | None = None

    def replace(self, **parts) -> ModelConfig:
        """A copy with some parts exchanged."""
        return dataclasses.replace(self, **parts)

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the networks that there are."""
        second = () if self.text_encoder_2 is None else ("text_encoder_2",)
        return ("text_encoder", *second, "diffusion_model", "image_encoder", "decoder")

    @property
    def text_encoders(self) -> tuple[TextEncoderConfig, ...]:
        """The text encoders that there are."""
        second = () if self.text_encoder_2 is None else (self.text_encoder_2,)
        return (self.text_encoder, *second)

    @property
    def text_width(self) -> int:
        """Channels of the context of all text encoders."""
        return sum(each.width for each in self.text_encoders)

    @property
    def size_ids(self) -> int:
        """Numbers that `vector` has behind the pooled text: 6, or a refiner's 5."""
        network = self.diffusion_model
        rest = network.vector_width - self.text_encoders[-1].projection_width
        return rest // network.vector_id_width if network.vector_width else 0
