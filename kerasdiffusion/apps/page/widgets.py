"""Widgets of a request's fields, and a widget's value as a request takes it."""

from __future__ import annotations

import re

from kerasdiffusion.apps.flags import GROUPS, in_group
from kerasdiffusion.requests.fields import Field
from kerasdiffusion.requests.kinds import Choice, Name, Number, Switch, Text, Whole
from kerasdiffusion.requests.larger import LARGER
from kerasdiffusion.requests.objects import Model, Prompts
from kerasdiffusion.requests.request import FIELDS
from kerasdiffusion.requests.web_ui_names import WEB_UI_NAMES
from kerasdiffusion.sampling.spacings import SPACINGS
from kerasdiffusion.storage.bounds import BOUNDS

#: What a list of names offers first: nothing is said.
OWN = "the model's own"
#: Fields that a widget of its own stands for.
APART = ("adapters", "sampler", "spacing", "variation_seed", "variation_strength")
#: The longest range that is a slider.
_SLIDER = 1000
_LABELS = {
    "unconditional_guidance_scale": "Guidance scale",
    "num_steps": "Steps",
    "batch_size": "Pictures",
    "prompt": "Prompt",
    "negative_prompt": "Negative prompt",
    "instruction": "Instruction",
    "rng": "Noise of",
    "s_churn": "Noise ahead of steps (churn)",
    "strength": "How much is painted anew",
    "hires_strength": "How much the second pass paints anew",
}


def more() -> list[tuple[str, list[Field]]]:
    """What every task takes beside what the page shows first, by title."""
    return [
        (title, [each for each in in_group(title) if each.name not in APART])
        for title in (*GROUPS, LARGER)
    ]


def label_of(name: str) -> str:
    """What a field is called."""
    field = FIELDS[name]
    return _LABELS.get(name) or field.asked.label or name.replace("_", " ").capitalize()


def info_of(name: str) -> str:
    """The field's line of help, without the command line's words."""
    text = re.sub(r"--([a-z])", r"\1", FIELDS[name].asked.help)
    return text[:1].upper() + text[1:]


def widget(name: str, **options):
    """The widget of a field: its name, kind, range, default and line of help.

    Args:
        name: The field's.
        **options: Of Gradio's component, in place of the field's.
    """
    import gradio as gr

    field = FIELDS[name]
    kind, default = field.asked.kind, field.default
    options = {"label": label_of(name), "info": info_of(name)} | options
    if isinstance(kind, Switch):
        return gr.Checkbox(**{"value": default} | options)
    choices = _choices(name)
    if choices is not None:
        first = default if default in [value for _, value in choices] else ""
        return gr.Dropdown(**{"choices": choices, "value": first} | options)
    if isinstance(kind, (Whole, Number)) and options.get("value", default) is not None:
        return _of_numbers(gr, name, options)
    for bound in ("minimum", "maximum"):
        options.pop(bound, None)
    # (A number that may be left out is a text: Gradio's own becomes 0 when it is seen.)
    empty = "" if default is None else kind.write(default)
    return gr.Textbox(**{"value": empty, "placeholder": OWN, "lines": 1} | options)


def _of_numbers(gr, name: str, options: dict):
    """A slider where there is a range, else a field for a number."""
    field = FIELDS[name]
    kind, is_whole = field.asked.kind, isinstance(field.asked.kind, Whole)
    least, most = options.pop("minimum", kind.least), options.pop("maximum", kind.most)
    if name == "batch_size":
        most = BOUNDS["server_pictures"].most
    options = {"value": field.default} | options
    if most - least <= _SLIDER:
        options |= {"minimum": least, "maximum": most}
        return gr.Slider(**{"step": 1 if is_whole else 0.01} | options)
    bounds = {"minimum": least, "maximum": most}
    options |= {key: x for key, x in bounds.items() if abs(x) != float("inf")}
    return gr.Number(**{"step": 1 if is_whole else 0.1} | options)


def _choices(name: str) -> list[tuple[str, str]] | None:
    """What a field offers, as shown and as it is."""
    kind = FIELDS[name].asked.kind
    if isinstance(kind, Choice):
        return [(each, each) for each in kind.names]
    if isinstance(kind, Model):
        return [("none", "")]
    if not isinstance(kind, Name):
        return None
    if kind.finder == FIELDS["sampler"].asked.kind.finder:
        shown = [
            (" ".join(filter(None, WEB_UI_NAMES[each])), each) for each in WEB_UI_NAMES
        ]
        return [(OWN, ""), *shown]
    return [(OWN, ""), *((each, each) for each in SPACINGS)]


def read(name: str, value):
    """A widget's value as a request takes it; `None` where nothing is said.

    Raises:
        TypeError: If it is of another type.
        ValueError: If it is out of range.
    """
    if value is None or value == "" or value == []:
        return None
    kind = FIELDS[name].asked.kind
    if isinstance(value, str) and not isinstance(kind, Choice):
        is_text = isinstance(kind, (Prompts, Text))
        try:
            return kind.read(value if is_text else value.strip())
        except ValueError as error:
            raise ValueError(f"`{name}` {error}") from None
    if isinstance(kind, Whole) and isinstance(value, float) and value.is_integer():
        value = int(value)
    return kind.check(value, name)


def written(name: str, value):
    """A request's value as its widget shows it."""
    field = FIELDS[name]
    kind = field.asked.kind
    if value is None:
        return ""
    if isinstance(kind, (Switch, Choice)) or isinstance(value, str):
        return value
    is_number = isinstance(kind, (Whole, Number))
    if is_number and (field.default is not None or name == "strength"):
        return value
    return kind.write(value)
