"""Prompts as callers have them: strings, and arrays of strings of any library."""

from __future__ import annotations

import numpy as np

from kerasdiffusion.storage.bounds import shown


def texts(prompts, name: str = "prompt"):
    """What stands for several prompts as a list, and every text as a plain `str`.

    Args:
        prompts: A string; a list or tuple; an array of strings of NumPy (any kind), a
            column of pandas or Polars, a tensor of TensorFlow, whose strings are UTF-8;
            or anything else.
        name: The argument, for messages.

    Returns:
        A list if there may be several; anything else as it is.

    Raises:
        TypeError: If there are bytes, or an array of strings holds something else.
        ValueError: If an array of strings has more than one axis.

    Example:

    >>> texts(np.array(["a cat", "two dogs"]))
    ['a cat', 'two dogs']
    """
    if isinstance(prompts, (list, tuple)):
        return [_one(prompt, name) for prompt in prompts]
    return _one(prompts, name)


def _one(prompt, name: str):
    if isinstance(prompt, str):
        # Of a subclass, as NumPy's, only the text.
        return prompt if type(prompt) is str else str.__str__(prompt)
    if isinstance(prompt, (bytes, bytearray, memoryview)):
        raise TypeError(_bytes(name, prompt))
    array = _strings(prompt, name)
    if array is None:
        return prompt
    if array.ndim > 1:
        raise ValueError(
            f"An array of strings in `{name}` must have one axis, a prompt each: pass "
            f"`.ravel()` or one column of it. Received: the shape {array.shape}"
        )
    listed = array.tolist()
    if array.ndim == 0:
        listed = [listed]
    for text in listed:
        if isinstance(text, bytes):
            raise TypeError(_bytes(name, text))
        if not isinstance(text, str):
            raise TypeError(
                f"An array of strings in `{name}` must hold strings alone. "
                f"Received: {shown(text)} of type {type(text).__name__}"
            )
    listed = [_one(text, name) for text in listed]
    return listed if array.ndim else listed[0]


def _strings(prompts, name: str) -> np.ndarray | None:
    """An array of strings, or of the objects that a column has; `None` for numbers."""
    if not hasattr(prompts, "shape") or not hasattr(prompts, "dtype"):
        return None
    if getattr(prompts.dtype, "name", "") == "string" and hasattr(prompts, "numpy"):
        return _decoded(prompts.numpy(), name)
    if not isinstance(prompts, (np.ndarray, np.generic)):
        # A tensor of numbers may lie on another device: it is not asked for.
        if not hasattr(prompts, "to_numpy"):
            return None
        prompts = prompts.to_numpy()
    array = np.asarray(prompts)
    if array.dtype.kind == "S":
        raise TypeError(_bytes(name, array))
    if array.dtype.kind in "UT":
        return array
    # Contexts may lie in an array of objects too.
    holds = any(isinstance(x, (str, bytes)) for x in array.ravel()[:1].tolist())
    return array if array.dtype.kind == "O" and holds else None


def _decoded(strings, name: str) -> np.ndarray:
    """TensorFlow's strings, which are bytes, as text."""
    strings = np.asarray(strings, object)
    try:
        found = [text.decode("utf-8") for text in strings.ravel().tolist()]
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Strings of a tensor in `{name}` must be UTF-8. Received: {error}"
        ) from None
    return np.array(found, object).reshape(strings.shape)


def _bytes(name: str, what) -> str:
    return (
        f"`{name}` must be a string or a list of strings: bytes become one by "
        f"`.decode()`, an array of them by `.astype(str)`. Received: {shown(what)}"
    )
