"""One batch at a time in a prefix, as far as that can be known."""

import threading
import time
import uuid

import pytest

from kerasdiffusion.batch.stores import lease, store_of
from kerasdiffusion.batch.stores.lease import leased
from kerasdiffusion.storage.whole import owner


@pytest.fixture
def store():
    return store_of(f"memory://{uuid.uuid4().hex}")


def of(who: str) -> bytes:
    return f'{{"id": "other", "owner": "{who}", "beat": 1}}'.encode()


def test_another_is_kept_out_and_the_next_let_in(store):
    with leased(store, "A batch"):
        with pytest.raises(BlockingIOError, match="A batch needs its place for itself"):
            with leased(store, "A batch"):
                pass
        assert store.has(lease.NAME)
    assert not store.has(lease.NAME)


def test_of_a_process_that_has_ended_it_is_taken_at_once(store):
    machine, _, _ = owner().split("-")
    store.write(lease.NAME, of(f"{machine}-1-7"))  # that began at another time
    with leased(store, "A batch", patience=100.0):
        pass


def test_of_another_machine_it_is_waited_for(store):
    store.write(lease.NAME, of("0badcafe-1-7"))
    with leased(store, "A batch", patience=0.2):
        pass
    ended = threading.Event()

    def live():
        number = 0
        while not ended.wait(0.01):
            number += 1
            store.write(lease.NAME, of("0badcafe-1-7") + b" " * number)

    thread = threading.Thread(target=live)
    thread.start()
    while not store.has(lease.NAME):
        time.sleep(0.001)
    try:
        with pytest.raises(BlockingIOError):
            with leased(store, "A batch", patience=30.0):
                pass
    finally:
        ended.set()
        thread.join()


def test_signs_of_life_and_none_once_it_is_anothers(store):
    with leased(store, "A batch", beat=0.01):
        first = store.read(lease.NAME)
        while store.read(lease.NAME) == first:
            time.sleep(0.005)
        store.write(lease.NAME, of("0badcafe-1-7"))
        time.sleep(0.05)
        taken = store.read(lease.NAME)
    assert store.read(lease.NAME) == taken == of("0badcafe-1-7")
