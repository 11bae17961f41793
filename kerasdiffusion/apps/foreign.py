"""How other programs' pictures are painted again: a table of what each does its way.

Reference:
    `modules/sd_samplers_kdiffusion.py` of AUTOMATIC1111/stable-diffusion-webui;
    `comfy/samplers.py` of ComfyUI; `examples/cli/main.cpp` of
    leejet/stable-diffusion.cpp; `backend/stable_diffusion/schedulers/` of InvokeAI.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class Program(NamedTuple):
    """What a program does its own way.

    Attributes:
        starts: What its version begins with.
        rng: Whose noise its seeds stand for, where the picture does not say; `None`
            where nobody's is known.
        rngs: The same for what the picture says, in small letters.
        samplers: Its names of samplers that mean another here.
        spacings: Its names of spacings that mean another here.
        default: Its spacing where the picture names none; `None` for the sampler's own.
        cut: Samplers of which a step more is spaced and the last but one left out.
        weights: How it weighs words: `prompt_weighting`, or `None` as A1111's.
    """

    starts: str
    rng: str | None
    rngs: Mapping[str, str] = {}
    samplers: Mapping[str, str] = {}
    spacings: Mapping[str, str] = {}
    default: str | None = None
    cut: tuple[str, ...] = ()
    weights: str | None = None


_A1111_RNGS = {"cpu": "webui-cpu", "nv": "torch-cuda", "gpu": "torch-cuda"}
_SOLVERS = {"UniPC": "unipc_3_bh1", "uni_pc": "unipc_3_bh1"}
_SOLVERS |= {"DEIS": "deis_3", "deis": "deis_3"}
_COMFY = Program(
    "ComfyUI",
    "comfy",
    samplers=_SOLVERS,
    spacings={"beta": "beta_timesteps"},
    default="normal",
    cut=("dpm_2", "dpm_2_ancestral", "unipc_3", "unipc_3_bh1"),
)
WEB_UI = Program(
    "",
    "torch-cuda",
    _A1111_RNGS,
    _SOLVERS,
    {"Align Your Steps": "align_your_steps_11"},
    "normal",
    ("dpm_2", "dpm_2_ancestral", "dpmpp_3m_sde"),
)
#: The web UI's own texts begin with a number, and are not here.
PROGRAMS = (
    _COMFY,
    _COMFY._replace(starts="SwarmUI"),
    _COMFY._replace(starts="Fooocus"),
    Program(
        "stable-diffusion.cpp",
        "torch-cuda",
        {"cuda": "torch-cuda", "cpu": "webui-cpu"},
        {"ddim_trailing": "ddim"},
        {"discrete": "normal", "ays": "align_your_steps_11"},
        "normal",
    ),
    Program(
        "InvokeAI",
        "torch",
        {"cuda": "torch-cuda"},
        {
            "dpmpp_2s": "dpmpp_2s_ancestral",
            "kdpm_2": "dpm_2",
            "kdpm_2_a": "dpm_2_ancestral",
            "euler_a": "euler_ancestral",
            "k_dpmpp_2": "dpmpp_2m",
        },
        weights="compel",
    ),
    Program(
        "NovelAI", None, samplers={"ddim_v3": "ddim"}, spacings={"native": "normal"}
    ),
    Program("Draw Things", None, _A1111_RNGS),
    Program("Easy Diffusion", None),
)
#: What changes no picture, or is where the picture was made and nothing more.
HARMLESS = frozenset(
    (
        *(
            "prompt",
            "negative_prompt",
            "model_hash",
            "version",
            "Version",
            "Model hash",
        ),
        *("VAE hash", "Batch size", "Batch pos", "App", "Backend", "Parser", "Date"),
        *("Created Date", "User", "Time taken", "First pass size", "Hashes of files"),
    )
)
#: Values that change nothing, by label.
NEUTRAL = {
    "First pass size": ("0x0",),
    "Seed resize from": ("0x0", "-1x-1"),
    "Emphasis": ("Original",),
    "Noise Schedule": ("Default",),
    "Eta": ("0", "0.0"),
    "ENSD": ("0",),
    "Hypernet strength": ("0",),
}
_BRACE = {"{": 1.05, "[": 1 / 1.05}
_WEIGHT = re.compile(r":\s*[+-]?[.\d]+\s*\)")


def program_of(version: str) -> Program:
    """The program that wrote a picture of some version."""
    for program in PROGRAMS:
        if version.startswith(program.starts):
            return program
    return WEB_UI


def as_ours(text: str, program: Program) -> tuple[str, str | None]:
    r"""A prompt in the language of this library, and what is not followed of it.

    Args:
        text: The prompt as the program has it.
        program: Whose it is.

    Returns:
        The prompt; and a remark, or `None`.

    Example:

    >>> as_ours("{a cat} [dog]", program_of("NovelAI"))[0]
    '(a cat:1.05) (dog:0.9524)'
    """
    if program.starts == "NovelAI":
        return _braces(text), "numbers::text::" if "::" in text else None
    if program.starts in ("ComfyUI", "SwarmUI", "Fooocus"):
        # Square brackets are letters there.
        text = re.sub(r"(?<!\\)([\[\]])", r"\\\1", text)
        if _WEIGHT.search(text) or "((" in text:
            return text, "weights of words, which draw away from the empty prompt there"
    return text, None


def _braces(text: str) -> str:
    """NovelAI's brackets: `{}` and `[]` multiply by 1.05 and its inverse."""
    if text.count("{") != text.count("}") or text.count("[") != text.count("]"):
        return text
    pieces, opened = [], []
    for piece in re.split(r"([{}\[\]()])", text):
        if piece in _BRACE:
            opened.append(piece)
            pieces.append("(")
        elif piece in ("}", "]") and opened:
            pieces.append(f":{_BRACE[opened.pop()]:.4g})")
        elif piece in ("(", ")"):
            pieces.append(f"\\{piece}")  # letters there
        else:
            pieces.append(piece)
    return "".join(pieces)
