"""Requests as JSON, and the schema of that."""

from __future__ import annotations

import json
from collections.abc import Mapping

from kerasdiffusion.requests.fields import TASKS, Field
from kerasdiffusion.requests.kinds import near, shown
from kerasdiffusion.storage.reading import parse_json

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def to_values(task: str, given: Mapping, fields: Mapping[str, Field]) -> dict:
    """A request as what JSON has: the task, and the fields that are given.

    Raises:
        ValueError: If a value cannot be written; the message has the way out.
    """
    values = {"task": task}
    for name, value in given.items():
        if not fields[name].asked.paints:
            continue
        if value is None:  # (where a task has another default)
            values[name] = None
            continue
        values[name] = fields[name].asked.kind.to_json(value, name)
    return values


def dumped(values: Mapping, indent: int | None) -> str:
    """Values as JSON text."""
    return json.dumps(values, ensure_ascii=False, allow_nan=False, indent=indent)


def read(text: str | bytes | Mapping, fields: Mapping[str, Field], files: bool) -> dict:
    """The arguments of `Request` in a JSON text.

    Args:
        text: The text, or what is read of it.
        fields: All of a request's.
        files: Whether a value may name a file here.

    Raises:
        ValueError: If it is none, or has what no request has.
    """
    values = text
    if isinstance(text, (str, bytes)):
        values = parse_json(text, "a request", "request")
    if not isinstance(values, Mapping) or "task" not in values:
        raise ValueError(
            f"A request must be an object with a `task`, one of {', '.join(TASKS)}. "
            f"Received: {shown(values)}"
        )
    arguments = {}
    for name, value in values.items():
        if name == "task":
            arguments[name] = value
            continue
        field = fields.get(name)
        if field is None or not is_writable(field):
            known = [each for each in fields if is_writable(fields[each])]
            raise ValueError(
                f"A request must have fields that are known.{near(name, known)} "
                f"Received: {shown(name)}"
            )
        if value is None:
            continue
        if not files:
            refuse_files(name, field, value)
        arguments[name] = field.asked.kind.from_json(value, name)
    return arguments


def is_writable(field: Field) -> bool:
    """Whether JSON has the field: what changes pictures and is no function."""
    return field.asked.paints and field.name != "depth_estimator"


def refuse_files(name: str, field: Field, value) -> None:
    """That a value from elsewhere names no file of this machine.

    Raises:
        ValueError: If it does.
    """
    found = field.asked.kind.files(value)
    if found:
        raise ValueError(
            f"`{name}` must be given as base64 of a PNG, as "
            '{"png": "..."}, where files of this machine may not be named. '
            f"Received: {shown(found[0])}"
        )


def schema_of(task: str, fields: Mapping[str, Field]) -> dict:
    """The JSON schema of a task's requests."""
    properties = {"task": {"const": task}}
    for name, field in fields.items():
        if not is_writable(field):
            continue
        found = {**field.asked.kind.schema}
        found["description"] = field.text_for(task)
        default = field.default_for(task)
        if default is not None:
            found["default"] = field.asked.kind.to_json(default, name)
        properties[name] = found
    required = [name for name, each in fields.items() if each.is_required(task)]
    return {
        "title": task,
        "type": "object",
        "properties": properties,
        "required": ["task", *required],
        "additionalProperties": False,
    }
