"""A vocabulary as JSON: in Keras's settings of a model, and in a single file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from kerasdiffusion.prompts.added_tokens import AddedToken
from kerasdiffusion.prompts.vocabulary import Vocabulary, clip_vocabulary
from kerasdiffusion.storage.reading import parse_json
from kerasdiffusion.weights.files import open_tensors

#: Where a single file of ours has it, if it is not CLIP's.
METADATA_KEY = "kerasdiffusion.vocabulary"


def to_json(vocabulary: Vocabulary) -> dict | None:
    """A vocabulary as JSON has it.

    Args:
        vocabulary: Any.

    Returns:
        A dict of `"ids"`, from token to number, `"merges"` and `"added"`; `None` for
        CLIP's.
    """
    if vocabulary == clip_vocabulary():
        return None
    merges = [" ".join(pair) for pair in vocabulary.merges]
    added = [dataclasses.asdict(token) for token in vocabulary.added]
    return {"ids": dict(vocabulary.ids), "merges": merges, "added": added}


def from_json(values: Mapping | None) -> Vocabulary:
    """The `Vocabulary` that `to_json` wrote.

    Args:
        values: What it gave.

    Raises:
        ValueError: If it is no such dict.
    """
    if values is None:
        return clip_vocabulary()
    try:
        merges = tuple(tuple(each.split(" ")) for each in values["merges"])
        ids = dict(values["ids"].items())
        added = tuple(AddedToken(**each) for each in values.get("added", ()))
    except (KeyError, TypeError, AttributeError):
        merges, ids = ((),), {}
    if any(len(pair) != 2 for pair in merges):
        raise ValueError(
            'A vocabulary must have "ids", from token to number, and "merges" of two '
            f"tokens. Received: {str(values)[:200]}"
        )
    return Vocabulary(ids, merges, added)


def as_metadata(vocabulary: Vocabulary) -> dict[str, str]:
    """What a single file says of its tokens; nothing of CLIP's.

    Args:
        vocabulary: The model's.
    """
    values = to_json(vocabulary)
    return {} if values is None else {METADATA_KEY: json.dumps(values)}


def of_file(path: Path) -> Vocabulary | None:
    """The vocabulary that a single file has; `None` if it has none.

    Args:
        path: The file.

    Raises:
        ValueError: If what it has is damaged.
    """
    with open_tensors(path) as file:
        text = file.metadata.get(METADATA_KEY)
    if text is None:
        return None
    return from_json(parse_json(text, f"the vocabulary in {path}"))
