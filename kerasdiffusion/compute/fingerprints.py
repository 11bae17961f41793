"""What tells programs and layers apart: their code and their settings, as text.

Two processes, or two layers, that give the same text trace to the same graph.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import pkgutil
import sys
import types
from collections.abc import Iterable

import numpy as np

#: Where the code is that programs run through: rooms, and files of rooms.
ROOMS = (
    *("compute.backend", "compute.kernels", "compute.operations", "compute.repeats"),
    *("compute.openvino_models", "compute.openvino_programs", "compute.precision"),
    *("compute.tensorflow_attention", "compute.tensorflow_cpu"),
    *("compute.tensorflow_gradients", "compute.tensorflow_pieces"),
    *("compute.tensorflow_products", "compute.tensorflow_rows"),
    *("compute.tensorflow_winograd", "models", "networks.autoencoding"),
    *("networks.control", "networks.latent_diffusion", "networks.quantization"),
    *("networks.tiling", "requests.cheaper_steps", "sampling"),
)
#: The package that the rooms are of.
HOUSE = __package__.partition(".")[0]
#: What differs between layers that are alike: their names, and whether one was traced
#: in this process already.
OWN = ("name", "_name", "_path", "_parent_path", "_auto_name", "_called")


def loaded_code(rooms: tuple[str, ...] = ROOMS) -> Iterable[str]:
    """The code and the constants of rooms, as they are in memory.

    Args:
        rooms: As `ROOMS`.
    """
    for name in _modules(rooms):
        # Of a copy, which is made at once: other threads import meanwhile.
        for key, value in sorted(vars(sys.modules[name]).copy().items()):
            if not key.startswith("__"):
                yield from _described(f"{name}.{key}", value)


@functools.cache
def _modules(rooms: tuple[str, ...]) -> list[str]:
    """All modules of rooms, whole.

    They are imported here: what happens to be there, and how much of it, would depend
    on what other threads are importing, and so would the key.
    """
    found = []
    for room in rooms:
        module = importlib.import_module(f"{HOUSE}.{room}")
        found.append(module.__name__)
        for each in pkgutil.iter_modules(getattr(module, "__path__", ())):
            found.append(f"{module.__name__}.{each.name}")
            importlib.import_module(found[-1])
    return sorted(found)


def settings(layers: Iterable) -> Iterable[str]:
    """The class and the attributes of layers and of those within, as far as told."""
    for layer in layers:
        for each in (layer, *layer._flatten_layers(include_self=False)):
            yield type(each).__qualname__
            yield each.dtype_policy.name
            for key, value in sorted(vars(each).copy().items()):
                if key in OWN:
                    continue
                if isinstance(value, types.FunctionType):  # an activation
                    yield f"{key} {value.__qualname__} {_code(value.__code__)}"
                else:
                    yield f"{key} {_plain(value) or type(value).__qualname__}"


def _described(name: str, value) -> Iterable[str]:
    """A function's code, a class's functions, a plain value; nothing of others."""
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    if isinstance(value, property):
        value = value.fget
    if isinstance(value, types.FunctionType):
        yield f"{name} {_code(value.__code__)} {_plain(value.__defaults__)}"
        wrapped = getattr(value, "__wrapped__", None)
        if isinstance(wrapped, types.FunctionType):
            yield f"{name} {_code(wrapped.__code__)}"
    elif isinstance(value, type):
        if value.__module__.startswith(HOUSE):
            for key, part in sorted(vars(value).items()):
                yield from _described(f"{name}.{key}", part)
    else:
        text = _plain(value)
        if text is not None:
            yield f"{name} {text}"


@functools.cache
def _code(code: types.CodeType) -> str:
    """The same for the same code in any process."""
    constants = [
        _code(each) if isinstance(each, types.CodeType) else _plain(each)
        for each in code.co_consts
    ]
    return repr((code.co_code, code.co_names, code.co_freevars, constants))


def _plain(value) -> str | None:
    """A text of numbers, texts and what holds nothing else; `None` of others."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)
    if isinstance(value, np.ndarray):
        return (
            f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
        )
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            each.name: getattr(value, each.name) for each in dataclasses.fields(value)
        }
        return _plain(fields)
    if isinstance(value, (frozenset, set)):
        parts = [_plain(each) for each in value]
        return None if None in parts else f"{{{sorted(parts)}}}"
    if isinstance(value, (tuple, list)):
        parts = [_plain(each) for each in value]
        return None if None in parts else repr(parts)
    if isinstance(value, dict):
        parts = [(_plain(key), _plain(each)) for key, each in value.items()]
        return None if any(None in part for part in parts) else repr(parts)
    return None
