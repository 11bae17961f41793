"""What a file holds for a model, before any of its values is read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kerasdiffusion.adapters import suffixes
from kerasdiffusion.adapters.algorithms import Unfit, group_sizes, rows_for
from kerasdiffusion.adapters.namespaces import Namespace, Target

BUNDLE = "bundle_emb."
#: Left out without a word: what OneTrainer keeps to train on.
AUXILIARY = "_aux."
#: How many keys that mean nothing are compared with all names.
COMPARED = 20


class Group(NamedTuple):
    """The tensors of one module: keys by slot, the algorithms, the module or three."""

    targets: tuple[Target, ...]
    keys: Mapping[str, str]
    rows: tuple


@dataclass
class Outline:
    """What a file holds: groups that fit, what does not, and what else there is.

    Attributes:
        groups: Those that fit a module of the model.
        misfits: Sentences about those that do not.
        broken: Sentences about tensors that make no change of anything.
        words: Keys of a bundle's embeddings, by word and text encoder.
        unused: Keys that mean nothing here.
    """

    groups: list[Group] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    words: dict[str, dict[str, str]] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)


def outline(shapes: Mapping[str, tuple[int, ...]], namespace: Namespace) -> Outline:
    """Sorts a file's keys.

    Args:
        shapes: Every tensor's shape by its key.
        namespace: The model's.
    """
    found = Outline()
    stems: dict[tuple, dict[str, str]] = {}
    targets: dict[tuple, tuple[Target, ...]] = {}
    for key in shapes:
        if key.startswith(BUNDLE):
            _add_word(found, key)
            continue
        if key.startswith(AUXILIARY):
            continue
        parts = suffixes.split(key)
        means = parts and namespace.find(parts[0])
        if not means:
            found.unused.append(key)
            continue
        name = tuple((t.part, t.module.name, t.third) for t in means)
        targets[name] = means
        own = stems.setdefault(name, {})
        if parts[1] in own:
            found.broken.append(f"{own[parts[1]]} and {key} are one tensor twice")
        own[parts[1]] = key
    for name, keys in stems.items():
        _add_group(found, targets[name], keys, shapes)
    return found


def _add_word(found: Outline, key: str) -> None:
    """An embedding of a bundle: `bundle_emb.WORD.ENCODER`."""
    rest = key.removeprefix(BUNDLE)
    for ending, part in (
        (".clip_l", "text_encoder"),
        (".clip_g", "text_encoder_2"),
        (".emb_params", "text_encoder"),
        (".string_to_param.*", "text_encoder"),
    ):
        if rest.endswith(ending) and rest != ending:
            word = rest.removesuffix(ending)
            found.words.setdefault(word, {})[part] = key
            return
    found.unused.append(key)


def _add_group(found: Outline, targets, keys, shapes) -> None:
    # A file's `.weight` alone is a network's own, and no factor of IA3.
    if set(keys) & {"ia3", "on_input"} and not {"ia3", "on_input"} <= set(keys):
        found.unused += [keys.pop(slot) for slot in ("ia3", "on_input") if slot in keys]
    if set(keys) <= {"alpha"}:
        found.unused += keys.values()
        return
    where = targets[0].module.name
    try:
        rows, left = rows_for(keys)
        if not rows:
            raise Unfit(f"{', '.join(sorted(keys))} make no change")
    except Unfit as error:
        found.broken.append(f"{error} ({where})")
        return
    found.unused += [keys[slot] for slot in left]
    keys = {slot: key for slot, key in keys.items() if slot not in left}
    own = {slot: shapes[key] for slot, key in keys.items()}
    try:
        sizes = [(row.leaf, *group_sizes(row, own)) for row in rows]
    except Unfit as error:
        found.broken.append(f"{error} ({where})")
        return
    for chosen in _by_part(targets):
        if all(fits(size, chosen) for size in sizes):
            found.groups.append(Group(chosen, keys, tuple(rows)))
            return
    chosen = targets[0]
    for leaf, rows_, columns in sizes:
        if not fits((leaf, rows_, columns), (chosen,)):
            found.misfits.append(
                f"{next(iter(keys.values()))} is for a {leaf} of {rows_} rows and "
                f"{columns} columns; {chosen.part}.{where} has "
                f"{chosen.module.shapes.get(leaf, 'none')}"
            )


def _by_part(targets: Iterable[Target]) -> list[tuple[Target, ...]]:
    """Each meaning of a name: one module, or the three of a fused matrix."""
    found: dict[tuple, list[Target]] = {}
    for target in targets:
        key = target.part, target.third is None
        found.setdefault(key, []).append(target)
    return [tuple(each) for each in found.values()]


def fits(size, targets) -> bool:
    """Whether a change of rows and columns is one of these modules' tensors.

    A U-Net that sees more than latents takes the change of one that does not.
    """
    leaf, rows, columns = size
    module = targets[0].module
    if leaf not in module.shapes:
        return False
    shape = module.shapes[leaf]
    if rows is not None and rows != shape[0] * len(targets):
        return False
    if columns is None or columns == math.prod(shape[1:]):
        return True
    pixels = math.prod(shape[2:])
    return module.name == "conv_in" and columns % pixels == 0 and len(shape) == 4
