"""How a picture was made, read from the graph that ComfyUI keeps in a PNG."""

from __future__ import annotations

import json
from collections.abc import Mapping


def parse_graph(text: str) -> dict:
    """Reads generation parameters from ComfyUI's graph, as far as it is the usual one.

    Args:
        text: The JSON of a PNG's `prompt` chunk: nodes by name.

    Returns:
        Arguments of `generation_parameters.format_parameters`, as `parse_parameters`
        gives them; `sampler` and `schedule_type` are ComfyUI's names.

    Raises:
        ValueError: If it is no graph, or no sampler node is in it.
    """
    try:
        graph = json.loads(text)
    except ValueError:
        graph = None
    if not isinstance(graph, dict):
        raise ValueError("ComfyUI's graph must be a JSON object of nodes.")
    samplers = [
        node
        for node in graph.values()
        if isinstance(node, Mapping)
        and str(node.get("class_type")) in ("KSampler", "KSamplerAdvanced")
    ]
    if not samplers:
        raise ValueError("ComfyUI's graph must have a node KSampler.")
    inputs = samplers[0].get("inputs", {})
    found = {
        "prompt": _follow(graph, inputs.get("positive"), "text", "") or "",
        "negative_prompt": _follow(graph, inputs.get("negative"), "text", "") or "",
        "steps": inputs.get("steps"),
        "sampler": inputs.get("sampler_name"),
        "schedule_type": inputs.get("scheduler"),
        "guidance_scale": inputs.get("cfg"),
        "seed": inputs.get("seed", inputs.get("noise_seed")),
        "width": _follow(graph, inputs.get("latent_image"), "width"),
        "height": _follow(graph, inputs.get("latent_image"), "height"),
        "model": _follow(graph, inputs.get("model"), "ckpt_name"),
        "version": "ComfyUI",
    }
    if inputs.get("denoise") not in (None, 1, 1.0):
        found["strength"] = inputs["denoise"]
    # A link in place of a value is another node's to compute.
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, str | int | float)
    }


def _follow(graph: Mapping, link, wanted: str, default=None, depth: int = 16):
    """The nearest input of a name, up the links `[node, output]` from one of them."""
    if not isinstance(link, list) or not link or depth == 0:
        return default
    node = graph.get(str(link[0]))
    inputs = node.get("inputs", {}) if isinstance(node, Mapping) else {}
    value = inputs.get(wanted)
    if isinstance(value, str | int | float):
        return value
    for each in inputs.values():
        found = _follow(graph, each, wanted, None, depth - 1)
        if found is not None:
            return found
    return default
