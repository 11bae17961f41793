"""The published networks that follow pictures, by what they follow and the family.

`"canny"` is the first of the table for the model that is in use; `"t2i-canny"` a
T2I-Adapter, which costs next to nothing at each step. The name of the repository, or of
its last part, tells each from all others.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

#: A family by the width of its context.
FAMILIES = {768: "sd1", 1024: "sd2", 2048: "sdxl"}

_V11, _V10 = "lllyasviel/control_v11", "lllyasviel/sd-controlnet"
_SD21, _T2I = "thibaud/controlnet-sd21", "TencentARC"
# What it follows, the family, the repository on the hub; the first of a pair is meant
# by the name alone.
_ROWS = (
    ("canny", "sd1", f"{_V11}p_sd15_canny"),
    ("depth", "sd1", f"{_V11}f1p_sd15_depth"),
    ("inpaint", "sd1", f"{_V11}p_sd15_inpaint"),
    ("ip2p", "sd1", f"{_V11}e_sd15_ip2p"),
    ("lineart", "sd1", f"{_V11}p_sd15_lineart"),
    ("lineart_anime", "sd1", f"{_V11}p_sd15s2_lineart_anime"),
    ("mlsd", "sd1", f"{_V11}p_sd15_mlsd"),
    ("normal", "sd1", f"{_V11}p_sd15_normalbae"),
    ("openpose", "sd1", f"{_V11}p_sd15_openpose"),
    ("scribble", "sd1", f"{_V11}p_sd15_scribble"),
    ("seg", "sd1", f"{_V11}p_sd15_seg"),
    ("shuffle", "sd1", f"{_V11}e_sd15_shuffle"),
    ("softedge", "sd1", f"{_V11}p_sd15_softedge"),
    ("tile", "sd1", f"{_V11}f1e_sd15_tile"),
    ("canny", "sd1", f"{_V10}-canny"),
    ("depth", "sd1", f"{_V10}-depth"),
    ("hed", "sd1", f"{_V10}-hed"),
    ("mlsd", "sd1", f"{_V10}-mlsd"),
    ("normal", "sd1", f"{_V10}-normal"),
    ("openpose", "sd1", f"{_V10}-openpose"),
    ("scribble", "sd1", f"{_V10}-scribble"),
    ("seg", "sd1", f"{_V10}-seg"),
    ("canny", "sd2", f"{_SD21}-canny-diffusers"),
    ("color", "sd2", f"{_SD21}-color-diffusers"),
    ("depth", "sd2", f"{_SD21}-depth-diffusers"),
    ("hed", "sd2", f"{_SD21}-hed-diffusers"),
    ("lineart", "sd2", f"{_SD21}-lineart-diffusers"),
    ("normal", "sd2", f"{_SD21}-normalbae-diffusers"),
    ("openpose", "sd2", f"{_SD21}-openpose-diffusers"),
    ("scribble", "sd2", f"{_SD21}-scribble-diffusers"),
    ("seg", "sd2", f"{_SD21}-ade20k-diffusers"),
    ("zoedepth", "sd2", f"{_SD21}-zoedepth-diffusers"),
    ("canny", "sdxl", "diffusers/controlnet-canny-sdxl-1.0"),
    ("canny", "sdxl", "diffusers/controlnet-canny-sdxl-1.0-mid"),
    ("canny", "sdxl", "diffusers/controlnet-canny-sdxl-1.0-small"),
    ("canny", "sdxl", "xinsir/controlnet-canny-sdxl-1.0"),
    ("depth", "sdxl", "diffusers/controlnet-depth-sdxl-1.0"),
    ("depth", "sdxl", "diffusers/controlnet-depth-sdxl-1.0-mid"),
    ("depth", "sdxl", "diffusers/controlnet-depth-sdxl-1.0-small"),
    ("depth", "sdxl", "xinsir/controlnet-depth-sdxl-1.0"),
    ("openpose", "sdxl", "thibaud/controlnet-openpose-sdxl-1.0"),
    ("openpose", "sdxl", "xinsir/controlnet-openpose-sdxl-1.0"),
    ("scribble", "sdxl", "xinsir/controlnet-scribble-sdxl-1.0"),
    ("tile", "sdxl", "xinsir/controlnet-tile-sdxl-1.0"),
    ("t2i-canny", "sd1", f"{_T2I}/t2iadapter_canny_sd15v2"),
    ("t2i-depth", "sd1", f"{_T2I}/t2iadapter_depth_sd15v2"),
    ("t2i-sketch", "sd1", f"{_T2I}/t2iadapter_sketch_sd15v2"),
    ("t2i-zoedepth", "sd1", f"{_T2I}/t2iadapter_zoedepth_sd15v1"),
    ("t2i-canny", "sd1", f"{_T2I}/t2iadapter_canny_sd14v1"),
    ("t2i-color", "sd1", f"{_T2I}/t2iadapter_color_sd14v1"),
    ("t2i-depth", "sd1", f"{_T2I}/t2iadapter_depth_sd14v1"),
    ("t2i-keypose", "sd1", f"{_T2I}/t2iadapter_keypose_sd14v1"),
    ("t2i-openpose", "sd1", f"{_T2I}/t2iadapter_openpose_sd14v1"),
    ("t2i-seg", "sd1", f"{_T2I}/t2iadapter_seg_sd14v1"),
    ("t2i-sketch", "sd1", f"{_T2I}/t2iadapter_sketch_sd14v1"),
    ("t2i-canny", "sdxl", f"{_T2I}/t2i-adapter-canny-sdxl-1.0"),
    ("t2i-depth", "sdxl", f"{_T2I}/t2i-adapter-depth-midas-sdxl-1.0"),
    ("t2i-lineart", "sdxl", f"{_T2I}/t2i-adapter-lineart-sdxl-1.0"),
    ("t2i-openpose", "sdxl", f"{_T2I}/t2i-adapter-openpose-sdxl-1.0"),
    ("t2i-sketch", "sdxl", f"{_T2I}/t2i-adapter-sketch-sdxl-1.0"),
    ("t2i-zoedepth", "sdxl", f"{_T2I}/t2i-adapter-depth-zoe-sdxl-1.0"),
)

#: From what is followed to the networks of each family, the usual one first.
CONTROLS: dict[str, dict[str, list[str]]] = {}
for _kind, _family, _source in _ROWS:
    CONTROLS.setdefault(_kind, {}).setdefault(_family, []).append(_source)


def kind_of(source) -> str | None:
    """What a network of the table follows, by any of its names; else `None`.

    Example:

    >>> kind_of("lllyasviel/sd-controlnet-hed")
    'hed'
    """
    if not isinstance(source, str):
        return None
    if source in CONTROLS:
        return source
    name = source.removeprefix("hf://")
    for kind, _, repository in _ROWS:
        if name in (repository, repository.rpartition("/")[2]):
            return kind
    return None


def find_control(source, context_width: int | None = None):
    """The source of a network by its name; anything else is a source itself.

    Args:
        source: What is followed (`"canny"`), a repository of the table
            (`"lllyasviel/sd-controlnet-canny"`) or the last part of its name; or what
            `weights.controls.read_control_config` takes.
        context_width: Channels of the model's context, by which its family is known.

    Returns:
        A source for `weights.controls`.

    Raises:
        ValueError: If it looks like a name and is none, or there is none for the
            family.

    Example:

    >>> find_control("canny", 768)
    'hf://lllyasviel/control_v11p_sd15_canny'
    """
    if not isinstance(source, str):
        return source
    sources = [row[2] for row in _ROWS]
    if source in sources:
        return f"hf://{source}"
    if os.sep in source or ":" in source or Path(source).exists():
        return source
    if source in CONTROLS:
        families = CONTROLS[source]
        family = FAMILIES.get(context_width)
        if family not in families:
            raise ValueError(
                f"A network to follow {source!r} is known for {', '.join(families)}; "
                f"others are given by hf://owner/name, a folder or a file. Received: "
                f"{source!r} for {family or 'no family that has such'}"
            )
        return f"hf://{families[family][0]}"
    for each in sources:
        if each.rpartition("/")[2] == source:
            return f"hf://{each}"
    known = [*CONTROLS, *(each.rpartition("/")[2] for each in sources)]
    near = difflib.get_close_matches(source, known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(
        f"A network to follow a picture is a name ({', '.join(CONTROLS)}), "
        f"hf://owner/name, a folder or a file.{hint} Received: {source!r}"
    )
