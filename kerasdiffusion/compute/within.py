"""What holds within a `with`, for the thread or the task that said so."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any


class Within:
    """A value that is another within a `with`, and what it was behind it.

    Args:
        name: What it is, for debuggers.
        default: The value outside of any.

    Example:

    >>> depth = Within("depth", 0)
    >>> with depth.set(1):
    ...     print(depth.get())
    1
    >>> depth.get()
    0
    """

    def __init__(self, name: str, default: Any = None):
        self._variable = contextvars.ContextVar(name, default=default)

    def get(self) -> Any:
        """The value here and now."""
        return self._variable.get()

    @contextlib.contextmanager
    def set(self, value: Any) -> Iterator[Any]:
        """Within it, `get` gives this value."""
        before = self._variable.set(value)
        try:
            yield value
        finally:
            self._variable.reset(before)
