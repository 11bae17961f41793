"""What a picture says of how it was made, as values of widgets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from kerasdiffusion.apps import flags, options, reproduce
from kerasdiffusion.apps.page import widgets
from kerasdiffusion.apps.page.asking import TASKS
from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.models import Models
from kerasdiffusion.pictures.metadata import read_parameters
from kerasdiffusion.requests import batches
from kerasdiffusion.requests.request import FIELDS
from kerasdiffusion.requests.text import SIDES, fields_in, is_ours, labels

#: What is told apart, or needs nothing.
_KNOWN = {
    *("prompt", "negative_prompt", "seed", "steps", "sampler", "schedule_type"),
    *("guidance_scale", "height", "width", "size", "model", "version", "model_hash"),
    *("Task", "Outpaint", "Precision", "Compiler"),
}
#: Files that a text may name, and that a browser has to give again.
_FILES = ("image", "mask", "depth")


def settings_of(file: str | os.PathLike, models: Models) -> tuple[dict, list[str]]:
    """The values of widgets that paint a picture again, and what is missing for it.

    Args:
        file: A picture of this library or of a program that it reads.
        models: Which there are.

    Returns:
        Values by the names of widgets, and sentences for people.

    Raises:
        Refused: If it says nothing of how it was made.
    """
    try:
        parameters = read_parameters(file)
        return _settings(parameters, models)
    except (ValueError, OSError) as error:
        message = str(error).replace(f"{file}", "the picture")
        raise Refused(422, message) from None


def _settings(parameters: Mapping, models: Models) -> tuple[dict, list[str]]:
    remarks: list[str] = []
    name = _model(parameters, models, remarks)
    prompt, negative, more = reproduce.prompts(parameters)
    values = {"model": name, "prompt": prompt, "negative_prompt": negative or ""}
    values |= {"styles": [], "adapters": []}
    if is_ours(parameters):
        fields, known = _ours(parameters, values, models, remarks)
    else:
        fields, known = reproduce.keywords(parameters)
        schedule = models.get(name).config.schedule
        fields = {**fields, **reproduce.sampling_options(parameters, schedule)}
        known |= {"model", "strength"}
        for word, field in (
            ("guidance_scale", "unconditional_guidance_scale"),
            ("seed", "seed"),
            ("strength", "strength"),
        ):
            if word in parameters:
                fields[field] = FIELDS[field].check(parameters[word])
        left = reproduce.unsupported(parameters, known) + more
        remarks += [f"{each!r} is not followed." for each in dict.fromkeys(left)]
    for field in _FILES:
        fields.pop(field, None)
    for side in ("width", "height"):
        if side in parameters:
            values[side] = parameters[side]
    for field in FIELDS:
        is_shown = FIELDS[field].asked.flag is not None and field != "strength"
        if is_shown and field not in widgets.APART:
            values.setdefault(field, widgets.written(field, FIELDS[field].default))
    for field in ("sampler", "spacing", "variation_seed"):
        values[field] = ""
    values["variation_strength"] = 0.0
    fields.pop("adapters", None)
    values |= {key: widgets.written(key, value) for key, value in fields.items()}
    values["task"] = values.get("task", "text_to_image")
    if values["task"] != "text_to_image":
        remarks.append("The picture that it began with must be dropped again.")
    return values, remarks


def _model(parameters: Mapping, models: Models, remarks: list[str]) -> str:
    name = parameters.get("model")
    try:
        return models.find(None if name is None else str(name))
    except Refused:
        remarks.append(f"The model {name!r} is not here; {models.default} is chosen.")
        return models.default


def _ours(parameters: Mapping, values: dict, models: Models, remarks: list[str]):
    """The fields in a text of this library, and the labels that are followed."""
    fields = fields_in(parameters, "the picture")
    task = str(parameters.get("Task", "text_to_image"))
    if task not in TASKS:
        remarks.append(f"The page has no {task!r}: see the command line.")
        task = "text_to_image"
    values["task"] = task
    if "Outpaint" in parameters:
        values |= dict.fromkeys(SIDES, 0) | options.sides(str(parameters["Outpaint"]))
    there = models.adapter_files()
    for source, *weights in fields.get("adapters") or ():
        name = Path(source).stem if Path(source).suffix else Path(source).name
        if name in there:
            values["adapters"].append((name, weights[0]))
        else:
            remarks.append(f"The adapter {name!r} is not here.")
    if "Control 1" in parameters:
        values["control_network"] = str(parameters["Control 1"]).split(" ")[0]
        remarks.append("The picture that it follows must be dropped again.")
    known = _KNOWN | labels() | batches.labels()
    for label in parameters:
        is_followed = label in known or label.startswith(("Control ", "Lora"))
        is_followed = is_followed or label.endswith((" hash", " image"))
        if label in {part.label for part in flags.PARTS} or not is_followed:
            remarks.append(f"{label!r} is not followed.")
    return fields, known
