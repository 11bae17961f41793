"""An object store's prefix that one batch writes to at a time.

Who works there has made the object `.lock`, on condition that there was none, and
changes it every few seconds. One that nobody changes any more, or whose process has
ended on this machine, is another's to take. That is politeness: who is taken for dead
and is not can record nothing more, see `object_index`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Iterator

from kerasdiffusion.storage.whole import is_gone, owner

log = logging.getLogger("kerasdiffusion.batch")

NAME = ".lock"
#: Seconds from one sign of life to the next, and without any until another may begin.
BEAT, PATIENCE = 10.0, 45.0


@contextlib.contextmanager
def leased(
    store, what: str, beat: float = BEAT, patience: float = PATIENCE
) -> Iterator[None]:
    """Keeps other processes out of a prefix that are as polite.

    Args:
        store: The `Objects`.
        what: Who works there, as a sentence begins: "A batch".
        beat: Seconds from one sign of life to the next.
        patience: Seconds without any, by the clock of whoever waits, after which it is
            taken over.

    Raises:
        BlockingIOError: If another process is at work there.
        OSError: If nothing can be written there.
    """
    own = uuid.uuid4().hex
    while not _create(store, _said(own, 0)):
        there = store.read(NAME)
        if there is not None and not _is_left(store, there, patience):
            raise BlockingIOError(
                f"{what} needs its place for itself; another process is at work in it: "
                f"wait for its end, or choose another place. Received: {store}"
            )
        # (Of two who take it at once, one makes the next.)
        if there is not None and store.read(NAME) == there:
            store.remove([NAME])
    ended = threading.Event()
    thread = threading.Thread(
        target=_keep, args=(store, own, beat, ended), name="lease", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(OSError):
            if _whose(store.read(NAME)) == own:
                store.remove([NAME])


def _create(store, content: bytes) -> bool:
    try:
        return store.create(NAME, content)
    except OSError as error:
        raise type(error)(
            "A batch must have a place that it may write to "
            f"({error.strerror or error}). Received: {store}",
        ) from error


def _said(own: str, count: int) -> bytes:
    return json.dumps({"id": own, "owner": owner(), "beat": count}).encode()


def _read(content: bytes | None) -> dict:
    try:
        found = json.loads(content or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _whose(content: bytes | None) -> object:
    return _read(content).get("id")


def _keep(store, own: str, beat: float, ended: threading.Event) -> None:
    """Signs of life, until it is another's."""
    count = 0
    while not ended.wait(beat):
        count += 1
        with contextlib.suppress(OSError):  # the next one may come through
            if _whose(store.read(NAME)) != own:
                return
            store.write(NAME, _said(own, count))


def _is_left(store, there: bytes, patience: float) -> bool:
    """Whether nobody is at work any more who has made that."""
    gone = is_gone(str(_read(there).get("owner")))
    if gone is not None:
        return gone
    log.warning(
        "Another machine may be at work in %s: waiting for a sign of life, for %d s "
        "at most",
        store,
        patience,
    )
    end = time.monotonic() + patience
    while time.monotonic() < end:
        time.sleep(min(1.0, patience / 10))
        if store.read(NAME) != there:
            return store.read(NAME) is None
    return True
