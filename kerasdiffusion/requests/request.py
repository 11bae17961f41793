"""`Request`: what is asked of a model, whatever the face that asks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from kerasdiffusion.requests import as_json
from kerasdiffusion.requests.control import Control
from kerasdiffusion.requests.fields import REQUIRED, TASKS, Field, declared_in
from kerasdiffusion.requests.key import key_of
from kerasdiffusion.requests.kinds import near, shown
from kerasdiffusion.requests.larger import Larger
from kerasdiffusion.requests.manner import Manner
from kerasdiffusion.requests.subject import Subject
from kerasdiffusion.requests.telling import Telling


@dataclass(frozen=True, kw_only=True, eq=False)
class Request(Telling, Larger, Manner, Subject):
    """What is asked of a model: a task, its prompts and every keyword, checked.

    Args:
        task: The name of a method of `StableDiffusion`: `"text_to_image"`,
            `"inpaint"`, ...

    The other arguments are the task's own, by the same names and with the same
    defaults; they are checked by themselves here, and against a model when it paints.
    `dataclasses.replace` makes another request of one.

    Raises:
        TypeError: If something has the wrong type, the task does not take it, or
            something is missing that the task needs.
        ValueError: If a value is out of its range, or there is no such task.

    Example:

    >>> request = Request(task="text_to_image", prompt="a cat", seed=1)
    >>> request.batch_size, request.given()
    (1, {'prompt': 'a cat', 'seed': 1})
    """

    task: str

    def __post_init__(self):
        """Checks each field, and sets what the task has a default for."""
        if not isinstance(self.task, str) or self.task not in TASKS:
            raise ValueError(
                f"`task` must be one of {', '.join(TASKS)}.{near(self.task, TASKS)} "
                f"Received: {shown(self.task)}"
            )
        for name, field in FIELDS.items():
            value = getattr(self, name)
            if self.task not in field.asked.tasks:
                if value is not None and value is not field.default:
                    raise TypeError(
                        f"`{self.task}` must go without `{name}`, which "
                        f"{', '.join(field.asked.tasks)} take. "
                        f"Received: {name}={shown(value)}"
                    )
                continue
            if value is None and field.is_required(self.task):
                raise TypeError(f"`{self.task}` must have `{name}`. Received: none")
            if value is None or value is field.default:
                value = field.default_for(self.task)
            object.__setattr__(self, name, field.check(value))

    def given(self) -> dict:
        """The fields that are not at the task's default, by name."""
        return {
            name: value
            for name, field in fields_of(self.task).items()
            if not is_same(value := getattr(self, name), field.default_for(self.task))
        }

    def to_json(self, indent: int | None = None) -> str:
        """The request as JSON text: the task, and what is given.

        Pictures and arrays are written as they were given: a path as a path, others
        as base64 of a PNG or of numpy's own file. Who watches (`callback`,
        `progress_bar`) is left out.

        Args:
            indent: Spaces of each level; one line by default.

        Raises:
            ValueError: If something cannot be written, as a model in memory that is
                the refiner; the message has the way out.

        Example:

        >>> print(Request(task="text_to_image", prompt="a cat", seed=1).to_json())
        {"task": "text_to_image", "prompt": "a cat", "seed": 1}
        """
        return as_json.dumped(self.to_values(), indent)

    def to_values(self) -> dict:
        """The same as a dict of what JSON has."""
        given = self.given()
        if given.get("depth_estimator") is not None:
            raise ValueError(
                "`depth_estimator` must be left out to be written: pass the map it "
                "makes as `depth`. Received: a function"
            )
        return as_json.to_values(self.task, given, FIELDS)

    @classmethod
    def from_json(cls, text, files: bool = True) -> Request:
        """The request that a JSON text is.

        Args:
            text: What `to_json` gives, or by hand as `schema` says; or a dict of it.
            files: Whether it may name files of this machine, as pictures and models.
                A server that reads what strangers send says `False`.

        Raises:
            TypeError: If a value has the wrong type.
            ValueError: If it is no JSON, has what no request has, or a value is out of
                range.

        Example:

        >>> Request.from_json('{"task": "text_to_image", "prompt": "a cat"}').prompt
        'a cat'
        """
        return cls(**as_json.read(text, FIELDS, files))

    @staticmethod
    def schema(task: str | None = None) -> dict:
        """The JSON schema (draft 2020-12) of requests.

        Args:
            task: Of one task alone; of any by default.

        Example:

        >>> Request.schema("text_to_image")["properties"]["batch_size"]["maximum"]
        4096
        """
        if task is not None:
            return {"$schema": as_json.DIALECT} | as_json.schema_of(
                task, fields_of(task)
            )
        each = [as_json.schema_of(task, fields_of(task)) for task in TASKS]
        return {"$schema": as_json.DIALECT, "title": "Request", "oneOf": each}

    def key(self, model) -> str:
        """A hash of all that changes the pictures: of the request and of the model.

        Equal keys give equal pictures, to the bit, on a machine of the same kind.

        Args:
            model: A `StableDiffusion`; or its `fingerprint()`, asked once for many
                requests.

        Returns:
            64 hexadecimal digits.

        Raises:
            ValueError: If the request has no seed, or holds what cannot be compared,
                as a function that estimates depths.

        Example:

        >>> request = Request(task="text_to_image", prompt="a cat", seed=1)
        >>> len(request.key({"weights": "some"}))
        64
        """
        return key_of(self, FIELDS, model)

    def __eq__(self, other):
        """Whether all fields are alike; arrays by what is in them."""
        if not isinstance(other, Request):
            return NotImplemented
        return self.task == other.task and all(
            is_same(getattr(self, name), getattr(other, name)) for name in FIELDS
        )

    def __hash__(self):
        """Of the task and the prompt."""
        return hash((self.task, str(type(self.prompt)), shown(self.prompt)))

    def __reduce__(self):
        """Pickled as what is given: elsewhere, defaults are that process's own."""
        return _made_again, (self.task, self.given())

    def __repr__(self):
        """The task and what is given."""
        parts = [f"task={self.task!r}"]
        parts += [f"{name}={shown(value)}" for name, value in self.given().items()]
        return f"Request({', '.join(parts)})"

    replace = dataclasses.replace


#: Every field of a request but the task, in order.
FIELDS: dict[str, Field] = declared_in(Request)


def _made_again(task: str, given: dict) -> Request:
    return Request(task=task, **given)


def fields_of(task: str) -> dict[str, Field]:
    """The fields that a task takes, in order: by position first."""
    return {name: each for name, each in FIELDS.items() if task in each.asked.tasks}


def is_same(one, other) -> bool:
    """Whether two values of a field are alike."""
    if one is other:
        return True
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    if hasattr(one, "shape") or hasattr(other, "shape"):
        import numpy as np

        from kerasdiffusion.requests.binary import to_array

        if not (hasattr(one, "shape") and hasattr(other, "shape")):
            return False
        one, other = to_array(one), to_array(other)
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, Control) and isinstance(other, Control):
        return is_same(*(tuple(vars(each).values()) for each in (one, other)))
    return type(one) is type(other) and bool(one == other)


assert set(REQUIRED) <= set(FIELDS)
