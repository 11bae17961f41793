"""What the end of a key says: which tensor of which algorithm.

A key is a module's name, in any spelling, and one of these endings. The table is read
from the end, the longest first: what stands before it is looked up whole and never
split (`namespaces.py`).
"""

from __future__ import annotations

import functools
import re

#: Adapters' own names may stand in PEFT's keys: `lora_A.default.weight`.
_NAMED = r"(\.[^.]+)?"
#: From a slot to the endings, regular expressions, that mean it.
ENDINGS = {
    "down": (
        r"\.lora_down\.weight",
        r"\.lora\.down\.weight",
        r"\.lora_linear_layer\.down\.weight",
        rf"\.lora_A{_NAMED}\.weight",
        r"\.lora_A",
        r"_lora\.down\.weight",
    ),
    "up": (
        r"\.lora_up\.weight",
        r"\.lora\.up\.weight",
        r"\.lora_linear_layer\.up\.weight",
        rf"\.lora_B{_NAMED}\.weight",
        r"\.lora_B",
        r"_lora\.up\.weight",
    ),
    "mid": (r"\.lora_mid\.weight", r"\.lora\.mid\.weight"),
    "up_bias": (rf"\.lora_B{_NAMED}\.bias", r"\.lora_up\.bias"),
    "alpha": (
        r"\.alpha",
        r"\.lora\.alpha",
        r"\.lora_alpha",
        r"\.lora_linear_layer\.alpha",
        r"_lora\.alpha",
    ),
    "dora": (r"\.dora_scale", r"\.lora\.dora_scale"),
    "magnitude": (
        rf"\.lora_magnitude_vector{_NAMED}(\.weight)?",
        r"\.magnitude",
    ),
    **{
        name: (rf"\.{name}(\.default)?",)
        for name in (
            *(f"hada_{x}" for x in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")),
            *(f"lokr_w{i}{end}" for i in (1, 2) for end in ("", "_a", "_b")),
            *("lokr_t2", "ia3_l", "boft_R", "boft_s"),
        )
    },
    "diff": (r"\.diff",),
    "diff_bias": (r"\.diff_b",),
    "norm": (r"\.w_norm",),
    "norm_bias": (r"\.b_norm",),
    **{name: (rf"\.{name}\.weight",) for name in ("a1", "a2", "b1", "b2", "bm")},
    "ia3": (r"\.weight",),
    "on_input": (r"\.on_input",),
    "oft_blocks": (r"\.oft_blocks",),
    "rescale": (r"\.rescale",),
    "oft_R": (rf"\.oft_R{_NAMED}\.weight",),
    "scaled_oft": (r"\.oft_R\.scaled_oft",),
    **{
        f"{letter}{end.lower()}": (rf"\.glora_{letter}{_NAMED}\.{tail}",)
        for letter in "ABCDE"
        for end, tail in (("D", "Xd"), ("U", "Xu"), ("X", "(X|zeros)"))
    },
}
#: What PEFT's keys have of kinds that are not read.
_STRANGE_KINDS = (
    *("adamss", "beft", "c3a", "deft", "delora", "fourierft", "frod", "gralora"),
    *("hira", "hra", "lily", "ln_tuning", "miss", "osf", "peanut", "poly", "psoft"),
    *("pvera", "randlora", "road", "shadow", "shira", "supertuning", "tinylora"),
    *("trainable_tokens", "unilora", "vblora", "vera", "waveft"),
)
#: Endings of what is known and cannot be merged, and why.
REFUSED = {
    r"\.(q_layer|p_layer)\.weight|\.lambda_layer": (
        "T-LoRA, whose rank follows the timestep: no one weight stands for it, and "
        "this library merges adapters into weights"
    ),
    r"\.(reshape_weight|set_weight)": (
        "ComfyUI's difference that gives a weight another shape or value"
    ),
    rf"\.(lora_E|({'|'.join(_STRANGE_KINDS)})_\w+)(\.[\w-]+)*": (
        "of a kind of PEFT's that is not read: merge it with PEFT (`merge_and_unload`) "
        "and load the model"
    ),
}

_NAMES = {f"s{i}": slot for i, slot in enumerate(ENDINGS)}
_ANY = re.compile(
    "|".join(f"(?P<{name}>{'|'.join(ENDINGS[slot])})$" for name, slot in _NAMES.items())
)
_REFUSED = [(re.compile(f"({ending})$"), why) for ending, why in REFUSED.items()]
#: Keys of the latest files: each is asked for several times.
_KEPT = 2**14


@functools.lru_cache(_KEPT)
def split(key: str) -> tuple[str, str] | None:
    """A key as a module's name and a slot.

    Args:
        key: The name of a tensor in a file.

    Returns:
        Both, or `None` if the key ends in none of `ENDINGS`.

    Example:

    >>> split("lora_unet_conv_in.lora_up.weight")
    ('lora_unet_conv_in', 'up')
    """
    match = _ANY.search(key)
    return match and (key[: match.start()], _NAMES[match.lastgroup])


@functools.lru_cache(_KEPT)
def refused(key: str) -> str | None:
    """Why a key belongs to an adapter that is not read, if it does."""
    return next((why for ending, why in _REFUSED if ending.search(key)), None)
