"""From a row to what is painted for it, and what the row is known by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kerasdiffusion.batch.cells import (
    COLUMNS,
    NAME,
    TASK,
    check_known,
    line,
    plain,
    size_of,
    values_of,
)
from kerasdiffusion.batch.rows import Rows
from kerasdiffusion.requests.fields import TASKS
from kerasdiffusion.requests.kinds import near
from kerasdiffusion.requests.request import FIELDS, Request
from kerasdiffusion.storage.bounds import shown

#: Characters of a name.
_LONGEST = 500


@dataclass
class Item:
    """What is painted for a row.

    Args:
        name: The row's.
        key: The hash of all that changes its pictures.
        request: With a seed; what `Painter.paint` takes.
        size: Height and width; `None` for the model's own.
        likeness: What items of one batch have in common; `None` of one that goes alone.
        kept: Columns that go along into the index.
        told: What its record says of the request.
    """

    name: str
    key: str
    request: Request
    size: tuple[int, int] | None = None
    likeness: tuple | None = None
    kept: dict = field(default_factory=dict)
    told: dict = field(default_factory=dict)


@dataclass
class Broken:
    """A row that nothing can be painted for, and why."""

    name: str
    key: str
    error: str
    kept: dict = field(default_factory=dict)


class Asking:
    """Makes items of rows.

    Args:
        fingerprint: What `key` of a request takes for the model.
        likeness: A function of a request and a size, see `tasks.batches.likeness`.
        own_size: The model's height and width.
        constants: Fields of rows that say nothing else; and `size`.
        task: The task of rows that name none.
        keep: Columns that go along into the index.

    Raises:
        ValueError: If a constant is none that a request has.
    """

    def __init__(
        self,
        fingerprint,
        likeness,
        own_size: tuple[int, int],
        constants: Mapping | None = None,
        task: str = "text_to_image",
        keep: Sequence[str] = (),
    ):
        self._fingerprint, self._likeness = fingerprint, likeness
        self._own_size, self._task = tuple(own_size), task
        check_known(constants or {}, (), "an argument")
        self._keep = tuple(keep)
        self._constants = {
            COLUMNS[name].name if name in COLUMNS else name: value
            for name, value in (constants or {}).items()
        }

    def items(
        self, rows: Rows, is_left: Callable[[Item | Broken], bool] = lambda item: True
    ) -> Iterator[Item | Broken]:
        """Each row as what is painted, or as why not.

        Args:
            rows: The rows.
            is_left: Whether a row is not recorded yet; others are left out.

        Raises:
            ValueError: If two rows have one name.
        """
        told: set[bytes] = set()
        for number, row in enumerate(rows):
            name = name_of(row, number)
            known = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:16]
            if known in told:
                raise _twice(name, f"row {number}")
            told.add(known)
            item = self._item(name, row, rows)
            if not is_left(item):
                continue
            if isinstance(item, Item):
                item = self._placed(item, row)
                if isinstance(item, Broken) and not is_left(item):
                    continue
            yield item

    def _item(self, name: str, row: Mapping, rows: Rows) -> Item | Broken:
        """What is painted for one row, or why nothing is."""
        try:
            values = {**self._constants, **values_of(row, rows, self._keep)}
            size = size_of(values, self._constants)
            request = _request(values, self._task, name)
            key = request.key(self._fingerprint(size or self._own_size))
        except (ValueError, TypeError, OSError, MemoryError) as error:
            return self._broken(name, row, error)
        return Item(name, key, request, size, None, self._kept(row), _told(request))

    def _placed(self, item: Item, row: Mapping) -> Item | Broken:
        """An item among its like, or why the model cannot paint it."""
        try:
            item.likeness = self._likeness(item.request, item.size)
        except (ValueError, TypeError, OSError, MemoryError) as error:
            return self._broken(item.name, row, error)
        return item

    def _broken(self, name: str, row: Mapping, error: Exception) -> Broken:
        told = sorted((each, repr(value)) for each, value in row.items())
        told = repr((told, sorted(self._constants.items(), key=str)))
        key = hashlib.sha256(f"broken {told}".encode("utf-8", "replace"))
        return Broken(name, key.hexdigest(), line(error), self._kept(row))

    def _kept(self, row: Mapping) -> dict:
        return {each: plain(row.get(each)) for each in self._keep}


def check_columns(
    rows: Rows, constants: Mapping, task: str, keep: Sequence[str] = ()
) -> None:
    """That a table has what the task needs, and nothing that nobody knows.

    Raises:
        ValueError: If not.
    """
    if task not in TASKS:
        raise ValueError(
            f"`task` must be one of {', '.join(TASKS)}.{near(task, TASKS)} "
            f"Received: {shown(task)}"
        )
    if not rows.is_ordered and NAME not in (rows.columns or ()):
        raise ValueError(
            "Rows that come in any order, as a Ray Dataset's do, must have a column "
            f"`{NAME}`. Received: {shown(rows.columns)}"
        )
    if rows.columns is None:
        return
    check_known(rows.columns, keep, "a column")
    for each in keep:
        if each not in rows.columns:
            raise ValueError(
                f"A column that is kept must be there.{near(each, rows.columns)} "
                f"Received: {shown(each)}"
            )
    if TASK in rows.columns:
        return
    there = {COLUMNS[each].name for each in rows.columns if each in COLUMNS}
    there |= {COLUMNS[each].name for each in constants if each in COLUMNS}
    for name, each in FIELDS.items():
        if each.is_required(task) and task in each.asked.tasks and name not in there:
            raise ValueError(
                f"`{task}` must have a column `{name}`."
                f"{near(name, rows.columns)} Received: {', '.join(rows.columns)}"
            )


def check_names(rows: Rows) -> None:
    """That no two rows have one name, where all can be looked at ahead.

    Raises:
        ValueError: If two have.
    """
    names = rows.names()
    if names is None:
        return
    told: set[bytes] = set()
    for number, name in enumerate(names):
        name = name_of({} if name is None else {NAME: name}, number)
        known = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:16]
        if known in told:
            raise _twice(name, f"row {number}")
        told.add(known)


def name_of(row: Mapping, number: int) -> str:
    """The name of a row; its number, from 0, where it has none.

    Raises:
        ValueError: If it is too long, or nothing that is read.
    """
    name = row.get(NAME)
    if name is None:
        return f"{number:08d}"
    if isinstance(name, float) and name.is_integer():
        name = int(name)
    name = name if isinstance(name, str) else plain(name)
    is_one = not isinstance(name, (list, dict))
    name = str(name)
    is_one &= bool(name.strip()) and len(name) <= _LONGEST and name.isprintable()
    if not is_one:
        raise ValueError(
            f"A name must be 1 to {_LONGEST} printable characters. "
            f"Received: {shown(name)} in row {number}"
        )
    return name


def seed_of(name: str) -> int:
    """The seed of a row that says none: the same each time, by its name.

    Example:

    >>> seed_of("apple") == seed_of("apple")
    True
    """
    hashed = hashlib.sha256(name.encode("utf-8", "replace")).digest()
    return int.from_bytes(hashed[:4], "big")


def _twice(name: str, where: str) -> ValueError:
    return ValueError(
        "Each row must have a name of its own; what was painted is kept. "
        f"Received: {shown(name)} again, as {where}"
    )


def _request(values: dict, task: str, name: str) -> Request:
    values = dict(values)
    request = Request(**{"task": task, **values})
    drawn = {}
    if request.seed is None:
        drawn["seed"] = seed_of(name)
    if request.variation_strength and request.variation_seed is None:
        drawn["variation_seed"] = seed_of(f"{name} variation")
    return request.replace(**drawn) if drawn else request


def _told(request: Request) -> dict:
    """What the record of a request says of it."""
    text = request.prompt if request.prompt is not None else request.instruction
    if hasattr(text, "shape"):
        text = None
    text = list(text) if isinstance(text, tuple) else text
    return {"task": request.task, "prompt": text, "seed": request.seed}
