"""How a picture was made, read from the graph that ComfyUI keeps in a picture.

Links are followed through the kinds of nodes that `comfy_nodes.NODES` knows, by the
number of the output; each node is looked at once. Whatever was not followed comes out
under the node's kind and name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from kerasdiffusion.pictures.comfy_nodes import NODES, Kind
from kerasdiffusion.storage.bounds import check_bound
from kerasdiffusion.storage.reading import parse_json

_UNKNOWN = Kind("unknown")
_WORDS = re.compile(r"\b(AND|BREAK)\b")
_DEEPEST = 200


def parse_graph(text: str) -> dict:
    """Reads generation parameters from ComfyUI's graph.

    Of several samplers, the one from which the others go on; or where many lead to one,
    that one. The others are named.

    Args:
        text: The JSON of a picture's `prompt` chunk: nodes by name.

    Returns:
        Arguments of `generation_parameters.format_parameters`, as `parse_parameters`
        gives them; `sampler` and `schedule_type` are ComfyUI's names. A node, or an
        input, that was not followed is there under its name.

    Raises:
        ValueError: If it is no graph, or no sampler node is in it.
    """
    try:
        graph = parse_json(text, "a picture")
    except ValueError as error:
        raise ValueError(f"ComfyUI's graph must be JSON. {error}") from None
    if not isinstance(graph, dict):
        raise ValueError("ComfyUI's graph must be a JSON object of nodes.")
    check_bound("graph_nodes", len(graph), "a picture")
    return _Graph(graph).parameters()


class _Graph:
    """Nodes, and which of their inputs were understood.

    Args:
        nodes: By name, as ComfyUI has them.
    """

    def __init__(self, nodes: Mapping):
        self.nodes = {
            str(name): node
            for name, node in nodes.items()
            if isinstance(node, Mapping) and isinstance(node.get("inputs"), Mapping)
        }
        self.understood: dict[str, set[str]] = {}
        self.notes: dict[str, str] = {}
        self.seen: dict[tuple[str, int], list | None] = {}

    def kind(self, name: str) -> Kind:
        return NODES.get(str(self.nodes[name].get("class_type")), _UNKNOWN)

    def inputs(self, name: str) -> Mapping:
        return self.nodes[name]["inputs"]

    def link(self, value) -> tuple[str, int] | None:
        """The node and the number of the output that a value is taken from."""
        if isinstance(value, list) and len(value) == 2 and str(value[0]) in self.nodes:
            if isinstance(value[1], int):
                return str(value[0]), value[1]
        return None

    def above(self, name: str) -> set[str]:
        """All nodes that lead to one, itself included."""
        found, rest = {name}, [name]
        while rest:
            for value in self.inputs(rest.pop()).values():
                link = self.link(value)
                if link and link[0] not in found:
                    found.add(link[0])
                    rest.append(link[0])
        return found

    def alive(self) -> set[str]:
        """The nodes that lead to an output, where one is known."""
        ends = [name for name in self.nodes if self.kind(name).role == "output"]
        if not ends:
            return set(self.nodes)
        found, rest = set(ends), list(ends)
        while rest:
            for value in self.inputs(rest.pop()).values():
                link = self.link(value)
                if link and link[0] not in found:
                    found.add(link[0])
                    rest.append(link[0])
        return found

    def sampler(self, alive: set[str]) -> str:
        """The sampler that is read."""
        found = [name for name in self.nodes if self.kind(name).role == "sampler"]
        found = [name for name in found if name in alive] or found
        if not found:
            raise ValueError("ComfyUI's graph must have a node KSampler.")
        above = {name: self.above(name).intersection(found) for name in found[:100]}
        first = [name for name, before in above.items() if before == {name}]
        if len(first) == 1:
            return first[0]
        lasts = set(above).difference(
            *(before - {name} for name, before in above.items())
        )
        chosen = lasts.pop() if len(lasts) == 1 else (first or found)[0]
        if lasts:
            self.notes["Several pictures"] = (
                "the graph paints more than one, of which the first is read"
            )
        return chosen

    def parameters(self) -> dict:
        alive = self.alive()
        name = self.sampler(alive)
        inputs, role = self.inputs(name), {}
        self.understand(name, "positive", "negative", "model", "latent_image")
        for given in ("sampler", "sigmas", "noise", "guider"):
            link = self.link(inputs.get(given))
            if link:
                self.understand(name, given)
                role[given] = link[0]
        guided = self.inputs(role["guider"]) if "guider" in role else inputs
        if "guider" in role:
            self.understand(role["guider"], "positive", "negative", "model")
            self.understand(role["guider"], "conditioning")
        found = {"prompt": "", "negative_prompt": ""}
        for ours, theirs in (("prompt", "positive"), ("negative_prompt", "negative")):
            value = guided.get(theirs, guided.get("conditioning"))
            if ours == "negative_prompt" and theirs not in guided:
                continue
            found |= self.prompt(value, ours)
        for node in (name, *role.values()):
            for ours, theirs in self.kind(node).reads.items():
                value = self.value(self.inputs(node).get(theirs))
                if value is not None:
                    self.understand(node, theirs)
                    found[ours] = value
        if "sigmas" in role:
            found |= self.sigmas(role["sigmas"], found)
        if found.get("strength") in (1, 1.0):
            del found["strength"]
        found |= self.size(inputs.get("latent_image"))
        found |= self.model(guided.get("model"))
        # A1111's sampler and its like stand ahead of what is only named.
        found["version"] = "ComfyUI"
        return found | self.notes | self.unread(alive, found)

    def understand(self, name: str, *inputs: str) -> None:
        self.understood.setdefault(name, set()).update(inputs)

    def value(self, value, depth: int = 0):
        """A number or text; of a link, what the node gives that is known to give it."""
        if isinstance(value, (str, int, float)):
            return value
        link = self.link(value)
        if link is None or depth > _DEEPEST:
            return None
        name, output = link
        kind = self.kind(name)
        if kind.role == "pass" and not kind.changes:
            self.understand(name, *self.inputs(name))
            return self.value(next(iter(self.inputs(name).values()), None), depth + 1)
        if kind.role != "value" or output not in kind.carries:
            return None
        self.understand(name, kind.carries[output])
        return self.value(self.inputs(name).get(kind.carries[output]), depth + 1)

    def prompt(self, value, ours: str) -> dict:
        """The texts that a conditioning is made of, as one prompt."""
        texts = self.texts(value, 0)
        if texts is None:
            self.notes[f"{ours.replace('_', ' ')} by an unknown node"] = self.said(
                value
            )
            return {ours: ""}
        if len(texts) == 1:
            return {ours: texts[0][0]} | texts[0][1]
        # ComfyUI takes the mean of what several say, A1111's AND the sum.
        share = f"{1.0 / len(texts):.4g}"
        joined = " AND ".join(f"{text.strip()} :{share}" for text, _ in texts)
        if ours == "negative_prompt":
            self.notes["negative prompts"] = "several are joined"
            joined = ", ".join(text.strip() for text, _ in texts)
        return {ours: joined}

    def texts(self, value, depth: int) -> list[tuple[str, dict]] | None:
        """Those of a link, each with what else its node says; `None` if unknown."""
        link = self.link(value)
        if link is None or depth > _DEEPEST:
            return None
        if link not in self.seen:
            self.seen[link] = None  # what leads to itself says nothing
            self.seen[link] = self.texts_of(*link, depth)
        return self.seen[link]

    def texts_of(self, name: str, output: int, depth: int):
        kind, inputs = self.kind(name), self.inputs(name)
        if kind.role == "text" and output in kind.carries:
            return self.text(name, kind.carries[output])
        if kind.role == "zero":
            return [("", {})]
        if kind.role == "join":
            both = [self.texts(inputs.get(each), depth + 1) for each in _ends(kind)]
            if None in both or len(both[0]) + len(both[1]) > 100:
                return None
            self.understand(name, *inputs)
            if "to" not in kind.carries[0]:
                return both[0] + both[1]
            # What follows begins a new chunk of tokens.
            return [
                (f"{one.strip()} BREAK {two.strip()}", {})
                for one, _ in both[0]
                for two, _ in both[1]
            ][:100]
        if kind.role != "pass":
            return None
        if not kind.changes and inputs:
            self.understand(name, *inputs)
            return self.texts(next(iter(inputs.values())), depth + 1)
        carried = kind.carries.get(output)
        return self.texts(inputs.get(carried), depth + 1) if carried else None

    def text(self, name: str, given: str) -> list[tuple[str, dict]] | None:
        inputs, more = self.inputs(name), {}
        text = self.value(inputs.get(given))
        if not isinstance(text, str):
            return None
        self.understand(name, given, "clip")
        if "text_g" in inputs:
            other = self.value(inputs["text_g"])
            if not isinstance(other, str):
                return None
            self.understand(name, "text_g")
            sizes = {
                "Original size": ("width", "height"),
                "Target size": ("target_width", "target_height"),
                "Crop": ("crop_h", "crop_w"),
            }
            for label, pair in sizes.items():
                both = [self.value(inputs.get(each)) for each in pair]
                if None not in both:
                    self.understand(name, *pair)
                    mark = "," if label == "Crop" else "x"
                    more[label] = mark.join(map(str, both))
            if other != text:
                more["Prompt 2"] = other
        if "clip" in inputs:
            more |= self.clip(inputs["clip"])
        if _WORDS.search(text):
            self.notes[f"{name} {_WORDS.search(text)[0]}"] = "a word in ComfyUI"
        return [(text, more)]

    def clip(self, value) -> dict:
        """Where the text encoder is left, by the first node that says so."""
        for _ in range(_DEEPEST):
            link = self.link(value)
            if link is None:
                break
            name, output = link
            if self.nodes[name].get("class_type") == "CLIPSetLastLayer":
                layer = self.value(self.inputs(name).get("stop_at_clip_layer"))
                if isinstance(layer, int) and layer < 0:
                    self.understand(name, "stop_at_clip_layer", "clip")
                    return {"clip_skip": -layer}
            carried = self.kind(name).carries.get(output)
            value = self.inputs(name).get(carried) if carried else None
        return {}

    def sigmas(self, name: str, found: Mapping) -> dict:
        kind = str(self.nodes[name].get("class_type"))
        self.understand(name, "model")
        if kind == "SDTurboScheduler":
            steps, strength = found.get("steps"), found.get("strength", 1)
            if isinstance(steps, int) and strength in (1, 1.0) and 1 <= steps <= 10:
                return {"Timesteps": ",".join(str(999 - 100 * i) for i in range(steps))}
        named = {"KarrasScheduler": "karras", "ExponentialScheduler": "exponential"}
        return {"schedule_type": named[kind]} if kind in named else {}

    def size(self, value) -> dict:
        link = self.link(value)
        if link is None or self.kind(link[0]).role not in ("latent", "text"):
            return {}
        found = {}
        for side in ("width", "height"):
            for name in (side, f"empty_latent_{side}"):
                number = self.value(self.inputs(link[0]).get(name))
                if isinstance(number, int):
                    self.understand(link[0], name)
                    found[side] = number
        return found if len(found) == 2 else {}

    def model(self, value) -> dict:
        for _ in range(_DEEPEST):
            link = self.link(value)
            if link is None:
                break
            name, output = link
            kind, inputs = self.kind(name), self.inputs(name)
            given = kind.reads.get("model") if kind.role == "model" else "ckpt_name"
            if kind.role in ("model", "text") and output == 0:
                found = self.value(inputs.get(given))
                if isinstance(found, str):
                    self.understand(name, given)
                    return {"model": found}
            if kind.role == "pass" and not kind.changes and inputs:
                self.understand(name, *inputs)
                value = next(iter(inputs.values()))
                continue
            carried = kind.carries.get(output) if kind.role == "pass" else None
            value = inputs.get(carried) if carried else None
        return {}

    def said(self, value) -> str:
        link = self.link(value)
        return f"{self.nodes[link[0]].get('class_type')} {link[0]}" if link else "none"

    def unread(self, alive: set[str], found: Mapping) -> dict:
        """What was not followed, by the kinds and names of nodes."""
        rest = {}
        for name in self.nodes:
            if name not in alive:
                continue
            kind = self.kind(name)
            left = dict(self._left(name, kind))
            followed = name in self.understood or kind.role in ("output", "decode")
            followed |= kind.role == "text" and not kind.changes
            followed &= kind is not _UNKNOWN and not kind.changes
            if followed and not left:
                continue
            label = f"{self.nodes[name].get('class_type')} {name}"
            values = ", ".join(f"{key}: {_short(value)}" for key, value in left.items())
            rest[label if label not in found else f"node {label}"] = values or "a node"
        return rest

    def _left(self, name: str, kind: Kind) -> Iterator[tuple[str, object]]:
        """Inputs that are values, not understood, and not known to mean nothing."""
        for key, value in self.inputs(name).items():
            if key in self.understood.get(name, ()) or key in kind.harmless:
                continue
            if self.link(value) is not None or value in (None, "", "None"):
                continue
            if value not in kind.neutral.get(key, ()):
                yield key, value


def _ends(kind: Kind) -> list[str]:
    return [kind.carries[0], kind.carries[1]]


def _short(value) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."
