"""The content hash of a request and a model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

from kerasdiffusion.adapters.sources import find_adapter
from kerasdiffusion.prompts.tags import split_tags
from kerasdiffusion.requests.binary import is_pil, to_array
from kerasdiffusion.requests.control import Control
from kerasdiffusion.requests.kinds import as_list, refuse
from kerasdiffusion.requests.objects import Picture
from kerasdiffusion.weights.fingerprint import of_file, of_source, of_variables

#: The form of what is hashed; another gives other keys.
FORM = "kerasdiffusion request 1"


def key_of(request, fields: Mapping, model) -> str:
    """See `Request.key`.

    Args:
        request: A `Request`.
        fields: All of a request's.
        model: A model, or its fingerprint.
    """
    if request.seed is None:
        raise refuse(ValueError, "seed", "be given for a key", None)
    if request.variation_strength and request.variation_seed is None:
        raise refuse(
            ValueError, "variation_seed", "be given for a key with a strength", None
        )
    found = model if isinstance(model, Mapping) else model.fingerprint()
    named = _tags(request)
    if named and isinstance(model, Mapping):
        rule = "be the model itself, where prompts name adapters"
        raise refuse(ValueError, "model", rule, "a fingerprint")
    if named:
        found = {**found, "tags": model.fingerprint_of(named)}
    hashed = hashlib.sha256()
    _feed(hashed, FORM)
    _feed(hashed, dict(found))
    _feed(hashed, request.task)
    for name, value in request.given().items():
        if fields[name].asked.paints:
            _feed(hashed, name)
            _feed(hashed, _content(name, value))
    return hashed.hexdigest()


def _tags(request) -> list:
    """The adapters that the prompts name."""
    if request.prompt_weighting == "none":
        return []
    names = "prompt", "negative_prompt", "instruction", "prompt_2", "negative_prompt_2"
    texts = [each for name in names for each in as_list(getattr(request, name))]
    texts = [each for each in texts if isinstance(each, str)]
    return [tag for text in texts for tag in split_tags(text)[1]]


def _content(name: str, value):
    """A field's value as what `_feed` takes; files by what is in them."""
    if isinstance(value, tuple):
        return tuple(_content(name, each) for each in value)
    if name in ("image", "mask", "depth") and isinstance(value, str):
        return of_file(value)
    if name == "adapters" and isinstance(value, str):
        return of_file(find_adapter(value))
    if name == "refiner":
        return of_source(value) if isinstance(value, str) else value.fingerprint()
    if isinstance(value, Control):
        network = value.network
        if isinstance(network, (str, os.PathLike)):
            network = os.fspath(network)
            network = of_source(network) if os.path.exists(network) else network
        else:
            network = _of_network(network)
        told = value.scale, value.start, value.end, value.guess_mode
        return network, _content("image", Picture().check(value.picture)), *told
    if callable(value) and not hasattr(value, "shape"):
        raise refuse(
            ValueError, name, "be left out for a key: pass what it makes", value
        )
    return value


def _of_network(network) -> str:
    """The hash of a network in memory."""
    from kerasdiffusion.compute import backend

    return of_variables(backend.to_numpy(each.value) for each in network.weights)


def _feed(hashed, value) -> None:
    """Feeds a value in a form that no other value has."""
    if is_pil(value):
        value = ("picture", value.mode, value.size, value.tobytes())
    elif hasattr(value, "shape"):
        array = to_array(value)
        value = ("array", str(array.dtype), array.shape, array.tobytes())
    if isinstance(value, Mapping):
        value = ("mapping", *sorted(value.items()))
    if isinstance(value, (tuple, list)):
        hashed.update(b"(%d" % len(value))
        for each in value:
            _feed(hashed, each)
        return
    content = value if isinstance(value, bytes) else repr(value).encode()
    hashed.update(b"%s:%d:" % (type(value).__name__.encode(), len(content)))
    hashed.update(content)
