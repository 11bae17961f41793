"""What ComfyUI's nodes do with what they are given, as far as it is followed: a table.

A node that is not here is not followed, and named. One that is here with `changes` is
followed and named.

Reference:
    `nodes.py` and `comfy_extras/` of comfyanonymous/ComfyUI.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of node.

    Attributes:
        role: What it is: `sampler`, `text`, `pass`, `value`, `model`, `latent`,
            `sampling`, `sigmas`, `noise`, `guider`, `output`.
        carries: From the number of an output to the input that it passes on, or whose
            value it gives.
        reads: From our names to its inputs.
        harmless: Inputs that change no picture.
        neutral: Values of inputs that change none.
        changes: Whether it changes the picture in a way that is not followed.
    """

    role: str
    carries: Mapping[int, str] = {}
    reads: Mapping[str, str] = {}
    harmless: tuple[str, ...] = ()
    neutral: Mapping[str, tuple] = {}
    changes: bool = False


_KSAMPLER = {
    "seed": "seed",
    "steps": "steps",
    "guidance_scale": "cfg",
    "sampler": "sampler_name",
    "schedule_type": "scheduler",
    "strength": "denoise",
}
_ONE = (1, 1.0)
_LOOKS = ("preview_method", "vae_decode", "choose file to upload", "upload")
_LOOKS += ("control_after_generate", "Random seed after every gen", "seed_mode")


def _passes(*inputs: str, changes: bool = True) -> Kind:
    return Kind("pass", dict(enumerate(inputs)), changes=changes)


def _value(name: str) -> Kind:
    return Kind("value", {0: name}, harmless=_LOOKS)


NODES: dict[str, Kind] = {
    "KSampler": Kind("sampler", reads=_KSAMPLER, harmless=_LOOKS),
    "KSampler (Efficient)": Kind("sampler", reads=_KSAMPLER, harmless=_LOOKS),
    "KSamplerAdvanced": Kind(
        "sampler",
        reads={**_KSAMPLER, "seed": "noise_seed"},
        harmless=_LOOKS,
        neutral={
            "add_noise": ("enable", True),
            "start_at_step": (0,),
            "end_at_step": (10000,),
            "return_with_leftover_noise": ("disable", False),
        },
    ),
    "SamplerCustom": Kind(
        "sampler",
        reads={"seed": "noise_seed", "guidance_scale": "cfg"},
        harmless=_LOOKS,
        neutral={"add_noise": (True, "enable")},
    ),
    "SamplerCustomAdvanced": Kind("sampler"),
    "RandomNoise": Kind("noise", reads={"seed": "noise_seed"}, harmless=_LOOKS),
    "CFGGuider": Kind("guider", reads={"guidance_scale": "cfg"}),
    "BasicGuider": Kind("guider"),
    # Samplers and levels of the custom ones.
    "KSamplerSelect": Kind("sampling", reads={"sampler": "sampler_name"}),
    "SamplerEulerAncestral": Kind(
        "sampling", reads={"Eta": "eta", "Sigma noise": "s_noise"}
    ),
    "BasicScheduler": Kind(
        "sigmas",
        reads={"schedule_type": "scheduler", "steps": "steps", "strength": "denoise"},
    ),
    "SDTurboScheduler": Kind("sigmas", reads={"steps": "steps", "strength": "denoise"}),
    "KarrasScheduler": Kind(
        "sigmas",
        reads={"steps": "steps"},
        neutral={
            "sigma_max": (14.614642,),
            "sigma_min": (0.0291675,),
            "rho": (7, 7.0),
        },
    ),
    "ExponentialScheduler": Kind(
        "sigmas",
        reads={"steps": "steps"},
        neutral={"sigma_max": (14.614642,), "sigma_min": (0.0291675,)},
    ),
    # Texts.
    "CLIPTextEncode": Kind("text", {0: "text"}),
    "CLIPTextEncodeSDXL": Kind("text", {0: "text_l"}, neutral={}),
    "CLIPTextEncodeSDXLRefiner": Kind("text", {0: "text"}),
    "BNK_CLIPTextEncodeAdvanced": Kind("text", {0: "text"}, changes=True),
    "smZ CLIPTextEncode": Kind("text", {0: "text"}, changes=True),
    "Efficient Loader": Kind(
        "text",
        {1: "positive", 2: "negative"},
        harmless=("token_normalization",),
        neutral={
            "vae_name": ("Baked VAE",),
            "lora_name": ("None",),
            "batch_size": (1,),
            "weight_interpretation": ("comfy",),
        },
    ),
    # What passes on a prompt, a model or a picture.
    "ConditioningCombine": Kind("join", {0: "conditioning_1", 1: "conditioning_2"}),
    "ConditioningConcat": Kind("join", {0: "conditioning_to", 1: "conditioning_from"}),
    "ConditioningAverage": _passes("conditioning_to"),
    "ConditioningAverage ": _passes("conditioning_to"),
    "ConditioningSetArea": _passes("conditioning"),
    "ConditioningSetAreaPercentage": _passes("conditioning"),
    "ConditioningSetAreaStrength": _passes("conditioning"),
    "ConditioningSetMask": _passes("conditioning"),
    "ConditioningSetTimestepRange": _passes("conditioning"),
    "ConditioningZeroOut": Kind("zero", changes=True),
    "ControlNetApply": _passes("conditioning"),
    "ControlNetApplyAdvanced": _passes("positive", "negative"),
    "ControlNetApplySD3": _passes("positive", "negative"),
    "ACN_AdvancedControlNetApply": _passes("positive", "negative"),
    "InpaintModelConditioning": _passes("positive", "negative", "pixels"),
    "InstructPixToPixConditioning": _passes("positive", "negative", "pixels"),
    "unCLIPConditioning": _passes("conditioning"),
    "StyleModelApply": _passes("conditioning"),
    "GLIGENTextBoxApply": _passes("conditioning_to"),
    "Reroute": _passes("", changes=False),
    "LoraLoader": _passes("model", "clip"),
    "LoraLoaderModelOnly": _passes("model"),
    "HypernetworkLoader": _passes("model"),
    "CLIPSetLastLayer": Kind("pass", {0: "clip"}),
    "FreeU": _passes("model"),
    "FreeU_V2": _passes("model"),
    "HyperTile": _passes("model"),
    "TomePatchModel": _passes("model"),
    "RescaleCFG": _passes("model"),
    "PatchModelAddDownscale": _passes("model"),
    "PerturbedAttentionGuidance": _passes("model"),
    "SelfAttentionGuidance": _passes("model"),
    "ModelSamplingDiscrete": _passes("model"),
    "ModelSamplingContinuousEDM": _passes("model"),
    "ModelMergeSimple": _passes("model1"),
    "IPAdapterApply": _passes("model"),
    "IPAdapter": _passes("model"),
    "IPAdapterAdvanced": _passes("model"),
    # Models.
    "CheckpointLoaderSimple": Kind("model", reads={"model": "ckpt_name"}),
    "CheckpointLoader": Kind(
        "model", reads={"model": "ckpt_name"}, harmless=("config_name",)
    ),
    "unCLIPCheckpointLoader": Kind("model", reads={"model": "ckpt_name"}),
    "UNETLoader": Kind(
        "model", reads={"model": "unet_name"}, neutral={"weight_dtype": ("default",)}
    ),
    # Sizes.
    "EmptyLatentImage": Kind("latent", neutral={"batch_size": _ONE}),
    "EmptySD3LatentImage": Kind("latent", neutral={"batch_size": _ONE}),
    # What gives a value that another takes.
    "PrimitiveNode": _value("value"),
    "PrimitiveString": _value("value"),
    "PrimitiveStringMultiline": _value("value"),
    "PrimitiveInt": _value("value"),
    "PrimitiveFloat": _value("value"),
    "String Literal": _value("string"),
    "Text Multiline": _value("text"),
    "Text _O": _value("text"),
    "CR Text": _value("text"),
    "CR Prompt Text": _value("prompt"),
    "ttN text": _value("text"),
    "easy positive": _value("positive"),
    "easy negative": _value("negative"),
    "ShowText|pysssss": _value("text"),
    "Seed (rgthree)": _value("seed"),
    "CR Seed": _value("seed"),
    "easy seed": _value("seed"),
    "Seed": _value("seed"),
    "Seed Everywhere": _value("seed"),
    "Int Literal": _value("int"),
    "Float Literal": _value("float"),
    # The end.
    "SaveImage": Kind("output", harmless=("filename_prefix",)),
    "PreviewImage": Kind("output", harmless=("filename_prefix",)),
    "SaveAnimatedWEBP": Kind("output", harmless=("filename_prefix",), changes=True),
    "VAEDecode": Kind("decode"),
    "VAEDecodeTiled": Kind(
        "decode", harmless=("tile_size", "overlap", "temporal_size", "temporal_overlap")
    ),
}
