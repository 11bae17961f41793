"""Layers that are made sooner: what is plainly no weight is not looked at."""

from __future__ import annotations

from keras.config import is_nnx_enabled

_PLAIN = frozenset((bool, int, float, str, type(None)))


def _is_plain(value) -> bool:
    kind = type(value)
    if kind is tuple:
        return all(type(each) in _PLAIN for each in value)
    return kind in _PLAIN


class QuickAttributes:
    """Sets plain attributes of a layer without asking whether they are weights.

    Keras and TensorFlow look at each attribute that a layer is given, whether it is a
    variable, a layer or a list of them: some eighty for each layer of hundreds. Numbers
    and texts are never any, and what stood in their place stays tracked either way.
    """

    def __setattr__(self, name: str, value: object) -> None:
        # PyTorch's modules, and Flax's, keep what is set in places of their own.
        own = "_parameters" not in self.__dict__ and not is_nnx_enabled()
        if own and _is_plain(value):
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)
