"""Kinds of values that a field of a request may have: checked, as text, as JSON.

Nothing here loads a framework, nor numpy before there is an array.
"""

from __future__ import annotations

import difflib
import importlib
import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kerasdiffusion.storage import bounds


def refuse(error: type, name: str | None, rule: str, value) -> Exception:
    """The error of a value that breaks a rule: "must be ... Received: ..."."""
    subject = f"`{name}` " if name else ""
    return error(f"{subject}must {rule}. Received: {shown(value)}")


def shown(value, most: int = 200) -> str:
    """A value for a message: short, whatever it is."""
    if hasattr(value, "shape"):
        return f"an array of shape {tuple(value.shape)}"
    return bounds.shown(value, most)


def near(name: str, known: Sequence[str], count: int = 3, cutoff: float = 0.4) -> str:
    """`" Did you mean a or b?"`, or nothing."""
    found = difflib.get_close_matches(str(name)[:200], known, n=count, cutoff=cutoff)
    return f" Did you mean {' or '.join(found)}?" if found else ""


@dataclass(frozen=True)
class Kind:
    """Any value; the base of the others.

    A kind's `check` returns the value as a request has it, `read` does so of the text
    of a flag or of a picture, and `write` gives that text back. `read(write(value))`
    is the value, to the bit.
    """

    @property
    def schema(self) -> dict:
        """JSON schema of a value."""
        return {}

    def check(self, value, name: str | None = None):
        """The value as a request has it.

        Raises:
            TypeError: If it is of another type.
            ValueError: If it is out of range.
        """
        return value

    def parse(self, text: str):
        """The value that a text stands for, not yet checked."""
        return text

    def read(self, text: str):
        """A text's value, checked; a ValueError shows the text as it was given."""
        try:
            return self.check(self.parse(text))
        except (TypeError, ValueError) as error:
            rule = str(error).rpartition(" Received: ")[0]
            text = text if len(text) <= 200 else shown(text)
            raise ValueError(f"{rule} Received: {text}") from None

    def write(self, value) -> str:
        """A value as text."""
        if isinstance(value, float):
            return repr(value).removesuffix(".0")
        return str(value)

    def to_json(self, value, name: str):
        """A value as JSON has it; `name` is for messages."""
        return list(value) if isinstance(value, tuple) else value

    def from_json(self, value, name: str):
        """What `to_json` gave, as `check` takes it."""
        return value

    def files(self, value) -> list[str]:
        """The files of this machine that a value of JSON names."""
        return []


@dataclass(frozen=True)
class Text(Kind):
    """A string."""

    schema = {"type": "string"}

    def check(self, value, name=None):
        """See `Kind`."""
        if not isinstance(value, str):
            raise refuse(TypeError, name, "be a string", value)
        return str(value)


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number within bounds."""

    least: int = 1
    most: int = 2**31 - 1
    what: str = "a whole number"

    @property
    def schema(self) -> dict:
        """See `Kind`."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}

    def check(self, value, name=None):
        """See `Kind`."""
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise refuse(TypeError, name, f"be {self.what}", value)
        if not self.least <= value <= self.most:
            rule = f"be {self.what} from {self.least} to {self.most}"
            raise refuse(ValueError, name, rule, value)
        return int(value)

    def parse(self, text):
        """See `Kind`."""
        return whole(text)


def whole(text: str):
    """A whole number where the text is one, else the text; `int` also takes `1_0`."""
    digits = text.strip().removeprefix("-")
    short = digits.isascii() and digits.isdigit() and len(digits) <= 20
    return int(text) if short else text


def number(text: str):
    """A number where the text is one, else the text."""
    try:
        return float(text) if len(text) <= 400 and "_" not in text else text
    except ValueError:
        return text


@dataclass(frozen=True)
class Number(Kind):
    """A finite number within bounds, as a float."""

    least: float = -math.inf
    most: float = math.inf
    above: bool = False

    @property
    def schema(self) -> dict:
        """See `Kind`."""
        found = {"type": "number"}
        if self.least > -math.inf:
            found["exclusiveMinimum" if self.above else "minimum"] = self.least
        if self.most < math.inf:
            found["exclusiveMaximum" if self.above else "maximum"] = self.most
        return found

    def check(self, value, name=None):
        """See `Kind`."""
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise refuse(TypeError, name, "be a number", value)
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
        if not math.isfinite(found):
            raise refuse(ValueError, name, "be finite", value)
        inside = self.least <= found <= self.most
        if self.above:
            inside = self.least < found < self.most
        if not inside:
            raise refuse(ValueError, name, f"be {self._range}", value)
        return found

    @property
    def _range(self) -> str:
        if self.above and self.most < math.inf:
            return f"over {self.least:g} and under {self.most:g}"
        if self.above:
            return f"over {self.least:g}"
        if self.most == math.inf:
            return f"{self.least:g} or more"
        return f"from {self.least:g} to {self.most:g}"

    def parse(self, text):
        """See `Kind`."""
        return number(text)


SHARE = Number(0.0, 1.0)


@dataclass(frozen=True)
class Switch(Kind):
    """Whether or not."""

    schema = {"type": "boolean"}

    def check(self, value, name=None):
        """See `Kind`."""
        if type(value).__name__ not in ("bool", "bool_"):
            raise refuse(TypeError, name, "be True or False", value)
        return bool(value)

    def parse(self, text):
        """See `Kind`."""
        return {"True": True, "False": False}.get(text, text)


@dataclass(frozen=True)
class Choice(Kind):
    """One of some names."""

    names: tuple[str, ...]

    @property
    def schema(self) -> dict:
        """See `Kind`."""
        return {"enum": list(self.names)}

    def check(self, value, name=None):
        """See `Kind`."""
        if isinstance(value, str) and value in self.names:
            return str(value)
        subject = f"`{name}` " if name else ""
        raise ValueError(
            f"{subject}must be one of {', '.join(self.names)}."
            f"{near(value, self.names)} Received: {shown(value)}"
        )


@dataclass(frozen=True)
class Name(Kind):
    """A name that a function knows, with aliases; the canonical one is kept.

    Args:
        finder: `module:function`, loaded when there is a name to find.
    """

    finder: str

    schema = {"type": "string"}

    def check(self, value, name=None):
        """See `Kind`."""
        module, _, function = self.finder.partition(":")
        found = getattr(importlib.import_module(module), function)(value)
        return getattr(found, "name", found)


@dataclass(frozen=True)
class Layers(Kind):
    """A name or several."""

    schema = {
        "anyOf": [
            {"type": "string"},
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
        ]
    }

    def check(self, value, name=None):
        """See `Kind`."""
        layers = [value] if isinstance(value, str) else value
        if not isinstance(layers, (list, tuple)) or not all(
            isinstance(layer, str) for layer in layers
        ):
            raise refuse(TypeError, name, "be a string or a list of strings", value)
        if not layers:
            raise refuse(ValueError, name, "not be empty", value)
        return value if isinstance(value, str) else tuple(sorted(set(layers)))

    def parse(self, text):
        """See `Kind`."""
        names = [each.strip() for each in text.split(",")]
        return names if len(names) > 1 else names[0]

    def write(self, value):
        """See `Kind`."""
        return value if isinstance(value, str) else ",".join(value)


@dataclass(frozen=True)
class Function(Kind):
    """Something to call: a program's own, not text nor JSON."""

    def check(self, value, name=None):
        """See `Kind`."""
        if not callable(value) and not hasattr(value, "predict"):
            raise refuse(TypeError, name, "be a function", value)
        return value


def as_list(value: Any) -> list:
    """One or several, as a list."""
    return list(value) if isinstance(value, (list, tuple)) else [value]
