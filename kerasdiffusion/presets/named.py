"""The published models by name: what each is made of and where its weights lie."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, replace
from pathlib import Path

from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.presets.families import (
    BK_SDM_BASE,
    BK_SDM_SMALL,
    BK_SDM_TINY,
    COSXL,
    HYPER_SDXL,
    LCM_SD1,
    LCM_SDXL,
    LIGHTNING,
    PLAYGROUND,
    SD1,
    SD1_EDITING,
    SD1_INPAINTING,
    SD2,
    SD2_BASE,
    SD2_DEPTH,
    SD2_INPAINTING,
    SD_TURBO,
    SDXL,
    SDXL_INPAINTING,
    SDXL_LIGHTNING,
    SDXL_LIGHTNING_1,
    SDXL_REFINER,
    SDXL_TURBO,
    SEGMIND_VEGA,
    SSD_1B,
    UPSCALER,
)

#: What files of weights end in.
FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".h5", ".keras", ".gguf")


@dataclass(frozen=True)
class Preset:
    """A published model: its configuration and where its weights lie.

    Args:
        source: What `from_preset` reads: `hf://owner/name`, or `asset://folder` for
            a model inside the package.
        about: One line for people.
        config: The configuration, where it is known before anything is fetched.
        unet: Where the U-Net's weights lie, if they are not with the others.
    """

    source: str
    about: str
    config: ModelConfig | None = None
    unet: str | None = None


_ROWS = (
    # name, source on the hub, about, configuration
    ("sd1.1", "CompVis/stable-diffusion-v1-1", "512x512", SD1),
    ("sd1.2", "CompVis/stable-diffusion-v1-2", "512x512", SD1),
    ("sd1.3", "CompVis/stable-diffusion-v1-3", "512x512", SD1),
    ("sd1.4", "CompVis/stable-diffusion-v1-4", "512x512", SD1),
    ("sd1.5", "stable-diffusion-v1-5/stable-diffusion-v1-5", "512x512", SD1),
    (
        "sd1.5-inpainting",
        "stable-diffusion-v1-5/stable-diffusion-inpainting",
        "paints what a mask covers, 512x512",
        SD1_INPAINTING,
    ),
    (
        "instruct-pix2pix",
        "timbrooks/instruct-pix2pix",
        "edits a picture by an instruction, 512x512",
        SD1_EDITING,
    ),
    ("sd2", "stabilityai/stable-diffusion-2", "768x768, v-prediction", SD2),
    ("sd2-base", "stabilityai/stable-diffusion-2-base", "512x512", SD2_BASE),
    ("sd2.1", "stabilityai/stable-diffusion-2-1", "768x768, v-prediction", SD2),
    ("sd2.1-base", "stabilityai/stable-diffusion-2-1-base", "512x512", SD2_BASE),
    (
        "sd2-inpainting",
        "stabilityai/stable-diffusion-2-inpainting",
        "paints what a mask covers, 512x512",
        SD2_INPAINTING,
    ),
    (
        "sd2-depth",
        "stabilityai/stable-diffusion-2-depth",
        "follows a depth map, 512x512",
        SD2_DEPTH,
    ),
    (
        "sd2-upscaler",
        "stabilityai/stable-diffusion-x4-upscaler",
        "four times the height and width",
        UPSCALER,
    ),
    ("sdxl", "stabilityai/stable-diffusion-xl-base-1.0", "1024x1024", SDXL),
    (
        "sdxl-refiner",
        "stabilityai/stable-diffusion-xl-refiner-1.0",
        "the last steps of SDXL",
        SDXL_REFINER,
    ),
    (
        "sdxl-inpainting",
        "diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
        "paints what a mask covers, 1024x1024",
        SDXL_INPAINTING,
    ),
    ("sd-turbo", "stabilityai/sd-turbo", "512x512 in 1 to 4 steps", SD_TURBO),
    ("sdxl-turbo", "stabilityai/sdxl-turbo", "512x512 in 1 to 4 steps", SDXL_TURBO),
    (
        "lcm-dreamshaper",
        "SimianLuo/LCM_Dreamshaper_v7",
        "768x768 in 1 to 8 steps",
        LCM_SD1,
    ),
    ("bk-sdm-base", "nota-ai/bk-sdm-base", "a smaller U-Net, 512x512", BK_SDM_BASE),
    ("bk-sdm-small", "nota-ai/bk-sdm-small", "a small U-Net, 512x512", BK_SDM_SMALL),
    ("bk-sdm-tiny", "nota-ai/bk-sdm-tiny", "a tiny U-Net, 512x512", BK_SDM_TINY),
    (
        "playground-2.5",
        "playgroundai/playground-v2.5-1024px-aesthetic",
        "SDXL's layout, another noise, 1024x1024",
        PLAYGROUND,
    ),
    ("cosxl", "stabilityai/cosxl/cosxl.safetensors", "SDXL of all tones", COSXL),
    ("ssd-1b", "segmind/SSD-1B", "SDXL at half the size, 1024x1024", SSD_1B),
    ("vega", "segmind/Segmind-Vega", "SDXL at a third, 1024x1024", SEGMIND_VEGA),
)

# U-Nets that were published alone: name, file on the hub, about, configuration. The
# rest is SDXL's.
_LIGHTNING = "ByteDance/SDXL-Lightning/sdxl_lightning_{}_unet.safetensors"
_UNETS = (
    *(
        (
            f"sdxl-lightning-{steps}",
            _LIGHTNING.format(f"{steps}step"),
            f"1024x1024 in {steps} steps",
            SDXL_LIGHTNING.replace(generation=replace(LIGHTNING, num_steps=steps)),
        )
        for steps in (2, 4, 8)
    ),
    (
        "sdxl-lightning-1",
        _LIGHTNING.format("1step_x0"),
        "1024x1024 in one step",
        SDXL_LIGHTNING_1,
    ),
    (
        "hyper-sdxl-1",
        "ByteDance/Hyper-SD/Hyper-SDXL-1step-Unet.safetensors",
        "1024x1024 in one step",
        HYPER_SDXL,
    ),
    (
        "lcm-sdxl",
        "latent-consistency/lcm-sdxl/diffusion_pytorch_model.safetensors",
        "1024x1024 in 2 to 8 steps",
        LCM_SDXL,
    ),
)


class Presets(dict):
    """Presets by name, which print as a table.

    Example:

    >>> print(Presets(emoji=PRESETS["emoji"]))
    emoji  asset://emoji  the bundled model: emoji on plain grounds
    """

    def __repr__(self) -> str:
        names = max(map(len, self), default=0)
        sources = max((len(each.source) for each in self.values()), default=0)
        return "\n".join(
            f"{name:{names}}  {each.source:{sources}}  {each.about}"
            for name, each in self.items()
        )


PRESETS = Presets(
    {
        "emoji": Preset("asset://emoji", "the bundled model: emoji on plain grounds"),
        **{
            name: Preset(f"hf://{source}", f"{source.split('/')[1]}: {about}", config)
            for name, source, about, config in _ROWS
        },
        **{
            name: Preset(
                "hf://stabilityai/stable-diffusion-xl-base-1.0",
                f"{file.split('/')[1]}: {about}",
                config,
                unet=f"hf://{file}",
            )
            for name, file, about, config in _UNETS
        },
    }
)


def find_unet(source) -> str | None:
    """Where a preset's U-Net lies, if it is not with the other parts."""
    is_preset = isinstance(source, str) and source in PRESETS
    return PRESETS[source].unet if is_preset else None


def find_preset(source) -> tuple[object, ModelConfig | None]:
    """A preset's weights and configuration; anything else is a source itself.

    Raises:
        FileNotFoundError: If it looks like a file of weights, and there is none.
        ValueError: If the source looks like a preset's name and is none.
    """
    if not isinstance(source, str):
        return source, None
    if source in PRESETS:
        return PRESETS[source].source, PRESETS[source].config
    if os.sep in source or ":" in source or Path(source).exists():
        return source, None
    if source.endswith(FILES):
        raise FileNotFoundError(
            f"There must be a file or folder to read. Received: {source!r}"
        )
    # What people call them is also the name on the hub.
    known = {preset.source.rpartition("/")[2]: name for name, preset in PRESETS.items()}
    known = {name.lower(): preset for name, preset in known.items()}
    known.update({name: name for name in PRESETS})
    near = difflib.get_close_matches(source.lower(), known, n=3, cutoff=0.4)
    near = list(dict.fromkeys(known[name] for name in near))
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(
        f"A model is a preset ({', '.join(PRESETS)}), hf://owner/name, a folder or a "
        f"file.{hint} Received: {source!r}"
    )
