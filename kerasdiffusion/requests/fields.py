"""What a field of a request is: declared once, read by every face.

A field stands in `subject`, `manner` or `telling`, as

    eta: float | None = asked(Number(0.0), help="...", label="Eta")

and from there come its keyword in Python and what the docstrings say of it, its flag
and its line in `--help`, its JSON and schema, and its label in a picture's text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kerasdiffusion.requests.kinds import Kind

#: What each task takes by position; the first of them it cannot do without.
_REST = ("negative_prompt", "batch_size", "num_steps", "unconditional_guidance_scale")
POSITIONAL = {
    "text_to_image": ("prompt", *_REST, "seed"),
    "generate_image": ("encoded_text", *_REST, "diffusion_noise", "seed"),
    "image_to_image": ("image", "prompt", *_REST, "seed"),
    "inpaint": ("image", "mask", "prompt", *_REST, "seed"),
    "outpaint": ("image", "prompt", *_REST, "seed"),
    "depth_to_image": ("image", "prompt", *_REST, "seed"),
    "edit": ("image", "instruction", *_REST, "seed"),
    "upscale": ("image", "prompt", *_REST, "seed"),
    "interpolate": ("prompt", *_REST, "seed"),
    "circular_walk": ("prompt", *_REST, "seed"),
}
TASKS = tuple(POSITIONAL)
#: What no task can do without that takes it.
REQUIRED = ("prompt", "instruction", "encoded_text", "image", "mask")
WALKS = ("interpolate", "circular_walk")
#: Those that begin with a picture, and those whose text is a prompt.
OF_PICTURES = tuple(task for task, names in POSITIONAL.items() if "image" in names)
OF_PROMPTS = tuple(task for task, names in POSITIONAL.items() if "prompt" in names)


@dataclass(frozen=True)
class Flag:
    """How the command line has a field, where its kind does not say it.

    Args:
        name: The flag, by default the field's name with dashes; `None` for none.
        metavar: What the help calls the value.
        choices: Those that are offered; pictures may hold others.
        help: In place of the field's line.
    """

    name: str | None = ""
    metavar: str | None = None
    choices: tuple[str, ...] | None = None
    help: str = ""


@dataclass(frozen=True)
class Asked:
    """What is declared of a field beside its name, type and default.

    Args:
        kind: Which values it takes.
        help: One line.
        text: What docstrings say; the line by default.
        label: What a picture's text calls it; A1111's word where it has one.
        tasks: Those that take it.
        defaults: Of tasks that have another default than the field.
        texts: Of tasks whose docstring says something else.
        flag: On the command line; `None` for what only a program can pass.
        group: The title that it stands under in `--help`.
        paints: Whether it changes pictures.
    """

    kind: Kind
    help: str
    text: str = ""
    label: str | None = None
    tasks: tuple[str, ...] = TASKS
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    texts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    flag: Flag | None = Flag()
    group: str = ""
    paints: bool = True


def asked(kind: Kind, default=None, **declared):
    """A field of a request.

    Args:
        kind: Which values it takes.
        default: What it is where it is not given.
        **declared: The other arguments of `Asked`.
    """
    return field(default=default, metadata={"asked": Asked(kind, **declared)})


@dataclass(frozen=True)
class Field:
    """A field as declared: its name, type and default beside the `Asked`."""

    name: str
    type: str
    default: Any
    asked: Asked

    def default_for(self, task: str):
        """What it is in a task where it is not given."""
        return self.asked.defaults.get(task, self.default)

    def text_for(self, task: str) -> str:
        """What a task's docstring says of it."""
        own = self.asked
        return own.texts.get(task) or own.text or own.help

    def is_required(self, task: str) -> bool:
        """Whether the task cannot do without it."""
        return self.name in REQUIRED and self.name in POSITIONAL[task]

    def check(self, value, name: str | None = None):
        """The value as a request has it; `None` is what a default of `None` stands for.

        Raises:
            TypeError: If it is of another type.
            ValueError: If it is out of range.
        """
        if value is None and self.default is None:
            return None
        return self.asked.kind.check(value, name or self.name)


def declared_in(request: type) -> dict[str, Field]:
    """The fields of a dataclass that are declared by `asked`, by name."""
    return {
        each.name: Field(each.name, each.type, each.default, each.metadata["asked"])
        for each in dataclasses.fields(request)
        if "asked" in each.metadata
    }
