"""Which module a name means: every known module's name is built, and looked up.

Names with dots and names with underscores are one here: dots become underscores on
both sides, so nothing has to guess which underscore was a dot. A file may mix all of
these, key by key.

| dialect | begins with |
| --- | --- |
| kohya, OneTrainer | `lora_unet_`, `lora_te_`, `lora_te1_`, `lora_te2_`, `oft_unet_` |
| diffusers, B-LoRA | `unet.`, `text_encoder.`, `text_encoder_2.` |
| PEFT | `base_model.model.` |
| ComfyUI | `diffusion_model.`, `text_encoders.clip_l.transformer.` |
| LyCORIS by itself, SimpleTuner | `lycoris_` |
| of a ControlNet | `controlnet.`, `lora_controlnet_` |
| none | the module's name |

Behind it stands the module's name in diffusers or in the original files (SGM's
`input_blocks`), with `processor` in it or not.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator
from typing import NamedTuple

from kerasdiffusion.presets.config import ControlNetConfig, ModelConfig
from kerasdiffusion.weights.modules import PREFIXES, Module
from kerasdiffusion.weights.names import MODULES

UNET, FIRST, SECOND = "diffusion_model", "text_encoder", "text_encoder_2"
CONTROL = "controlnet"
#: What names begin with, flat, and the parts that it may mean, the likeliest first.
BEGINNINGS = {
    "lora_unet_": (UNET,),
    "oft_unet_": (UNET,),
    "lycoris_unet_": (UNET,),
    "lycoris_": (UNET, FIRST, SECOND, CONTROL),
    "unet_": (UNET,),
    "unet_base_model_model_": (UNET,),
    "diffusion_model_": (UNET,),
    "model_diffusion_model_": (UNET,),
    "base_model_model_": (UNET, FIRST, SECOND, CONTROL),
    "base_model_model_unet_": (UNET,),
    "lora_te_": (FIRST,),
    "oft_te_": (FIRST,),
    "lora_te1_": (FIRST,),
    "lora_te2_": (SECOND, FIRST),
    "lycoris_te_": (FIRST,),
    "text_encoder_": (FIRST,),
    "text_encoder_base_model_model_": (FIRST,),
    "text_encoder_2_": (SECOND,),
    "text_encoder_2_base_model_model_": (SECOND,),
    "base_model_model_text_encoder_": (FIRST,),
    "base_model_model_text_encoder_2_": (SECOND,),
    "text_encoders_clip_l_transformer_": (FIRST,),
    "text_encoders_clip_h_transformer_": (FIRST,),
    "text_encoders_clip_g_transformer_": (SECOND, FIRST),
    "clip_l_": (FIRST,),
    "clip_l_transformer_": (FIRST,),
    "clip_h_transformer_": (FIRST,),
    "clip_g_": (SECOND, FIRST),
    "clip_g_transformer_": (SECOND, FIRST),
    "cond_stage_model_transformer_": (FIRST,),
    "cond_stage_model_": (FIRST,),
    "conditioner_embedders_0_transformer_": (FIRST,),
    "conditioner_embedders_1_": (SECOND,),
    "controlnet_": (CONTROL,),
    "lora_controlnet_": (CONTROL,),
    "base_model_model_controlnet_": (CONTROL,),
    "control_model_": (CONTROL,),
    "": (UNET, FIRST, SECOND, CONTROL),
}
#: Parts of a model that adapters change; ControlNets are networks of their own.
PARTS = (UNET, FIRST, SECOND)
#: The attentions of OpenCLIP's files are one matrix of these.
THIRDS = ("q_proj", "k_proj", "v_proj")


class Target(NamedTuple):
    """A module that a name means; `third` is the part of a fused matrix that it is."""

    part: str
    module: Module
    third: int | None = None


class Namespace:
    """The names of every module of a model.

    Args:
        config: What the model is made of, or a ControlNet.

    Example:

    >>> namespace = Namespace(ModelConfig())
    >>> namespace.find("lora_unet_input_blocks_0_0")[0].module.name
    'conv_in'
    """

    def __init__(self, config: ModelConfig | ControlNetConfig):
        self.modules: dict[str, dict[str, Module]] = {}
        self._names: dict[str, dict[str, tuple[Target, ...]]] = {}
        is_control = isinstance(config, ControlNetConfig)
        for part in (CONTROL,) if is_control else PARTS:
            own = config if is_control else getattr(config, part)
            if own is None:
                continue
            table = self._names[part] = {}
            modules = self.modules[part] = {m.name: m for m in MODULES[part](own)}
            for module in modules.values():
                for name in _spellings(part, module):
                    table.setdefault(flat(name), (Target(part, module),))
            if part in (FIRST, SECOND):
                table.update(_fused(part, modules))

    def find(self, name: str) -> tuple[Target, ...]:
        """What a name means, in each part that it may be of.

        Args:
            name: A key without its ending (see `suffixes.split`).

        Returns:
            A `Target` for each part where it means one, the likeliest first; three in
            a row for a fused matrix. Empty if it means none.
        """
        name = flat(name)
        found: dict[tuple, Target] = {}
        for start, parts in BEGINNINGS.items():
            if name.startswith(start):
                rest = name[len(start) :]
                for part in parts:
                    for target in self._names.get(part, {}).get(rest, ()):
                        key = part, target.module.name, target.third
                        found.setdefault(key, target)
        return tuple(found.values())

    def nearest(self, name: str) -> str | None:
        """The module whose name is most like one that means none, if any is like it."""
        name = flat(name).lower()
        start = max((each for each in BEGINNINGS if name.startswith(each)), key=len)
        rest, best, most = name[len(start) :], None, 0.6
        for part in BEGINNINGS[start]:
            table = self._names.get(part, {})
            for known in difflib.get_close_matches(rest, table, 1, most):
                own = difflib.SequenceMatcher(None, rest, known).ratio()
                if own > most or best is None:
                    best, most = f"{part}.{table[known][0].module.name}", own
        return best


def flat(name: str) -> str:
    """A name with underscores for its dots."""
    return name.replace(".", "_")


def _spellings(part: str, module: Module) -> Iterator[str]:
    """The names of a module, without what tells the part."""
    name = module.name
    yield name
    original = module.original.removeprefix(PREFIXES[part])
    yield original
    if part in (UNET, CONTROL):
        if name.endswith(".to_out.0"):
            yield name.removesuffix(".0")
        for attention in (".attn1.", ".attn2."):
            if attention in name:
                processed = name.replace(attention, f"{attention}processor.")
                yield processed
                yield processed.removesuffix(".0")
    else:
        yield name.removeprefix("text_model.")
        yield original.removeprefix("model.")
        yield original.removeprefix("transformer.")
        # What diffusers called them in the text encoder, early in 2023.
        for new, old in (("q", "q"), ("k", "k"), ("v", "v"), ("out", "out")):
            if name.endswith(f".self_attn.{new}_proj"):
                yield f"{name.removesuffix(f'{new}_proj')}to_{old}"


def _fused(part: str, modules) -> dict[str, tuple[Target, ...]]:
    """The names of OpenCLIP's query, key and value in one."""
    found = {}
    for name in modules:
        if not name.endswith(".self_attn.q_proj"):
            continue
        stem = name.removesuffix("q_proj")
        thirds = tuple(
            Target(part, modules[stem + third], i) for i, third in enumerate(THIRDS)
        )
        layer = name.split(".layers.")[1].split(".")[0]
        old = f"transformer.resblocks.{layer}.attn"
        for spelling in (f"{old}.in_proj", old, f"{stem}in_proj"):
            found[flat(spelling)] = thirds
            found[flat(f"model.{spelling}")] = thirds
    return found


@functools.lru_cache(maxsize=16)
def namespace(config: ModelConfig | ControlNetConfig) -> Namespace:
    """The `Namespace` of a configuration, made once."""
    return Namespace(config)
