"""Items that go together, gathered into batches from a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kerasdiffusion.batch.asked import Broken, Item

#: Batches' worth of items that wait for others like them.
AHEAD = 64
#: Items of one likeness in a row that a broken row waits for.
BROKEN = 256


@dataclass
class Batch:
    """What is painted and recorded at once.

    Args:
        number: Its part of the index; each is recorded once.
        items: Of one likeness; or rows that are broken, which are recorded alone.
        tries: How often whoever painted it has ended.
    """

    number: int
    items: list[Item | Broken]
    tries: int = 0

    @property
    def is_broken(self) -> bool:
        """Whether there is nothing to paint."""
        return isinstance(self.items[0], Broken)

    @property
    def likeness(self):
        """What its items have in common."""
        return None if self.is_broken else self.items[0].likeness


def grouped(
    items: Iterable[Item | Broken], size: int, ahead: int = AHEAD
) -> Iterator[list[Item | Broken]]:
    """Lists of items that are painted together, full ones as far as there are any.

    Args:
        items: In any order.
        size: Items of a list at most.
        ahead: How many lists' worth wait for others at most; beyond, the fullest goes
            as it is.

    Example:

    >>> item = Item("a", "", None, likeness=("like",))
    >>> [len(each) for each in grouped([item] * 5, 2)]
    [2, 2, 1]
    """
    waiting: dict[tuple, list] = {}
    count = 0
    for item in items:
        if isinstance(item, Item) and item.likeness is None:
            yield [item]
            continue
        like = (None,) if isinstance(item, Broken) else item.likeness
        own = waiting.setdefault(like, [])
        own.append(item)
        count += 1
        if len(own) >= (BROKEN if like == (None,) else size):
            count -= len(own)
            yield waiting.pop(like)
        elif count >= ahead * size:
            fullest = max(waiting, key=lambda each: len(waiting[each]))
            count -= len(waiting[fullest])
            yield waiting.pop(fullest)
    yield from waiting.values()
