"""How a picture was made, as the text that AUTOMATIC1111's web UI writes and reads."""

from __future__ import annotations

import json
import re

from kerasdiffusion.pictures.other_programs import parse_json_parameters
from kerasdiffusion.storage.bounds import check_bound

# What the library calls a parameter, what AUTOMATIC1111's web UI calls it, its type.
_FIELDS = (
    ("steps", "Steps", int),
    ("sampler", "Sampler", str),
    ("schedule_type", "Schedule type", str),
    ("guidance_scale", "CFG scale", float),
    ("seed", "Seed", int),
    ("size", "Size", str),
    ("model_hash", "Model hash", str),
    ("model", "Model", str),
    ("strength", "Denoising strength", float),
    ("clip_skip", "Clip skip", int),
    ("version", "Version", str),
)
_NEGATIVE = "Negative prompt:"
_KEY = r"\w[\w \-/]+"
# A JSON string, a JSON object without others in it, or anything up to a comma.
_VALUE = r'"(?:\\.|[^\\"])+"|\{[^{}\n]*\}'
_PARAMETER = re.compile(rf"\s*({_KEY}):\s*({_VALUE}|[^,]*)(?:,|$)")
_PARAMETER_OF_LINE = re.compile(
    rf"[ \t]*({_KEY}):[ \t]*({_VALUE}|[^,\n]*)[ \t\r]*(?:,[ \t]*|\n|$)"
)
_FIRST = re.compile(r"\s*Steps: ")
_LABEL = re.compile(rf"\s*({_KEY}):\s*(.*)")
# Lines behind that of the parameters, at most; and the quoted value may have several.
_MOST_BEHIND = 200
_SIZE = re.compile(r"(\d{1,6})x(\d{1,6})")
# Fewer on the last line, and the web UI takes that line for prompt.
_FEWEST_PARAMETERS = 3
# What stands among the parameters and is none.
_OTHER = "Other text"


def format_parameters(
    prompt: str, negative_prompt: str | None = None, **parameters
) -> str:
    """Writes generation parameters as AUTOMATIC1111's web UI does.

    The prompt, then `Negative prompt: ` and the negative prompt, then one line
    `Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, ...`. A value
    with a comma, a colon, a quote or a line break is written as a JSON string.

    Args:
        prompt: The prompt.
        negative_prompt: The negative prompt; `None` or empty for none.
        **parameters: `steps`, `sampler` (by the web UI's name where it has one),
            `schedule_type`, `guidance_scale`, `seed`, `height` and `width`, `model`,
            `model_hash`, `strength`, `clip_skip`, `version`; anything else under its
            own name, as `**{"Hires steps": 5}`. `None` leaves one out.

    Returns:
        The text. `parse_parameters` gives the arguments back; only a prompt with a
        line that itself starts with `Negative prompt:` reads differently, as it does
        in the web UI.

    Raises:
        ValueError: If only one of `height` and `width` is given, or a name of a
            parameter is not made of letters, digits, spaces, "-" and "/".

    Example:

    ```python
    format_parameters("a cat", steps=20, sampler="Euler a", seed=1)
    # "a cat\\nSteps: 20, Sampler: Euler a, Seed: 1"
    ```

    Reference: `modules/infotext_utils.py` of AUTOMATIC1111/stable-diffusion-webui.
    """
    values = {name: value for name, value in parameters.items() if value is not None}
    height, width = values.pop("height", None), values.pop("width", None)
    if (height is None) != (width is None):
        raise ValueError(
            "Height and width must be given together. "
            f"Received: height={height}, width={width}"
        )
    if height is not None:
        values["size"] = f"{width}x{height}"
    pairs = []
    for name, label, _ in _FIELDS:
        if name in values:
            pairs.append((label, values.pop(name)))
    for label, value in values.items():
        if not re.fullmatch(_KEY, label):
            raise ValueError(
                "The name of a parameter must be made of letters, digits, spaces, "
                f"'-' and '/'. Received: {label!r}"
            )
        pairs.append((label, value))
    lines = [prompt] if prompt else []
    if negative_prompt:
        lines.append(f"{_NEGATIVE} {negative_prompt}")
    # Also when it is empty: the last line is then known not to be the prompt's.
    lines.append(", ".join(f"{label}: {_quote(value)}" for label, value in pairs))
    return "\n".join(lines)


def parse_parameters(text: str) -> dict:
    """Reads generation parameters that the web UI or `format_parameters` wrote.

    Args:
        text: The text of the `parameters` chunk.

    Whatever stands behind the last line (line breaks, templates) belongs to it, and
    lines may end in CRLF. JSON of SwarmUI and of Fooocus is read by a table.

    Returns:
        The arguments of `format_parameters`: `prompt` and `negative_prompt` always,
        the others where they are given, numbers as numbers.

    Raises:
        ValueError: If it is JSON of no known program.

    Example:

    ```python
    parse_parameters("a cat\\nSteps: 20, Sampler: Euler a, Seed: 1")
    # {"prompt": "a cat", "negative_prompt": "", "steps": 20, ...}
    ```
    """
    check_bound("picture_text", len(text), "a picture")
    found = parse_json_parameters(text)
    if found is not None:
        return found
    if text.count("\r\n") == text.count("\n"):
        text = text.replace("\r\n", "\n")
    lines, pairs = _last_line(text.split("\n"))
    names = {label: (name, kind) for name, label, kind in _FIELDS}
    start = next(
        (index for index, line in enumerate(lines) if line.startswith(_NEGATIVE)),
        len(lines),
    )
    negative = "\n".join(lines[start:])[len(_NEGATIVE) :].removeprefix(" ")
    result = {"prompt": "\n".join(lines[:start]), "negative_prompt": negative}
    for label, quoted in pairs:
        value = _unquote(quoted)
        name, kind = names.get(label, (label, str))
        size = _SIZE.fullmatch(value) if name == "size" else None
        if size:
            result["width"], result["height"] = int(size[1]), int(size[2])
            continue
        try:
            value = kind(value)
        except ValueError:
            pass  # Another tool's way to write it: kept as text.
        # A parameter named "prompt" does not replace the prompt.
        result.setdefault(name, value)
    return result


def _last_line(lines: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """The lines of the prompts, and labels with their values.

    The parameters stand on the last line that has some, as a rule. Behind it may come
    the rest of a quoted value, labels with a line each (the templates of Dynamic
    Prompts), and whatever a tool has put there.
    """
    known = {label for _, label, _ in _FIELDS}
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    for at in range(end - 1, max(end - 1 - _MOST_BEHIND, -1), -1):
        line = lines[at]
        if at == end - 1:
            pairs = _split_parameters(line)
            if pairs and all(label in known for label, _ in pairs):
                return lines[:at], pairs
        elif not _FIRST.match(line):
            continue
        else:
            pairs = _split_parameters("\n".join(lines[at:end]), until_break=True)
        least = _FEWEST_PARAMETERS
        if len(known.intersection(label for label, _ in pairs)) >= least:
            return lines[:at], pairs
    pairs = _split_parameters(lines[end - 1]) if end else []
    if len(pairs) >= _FEWEST_PARAMETERS:
        return lines[: end - 1], pairs
    # An empty line at the end is that of no parameters.
    return lines[:-1] if lines and not lines[-1] else lines, []


def _quote(value) -> str:
    if isinstance(value, float):
        # 7.0 is written 7; NumPy's numbers print their type.
        value = repr(float(value)).removesuffix(".0")
    text = str(value)
    if text != text.strip() or any(mark in text for mark in ',:"\n'):
        return json.dumps(text, ensure_ascii=False)
    return text


def _unquote(text: str) -> str:
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    try:
        return str(json.loads(text, strict=False))
    except ValueError:
        return text


def _split_parameters(text: str, until_break=False) -> list[tuple[str, str]]:
    """Labels and values of a text that starts with one; others have none.

    Args:
        text: A line, or several.
        until_break: Whether a value that is not quoted ends where the line does, and
            what follows is a label with a line of its own, or `Other text`.
    """
    pairs, others, position = [], [], 0
    parameter = _PARAMETER_OF_LINE if until_break else _PARAMETER
    while position < len(text):
        match = parameter.match(text, position)
        if match:
            pairs.append((match[1], match[2].rstrip()))
            position = match.end()
            if until_break and text[position - 1 : position] == "\n":
                pairs += [(_OTHER, ", ".join(others))] * bool(others)
                return pairs + _each_line(text[position:])
        elif pairs:
            # Some tools write a JSON object here, without quoting it.
            comma = text.find(",", position)
            end = len(text) if comma < 0 else comma
            if text[position:end].strip():
                others.append(text[position:end].strip())
            position = end + 1
        else:
            break
    return pairs + [(_OTHER, ", ".join(others))] * bool(others)


def _each_line(text: str) -> list[tuple[str, str]]:
    """Labels that have a line each; a line without one belongs to that before."""
    pairs = []
    for line in text.split("\n"):
        match = _LABEL.match(line)
        if match:
            pairs.append((match[1], match[2].strip()))
        elif pairs:
            label, value = pairs[-1]
            pairs[-1] = (label, f"{value}\n{line}".strip())
        elif line.strip():
            pairs.append((_OTHER, line.strip()))
    return pairs
