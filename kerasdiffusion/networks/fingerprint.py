"""What a model is, as far as its pictures depend on it: one hash for each part."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Iterable

import keras

from kerasdiffusion.adapters.combine import tensors_of
from kerasdiffusion.adapters.sources import find_adapter
from kerasdiffusion.compute import backend
from kerasdiffusion.prompts.tags import Tag
from kerasdiffusion.weights.fingerprint import of_file, of_variables

#: The numerics of this library: a number more whenever the same request gives other
#: pictures than before.
NUMERICS = 1


def fingerprint(model) -> dict[str, str]:
    """All that pictures depend on beside the request.

    The weights are asked for in memory, as they would be computed with: trained,
    quantized or with adapters merged into them. So they are read if they were not yet.

    Args:
        model: A `LatentDiffusion`.

    Returns:
        A text for each of `ROWS`, and for each part's weights.
    """
    found = {name: row(model) for name, row in ROWS.items()}
    if not model.low_memory:
        model.build()
    with model._turn():  # so that nobody changes them meanwhile
        for part in model.config.parts:
            found[part] = of_part(model, part)
    return found


def of_part(model, part: str) -> str:
    """The hash of the weights of one part of a model, as it computes with them."""
    with model._turn():
        network = model._network(part)
        model._up_to_date(part)
        return of_network(network)


def of_tags(tags: Iterable[Tag]) -> str:
    """The hash of what adapters are that prompts name."""
    told = [(*tag, of_file(find_adapter(tag.name))) for tag in tags]
    return _hash(repr(told))


def of_network(network: keras.Model) -> str:
    """The hash of a network's weights, as they are."""
    return of_variables(backend.to_numpy(each.value) for each in network.weights)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _embeddings(model) -> str:
    words = [
        (repr(config), name, of_variables([vectors]))
        for config, learned in model._learned.items()
        for name, vectors in learned.vectors.items()
    ]
    return _hash(repr(words))


def _adapters(model) -> str:
    told = [
        (
            each.name,
            _of_adapter(each.adapter),
            each.weight,
            each.text_encoder_weight,
            sorted(each.weights.items()),
        )
        for each in model.adapters.values()
    ]
    return _hash(repr(told))


def _of_adapter(adapter) -> str:
    """The hash of its file; of what was made here, that of its values."""
    if adapter.path is not None:
        return of_file(adapter.path)
    entries, words = adapter.entries, adapter.embeddings
    values = [
        (entry.part, entry.tensor, slot, of_variables([array]))
        for entry in entries
        for slot, array in tensors_of(entry.change).items()
    ]
    values += [
        (part, word, of_variables([vectors]))
        for part, own in words.items()
        for word, vectors in own.items()
    ]
    return _hash(repr(values))


def _tokenizer(model) -> str:
    found = [each for each in (model.tokenizer, model.tokenizer_2) if each is not None]
    return _hash(
        repr([(each.config, sorted(each.vocabulary.ids.items())) for each in found])
    )


def _machine(model) -> str:
    facts = backend.describe_machine()
    version = importlib.metadata.version(facts["backend"])
    return repr([facts["backend"], version, facts["device"], keras.__version__])


#: What else pictures depend on, by name: a function of the model to a text each.
ROWS: dict[str, Callable] = {
    "numerics": lambda model: str(NUMERICS),
    "config": lambda model: _hash(repr(model.config)),
    "size": lambda model: f"{model.img_width}x{model.img_height}",
    "precision": lambda model: repr((model.precision, model.compiler, model.tiling)),
    "machine": _machine,
    "tokenizer": _tokenizer,
    "embeddings": _embeddings,
    "adapters": _adapters,
}
