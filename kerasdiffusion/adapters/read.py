"""Adapters from files: a table of names times a table of algorithms.

A file is five choices, each looked up by itself: the container (`weights/files.py`),
the endings (`suffixes.py`), the name of DoRA's magnitudes, the rule for alpha
(`settings.py`, `algorithms/base.py`) and the namespace (`namespaces.py`). Nothing is
read before the names and shapes were found to fit the model.
"""

from __future__ import annotations

import os

import numpy as np

from kerasdiffusion.adapters import suffixes
from kerasdiffusion.adapters.adapter import Adapter, Entry
from kerasdiffusion.adapters.algorithms import Change, Given, Unfit, changes
from kerasdiffusion.adapters.families import FAMILIES, family_of, stranger
from kerasdiffusion.adapters.namespaces import namespace
from kerasdiffusion.adapters.outline import COMPARED, Group, Outline, outline
from kerasdiffusion.adapters.partial import Fitted, Third, without_initial
from kerasdiffusion.adapters.settings import Settings, read_settings
from kerasdiffusion.presets.config import ControlNetConfig, ModelConfig
from kerasdiffusion.weights.arrays import is_float
from kerasdiffusion.weights.base import TensorFile, WeightsError
from kerasdiffusion.weights.files import open_tensors

#: Characters; those of known dialects have some 150.
LONGEST_NAME = 1000


def read_adapter(
    path: str | os.PathLike, config: ModelConfig | ControlNetConfig
) -> Adapter:
    """A LoRA, or one of its kin, for a model.

    Args:
        path: A file (`.safetensors`, `.pt`, `.bin`), whose settings may lie beside it.
        config: What the model is made of, or a ControlNet.

    Returns:
        An `Adapter`.

    Raises:
        WeightsError: If the file is no adapter, is for another family, is broken, or
            of a kind that is not read. The message says which.

    Example:

    >>> read_adapter("detail.safetensors", ModelConfig()).kinds
    ('LoCon',)
    """
    with open_tensors(path) as file:
        settings = read_settings(file.path, file.metadata)
        found = check(file, config)
        used = [key for group in found.groups for key in group.keys.values()]
        used += [key for keys in found.words.values() for key in keys.values()]
        file.check(used)
        entries = [
            entry for group in found.groups for entry in _entries(group, file, settings)
        ]
        words = _words(found, file)
        names = namespace(config)
        unused = {
            key: names.nearest((suffixes.split(key) or (key,))[0])
            if i < COMPARED
            else None
            for i, key in enumerate(found.unused)
        }
        return Adapter(
            tuple(entries),
            file.path,
            family_of(config),
            words,
            unused,
            len(file.keys()),
            dict(file.metadata),
        )


def check(file: TensorFile, config: ModelConfig) -> Outline:
    """The outline of a file that is an adapter for a model; reads no values.

    Args:
        file: It, opened.
        config: What the model is made of.

    Raises:
        WeightsError: If it is none.
    """
    if file.strangers:
        raise WeightsError(
            "An adapter's pickle must have tensors and nothing else. Received: "
            f"{file.strangers[0]} in {file.path}, which was not run"
        )
    shapes = {key: file.shape(key) for key in file.keys()}
    for key in shapes:
        if len(key) > LONGEST_NAME:
            raise WeightsError(
                f"A tensor's name in an adapter has at most {LONGEST_NAME} characters. "
                f"Received: {len(key)} in {file.path}"
            )
        why = suffixes.refused(key)
        if why:
            raise WeightsError(
                f"The adapter is {why}. Received: {file.path} (with {key})"
            )
        slot = (suffixes.split(key) or ("", None))[1]
        if slot not in (None, "scaled_oft") and not _is_number(file.dtype(key)):
            raise WeightsError(
                f"An adapter's tensors must be floats. Received: {key} of "
                f"{file.dtype(key)} in {file.path}"
            )
    found = outline(shapes, namespace(config))
    # Half of it may fit by chance, a text encoder that others have too: the rest tells.
    strange = stranger(found.unused, not (found.groups or found.misfits))
    if strange:
        raise WeightsError(
            f"The adapter is for {strange}, and the model is {family_of(config)}. "
            f"Received: {file.path}"
        )
    if found.misfits or not (found.groups or found.broken):
        _refuse_family(file, shapes, found, config)
    if found.broken:
        raise WeightsError(
            f"The adapter is broken: {found.broken[0]}"
            f"{_and_more(found.broken)}. Received: {file.path}"
        )
    return found


def _is_number(dtype) -> bool:
    return is_float(dtype) or np.issubdtype(dtype, np.integer)


def _refuse_family(file, shapes, found: Outline, config) -> None:
    """Raises an error that says what an adapter that does not fit is for."""
    own = family_of(config)
    for name, other in FAMILIES.items():
        if name == own:
            continue
        theirs = outline(shapes, namespace(other))
        if theirs.groups and not theirs.misfits:
            raise WeightsError(
                f"The adapter is for {name}, and the model is {own}. "
                f"Received: {file.path}"
            )
    if found.misfits:
        raise WeightsError(
            f"The adapter does not fit {own}: {found.misfits[0]}"
            f"{_and_more(found.misfits)}. Received: {file.path}"
        )
    if found.words:
        return
    widths = {each.width for each in config.text_encoders}
    if shapes and all(len(s) in (1, 2) and s[-1] in widths for s in shapes.values()):
        raise WeightsError(
            "The file is a textual inversion, no adapter: `load_embedding`, "
            f"--embedding, reads it. Received: {', '.join(list(shapes)[:3])} in "
            f"{file.path}"
        )
    raise WeightsError(
        f"An adapter must have tensors for modules of the model, {own}; none of its "
        f"{len(shapes)} names means one. Received: "
        f"{', '.join(list(shapes)[:3]) or 'no tensors'} in {file.path}"
    )


def _and_more(sentences) -> str:
    return f", and {len(sentences) - 1} more like it" if len(sentences) > 1 else ""


def _entries(group: Group, file: TensorFile, settings: Settings):
    """The changes of a group, from its values."""
    first = group.targets[0]
    module, thirds = first.module, len(group.targets)
    tensors = {slot: _read(file, key) for slot, key in group.keys.items()}
    alpha, rank, stabilized = settings.scale_of(first.part, module.name)
    if "alpha" in tensors:
        alpha, stabilized = _scalar(file, group.keys["alpha"], tensors["alpha"]), False
    shapes = dict(module.shapes)
    if thirds > 1:
        shapes = {
            leaf: (shape[0] * thirds, *shape[1:]) for leaf, shape in shapes.items()
        }
    shape = _own_shape(group, tensors, shapes["weight"])
    given = Given(
        tensors,
        shapes | {"weight": shape},
        alpha,
        rank,
        stabilized,
        settings.of(first.part),
        module.name,
        settings.is_peft or any("base_model." in key for key in group.keys.values()),
    )
    try:
        made = changes(group.rows, given)
        initial = settings.initial(first.part)
        made = [without_initial(change, initial) for change in made]
        for change in made:
            yield from _placed(change, group, shape, shapes["weight"])
    except (Unfit, IndexError) as error:
        raise WeightsError(
            f"The adapter is broken: {error} ({module.name}). Received: {file.path}"
        ) from error
    except ValueError as error:
        raise WeightsError(
            f"The adapter is broken: its tensors for {module.name} do not fit each "
            f"other ({error}). Received: {file.path}"
        ) from error


def _placed(change: Change, group: Group, shape, wanted):
    """A change as entries: of its module, or of the three of a fused matrix."""
    if change.leaf == "weight" and shape != wanted:
        change = Fitted(change, wanted)
    for target in group.targets:
        own = change
        if target.third is not None:
            own = Third(change, target.third)
        yield Entry(target.part, target.module.name, own)


def _own_shape(group: Group, tensors, shape):
    """The weight's shape, of as many inputs as the file has: latents alone, or more."""
    if group.targets[0].module.name != "conv_in" or len(shape) != 4:
        return shape
    for row in group.rows:
        if row.leaf == "weight":
            _, columns = row.sizes({slot: each.shape for slot, each in tensors.items()})
            if columns is not None:
                ins = columns // (shape[2] * shape[3])
                return (shape[0], ins, *shape[2:])
    return shape


def _read(file: TensorFile, key: str) -> np.ndarray:
    values = np.array(file.read(key), "float32")
    if not np.isfinite(values).all():
        raise WeightsError(
            f"An adapter's numbers must be finite. Received: {key} in {file.path}, "
            "which has NaN or infinity"
        )
    return values


def _scalar(file: TensorFile, key: str, values: np.ndarray) -> float:
    if values.size != 1:
        raise WeightsError(
            f"Alpha must be one number. Received: {key} of shape {values.shape} in "
            f"{file.path}"
        )
    return float(values.reshape(()))


def _words(found: Outline, file: TensorFile) -> dict[str, dict[str, np.ndarray]]:
    """The vectors of a bundle's words, by text encoder."""
    words: dict[str, dict[str, np.ndarray]] = {}
    for word, keys in found.words.items():
        for part, key in keys.items():
            words.setdefault(part, {})[word] = np.atleast_2d(_read(file, key))
    return words
