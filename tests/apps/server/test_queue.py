"""The queue, without a model: order, batches, bounds, ends."""

import threading
import time

import pytest

from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.queue import Queue
from kerasdiffusion.apps.server.work import CANCELLED, RUNNING, Client, Job, Piece
from kerasdiffusion.requests.request import Request


def a_job(client="a", pieces=1, like="same", cost=1.0, address=None):
    request = Request(task="text_to_image", prompt="a cat", seed=1)
    job = Job(request, "emoji", Client(address or client, client))
    job.pieces = [
        Piece(job, i, request, None if like is None else (like,), cost)
        for i in range(pieces)
    ]
    return job


def take(queue, most=8):
    batch = queue.take(lambda piece: most, most)
    queue.done(1.0)
    return batch


def clients(batch):
    return [piece.job.client.name for piece in batch]


def test_pieces_that_are_alike_go_together_whoever_asks():
    queue = Queue()
    for name in "abcd":
        queue.put(a_job(name))
    assert sorted(clients(take(queue))) == [*"abcd"]
    assert queue.counts() == (0, 0)


@pytest.mark.parametrize(
    "pieces, batches",
    [(1, [1]), (2, [2]), (3, [3]), (5, [4, 1]), (6, [6]), (7, [7]), (15, [8, 7])],
)
def test_a_batch_is_a_power_of_two_or_little_less(pieces, batches):
    """So that few programs are compiled, and few batches small."""
    queue = Queue()
    queue.put(a_job(pieces=pieces))
    assert [len(take(queue)) for _ in batches] == batches


def test_a_batch_is_no_larger_than_what_fits():
    queue = Queue()
    queue.put(a_job(pieces=8))
    assert [len(take(queue, most=3)) for _ in range(4)] == [2, 2, 2, 2]


def test_what_differs_goes_apart():
    queue = Queue()
    queue.put(a_job("a", 2, like="small"))
    queue.put(a_job("b", 2, like="large"))
    assert clients(take(queue)) == ["a", "a"]
    assert clients(take(queue)) == ["b", "b"]


def test_what_has_no_likeness_goes_alone():
    queue = Queue()
    queue.put(a_job("a", 2, like=None))
    assert [len(take(queue)) for _ in range(2)] == [1, 1]


def test_who_asks_for_many_does_not_hold_up_who_asks_for_one():
    queue = Queue()
    queue.put(a_job("many", 40, like=None))
    take(queue)
    queue.put(a_job("one", 1, like=None))
    first_two = clients(take(queue)) + clients(take(queue))
    assert "one" in first_two


def test_clients_of_one_address_share_what_an_address_gets():
    queue = Queue()
    for i in range(10):
        queue.put(a_job(f"crowd {i}", 4, like=None, address="one house"))
    queue.put(a_job("alone", 10, like=None))
    order = [clients(take(queue))[0] for _ in range(20)]
    assert 9 <= order.count("alone") <= 10
    assert len({name for name in order if name.startswith("crowd")}) == 10


def test_more_than_it_holds_is_refused_with_when_to_come_back():
    queue = Queue(most=4)
    queue.put(a_job("a", 2))
    with pytest.raises(Refused, match="one address") as refusal:
        queue.put(a_job("a", 1))
    assert refusal.value.status == 429
    assert int(refusal.value.headers["Retry-After"]) >= 1
    queue.put(a_job("b", 2))
    with pytest.raises(Refused, match="room for 4 pictures"):
        queue.put(a_job("c", 1))


def test_what_is_cancelled_leaves():
    queue = Queue()
    gone, there = a_job("a", 3), a_job("a", 1)
    queue.put(gone)
    queue.put(there)
    assert queue.position(there) == 3
    queue.cancel(gone)
    assert gone.state == CANCELLED and queue.position(there) == 0
    assert [piece.job for piece in take(queue)] == [there]


def test_at_the_end_what_runs_goes_on_and_the_rest_leaves():
    queue = Queue()
    running, waiting = a_job("a", 2, like=None), a_job("b")
    queue.put(running)
    queue.put(waiting)
    assert queue.take(lambda piece: 1)[0].job is running
    assert queue.close() == [waiting]
    with pytest.raises(Refused) as refusal:
        queue.put(a_job())
    assert refusal.value.status == 503
    queue.done(1.0)
    assert queue.take(lambda piece: 1)[0].job is running
    queue.done(1.0)
    assert queue.take(lambda piece: 1) is None


def test_it_waits_for_what_comes():
    queue, found = Queue(), []
    thread = threading.Thread(target=lambda: found.extend(take(queue)))
    thread.start()
    job = a_job()
    queue.put(job)
    thread.join()
    assert [piece.job for piece in found] == [job] and job.state == RUNNING


def test_those_who_ask_at_once_are_waited_for_and_painted_together(monkeypatch):
    monkeypatch.setattr("kerasdiffusion.apps.server.queue.GATHER", 60.0)
    queue, found = Queue(), []
    with queue.expecting(), queue.expecting():
        thread = threading.Thread(target=lambda: found.append(take(queue)))
        thread.start()
        queue.put(a_job("a"))
        time.sleep(0.05)  # it would be taken now
        assert queue.counts() == (1, 0)
        queue.put(a_job("b"))
    thread.join(30)
    assert clients(found[0]) == ["a", "b"]


@pytest.mark.parametrize("pieces, enough", [(1, 8), (2, 2)])
def test_nobody_is_waited_for_long_nor_where_there_are_enough(pieces, enough):
    queue = Queue()
    queue.put(a_job(pieces=pieces))
    with queue.expecting():  # by one who never comes
        assert len(queue.take(lambda piece: 8, enough)) == pieces


def test_time_left_is_learned_from_what_was_painted():
    queue = Queue()
    job, other = a_job(cost=10.0), a_job(cost=20.0)
    queue.put(job)
    queue.take(lambda piece: 1)
    queue.done(5.0)
    queue.put(other)
    assert queue.seconds_left(other) == pytest.approx(10.0)
