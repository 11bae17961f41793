"""`Request`: what is asked of a model, whatever the face that asks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from kerasdiffusion.requests.fields import REQUIRED, TASKS, Field, declared_in
from kerasdiffusion.requests.kinds import near, shown
from kerasdiffusion.requests.manner import Manner
from kerasdiffusion.requests.subject import Subject
from kerasdiffusion.requests.telling import Telling


@dataclass(frozen=True, kw_only=True, eq=False)
class Request(Telling, Manner, Subject):
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

    def __repr__(self):
        """The task and what is given."""
        parts = [f"task={self.task!r}"]
        parts += [f"{name}={shown(value)}" for name, value in self.given().items()]
        return f"Request({', '.join(parts)})"

    replace = dataclasses.replace


#: Every field of a request but the task, in order.
FIELDS: dict[str, Field] = declared_in(Request)


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
    return type(one) is type(other) and bool(one == other)


assert set(REQUIRED) <= set(FIELDS)
