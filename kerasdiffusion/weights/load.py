"""Weights into networks: planned for all parts first, then assigned."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kerasdiffusion.presets.config import ModelConfig
from kerasdiffusion.storage.bounds import shown
from kerasdiffusion.weights import detect, hub, keras_cv, names
from kerasdiffusion.weights.arrays import is_float, stored_shape, stored_variables
from kerasdiffusion.weights.assigning import Step, assign
from kerasdiffusion.weights.base import TensorFile, WeightsError
from kerasdiffusion.weights.files import open_tensors
from kerasdiffusion.weights.folders import read_folder
from kerasdiffusion.weights.formats import HDF5File
from kerasdiffusion.weights.given import Given
from kerasdiffusion.weights.layout import (
    FIELDS,
    FOLDERS,
    KERAS_CV,
    PARTS,
    find_weights,
)
from kerasdiffusion.weights.modules import EMBEDDER, PREFIXES
from kerasdiffusion.weights.original_yaml import heed_yaml

Source = str | Path | Mapping[str, str | Path]


@dataclass(frozen=True)
class Lenient:
    """A source of weights that may hold more than the networks take.

    What no network has is left out, with one warning. What is missing or of another
    shape is an error all the same: a network of half its weights paints noise.

    Args:
        source: The source.
    """

    source: Source
    _told: set[str] = field(default_factory=set, compare=False, repr=False)

    def tell(self, unexpected: Sequence[str], paths: str) -> None:
        """Warns of tensors that were left out, each time of those not told of yet."""
        new = [name for name in unexpected if name not in self._told]
        self._told.update(new)
        if new:
            warnings.warn(
                f"{len(new)} tensors were left out, which no network has: "
                f"{_listed(new)} in {paths}",
                UserWarning,
                stacklevel=2,
            )


def read_config(source: Source, given: Given | None = None) -> ModelConfig:
    """What a model is made of, without reading its weights.

    Args:
        source: A folder in diffusers' layout, an original single file, a folder of
            KerasCV's files or a dict of them by part, or `hf://owner/name`.
        given: Parts that come from elsewhere, which the source may lack.

    Returns:
        A `ModelConfig`.

    Raises:
        WeightsError: If the source is not a model, or one that is not supported: the
            message names the field and its value.

    Example:

    >>> read_config("asset://emoji").diffusion_model.context_width
    192
    """
    if isinstance(source, Mapping):
        return keras_cv.detect({part: Path(path) for part, path in source.items()})
    wanted = [part for part in PARTS if given is None or FIELDS[part] not in given]
    path = hub.resolve(source, configs_only=True, parts=wanted)
    if path.is_dir():
        files = keras_cv.find(path)
        if files and not (path / "model_index.json").is_file():
            return keras_cv.detect(files)
        return read_folder(path, given)
    with open_tensors(path) as file:
        if isinstance(file, HDF5File):
            raise WeightsError(
                f"A KerasCV file holds one part of a model: pass the folder of all, or "
                f"a dict from parts to files. Received: {path}"
            )
        config = detect.detect(file, given)
        return config if detect.is_ours(file) else heed_yaml(path, config)


def load_weights(
    parts: Mapping[str, object],
    source: Source | Lenient,
    *,
    ema: bool = False,
    variant: str | None = None,
    arrived: Callable[[str], None] | None = None,
) -> None:
    """Read the weights of networks, all or nothing.

    Every name and shape of every part is checked, and every byte read once, before the
    first variable changes. Then each tensor goes straight from the mapped file to its
    variable, so the peak of memory is the networks and a few tensors.

    Args:
        parts: The built networks by part, any of `layout.PARTS`.
        source: A folder in diffusers' layout or one part's folder in it, an original
            single file, a folder of KerasCV's files, a dict from parts to files of any
            format, or `hf://owner/name`; or one of these that is `Lenient`.
        ema: Whether to take the U-Net's moving averages from an original file that has
            both.
        variant: Which of several precisions a folder holds (`"fp16"`, ...). By default
            the plain files, and those of a variant only where there are no others.
        arrived: Is told the name of each part when all its variables are assigned,
            in the order of `parts`.

    Raises:
        WeightsError: Naming what is missing, unexpected, of a wrong shape or not
            readable. The networks are as they were.

    Example:

    >>> decoder = Decoder(read_config("asset://emoji").autoencoder)
    >>> load_weights({"decoder": decoder}, "asset://emoji")
    """
    unknown = sorted(set(parts) - set(PARTS))
    if unknown or not parts:
        raise ValueError(
            f"`parts` must have keys of {', '.join(PARTS)}. Received: {list(parts)}"
        )
    lenient = source if isinstance(source, Lenient) else None
    paths = locate(lenient.source if lenient else source, parts, variant)
    load_files(parts, paths, ema=ema, lenient=lenient, arrived=arrived)


def load_files(
    parts: Mapping[str, object],
    paths: Mapping[str, Path],
    *,
    ema: bool = False,
    lenient: Lenient | None = None,
    arrived: Callable[[str], None] | None = None,
) -> None:
    """The same from one file for each part.

    Args:
        parts: The built networks by part: any that `names.tensors` knows.
        paths: The file of each.
        ema: As in `load_weights`.
        lenient: Is told of tensors that no network has, which are an error without.
        arrived: As in `load_weights`.
    """
    with contextlib.ExitStack() as stack:
        opened: dict[Path, TensorFile] = {}
        for path in set(paths.values()):
            opened[path] = stack.enter_context(open_tensors(path))
        files = {part: opened[path] for part, path in paths.items()}
        plan = _plan(parts, files, ema, lenient)
        steps = [step for own in plan.values() for step in own]
        for file in opened.values():
            file.check({step.key for step in steps if step.file is file})
        for part, own in plan.items():
            assign(own)
            if arrived is not None:
                arrived(part)


def locate(
    source: Source, parts: Mapping[str, object], variant: str | None = None
) -> dict[str, Path]:
    """The weights file of each part.

    Args:
        source: As in `load_weights`.
        parts: The parts that are wanted.
        variant: As in `load_weights`.

    Returns:
        A path for each part.

    Raises:
        WeightsError: If there is none, with what there is.
    """
    if isinstance(source, Mapping):
        absent = [part for part in parts if part not in source]
        if absent:
            raise WeightsError(
                f"A dict of weights files must have one for each part. Received: "
                f"{sorted(source)}, without {', '.join(absent)}"
            )
        return {part: Path(source[part]) for part in parts}
    root = hub.resolve(source, variant=variant, parts=tuple(parts))
    if not root.is_dir():
        return dict.fromkeys(parts, root)
    published = keras_cv.find(root)
    # One part's own folder will do where only that part is wanted.
    alone = len({FOLDERS[part][0] for part in parts}) == 1
    found = {}
    for part in parts:
        places = [root / FOLDERS[part][0], *([root] if alone else [])]
        if part == "text_encoder" and "text_encoder_2" not in parts:
            places.append(root / FOLDERS["text_encoder_2"][0])  # SDXL's refiner
        for place in places:
            name = find_weights(lambda n, p=place: (p / n).is_file(), part, variant)
            if name is not None:
                found[part] = place / name
                break
        else:
            if part not in published:
                raise WeightsError(_nothing_found(root, part, variant))
            found[part] = published[part]
    return found


def _nothing_found(root: Path, part: str, variant: str | None) -> str:
    folder = root / FOLDERS[part][0]
    there = sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []
    wanted = f" of variant {variant!r}" if variant else ""
    return (
        f"The folder has no weights{wanted} for the {part}: none in "
        f"{FOLDERS[part][0]}/ ({', '.join(there[:8]) or 'nothing there'}) and no "
        f"{KERAS_CV.get(part, 'other file')}. Received: {root}"
    )


def _plan(parts, files, ema: bool, lenient) -> dict[str, list[Step]]:
    """A step for each variable of each part, or one error about all of them."""
    plan: dict[str, list[Step]] = {part: [] for part in parts}
    missing, misshapen, used = [], [], set()
    for part, model in parts.items():
        file = files[part]
        is_keras = isinstance(file, HDF5File)
        averages = ema and part == "diffusion_model"
        keys = _keys(part, model.config, file, averages)
        if averages:  # the plain weights beside them are no surprise
            plain = names.tensors(part, model.config)
            used |= {(file, tensor.original) for tensor in plain}
        for variable in stored_variables(model):
            name = names.canonical_name(variable.path, model.name)
            key = keys.get(name)
            if key is None:
                missing.append(f"{part}: {name}")
                continue
            used.add((file, key))
            found, wanted = file.shape(key), stored_shape(variable, is_keras)
            if not is_float(file.dtype(key)):
                misshapen.append(f"{key} holds {file.dtype(key)}, not numbers in float")
            elif _without_ones(found) != _without_ones(wanted):
                misshapen.append(f"{key} has {found}, not {wanted}")
            plan[part].append(Step(variable, file, key, is_keras))
    unexpected = []
    for file in dict.fromkeys(files.values()):
        served = {part for part in parts if files[part] is file}
        unexpected += [
            key
            for key in file.keys()
            if (file, key) not in used and _is_unexpected(key, served)
        ]
    paths = ", ".join(sorted({str(file.path) for file in files.values()}))
    problems = [
        f"{len(items)} {what} ({_listed(items)})"
        for what, items in (
            ("missing", missing),
            ("unexpected", unexpected if lenient is None else []),
            ("of a wrong shape or dtype", misshapen),
        )
        if items
    ]
    if problems:
        first = next(iter(files.values()))
        whole = set(parts) <= set(PARTS)
        if missing and whole and not isinstance(first, HDF5File):
            detect.refuse_strangers(first)
        hint = ""
        if whole and not missing and not misshapen:
            hint = "; strict=False (--no-strict) loads without them"
        raise WeightsError(
            f"The weights do not fit the networks; nothing was loaded. Tensors: "
            f"{'; '.join(problems)}{hint}. Received: {paths}"
        )
    if lenient is not None:
        lenient.tell(unexpected, paths)
    return plan


def keys_of(part: str, config, file: TensorFile) -> dict[str, str]:
    """The key in a file of each canonical name of a part that it has in any layout."""
    return _keys(part, config, file, False)


def _listed(names: Sequence[str]) -> str:
    """The first few of some names, none of them long."""
    first = ", ".join(name if len(name) < 200 else shown(name) for name in names[:4])
    return first + ", ..." * (len(names) > 4)


def _keys(part: str, config, file: TensorFile, averages: bool) -> dict[str, str]:
    """The key in a file of each canonical name that it has in any layout."""
    if isinstance(file, HDF5File):
        return keras_cv.table(part, config, file)
    table = names.tensors(part, config)
    there = set(file.keys())
    if averages and "model_ema.decay" not in there:
        raise WeightsError(
            f"With ema=True the file must hold moving averages (model_ema.*). "
            f"Received: {file.path}"
        )
    found = {}
    for tensor in table:
        if averages:
            candidates = [names.ema_name(tensor.original)]
        else:
            candidates = names.spellings(part, tensor)
        key = next((key for key in candidates if key in there), None)
        if key is not None:
            found[tensor.name] = key
    return found


def _is_unexpected(key: str, served: set[str]) -> bool:
    """Whether a key that was not used should not be in the file."""
    if names.IGNORED.fullmatch(key):
        return False
    owner = _owner(key, served)
    return owner is None or owner in served


def _owner(key: str, served: set[str]) -> str | None:
    """The part that a key belongs to, where the file may hold several."""
    for part in ("text_encoder", "text_encoder_2", "diffusion_model"):
        if key.startswith(PREFIXES[part].removesuffix("diffusion_model.")):
            return part
    if key.startswith(EMBEDDER):
        return "text_encoder"
    bare = key.removeprefix(PREFIXES["decoder"])
    if bare == key and not served & {"image_encoder", "decoder"}:
        return None
    if re.match(r"(encoder|quant_conv)\.", bare):
        return "image_encoder"
    return "decoder" if re.match(r"(decoder|post_quant_conv)\.", bare) else None


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with a 1x1 kernel's sides left out, as a dense layer has it."""
    if len(shape) == 4 and shape[2:] == (1, 1):
        return shape[:2]
    return shape[2:] if len(shape) == 4 and shape[:2] == (1, 1) else shape
