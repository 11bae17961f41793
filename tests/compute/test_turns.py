"""Turns: one at a time, in the order of asking."""

import gc
import signal
import threading
import time

import pytest

from kerasdiffusion.compute.turns import Turn


def waiting(turn) -> int:
    """How many are in the queue, the one that has the turn included."""
    ticket, count = turn._last, 0
    while ticket is not None:
        count, ticket = count + ticket.lock.locked(), ticket.before
    return count


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_in_the_order_of_asking():
    turn, order = Turn(), []

    def take(number):
        with turn():
            order.append(number)

    threads = []
    with turn():
        for number in range(8):
            threads.append(threading.Thread(target=take, args=[number], daemon=True))
            threads[-1].start()
            until(lambda n=number: waiting(turn) == n + 2)
    for thread in threads:
        thread.join(20)
    assert order == list(range(8))


def test_one_at_a_time_and_again_by_whom_it_is():
    turn, inside, most = Turn(), [], []

    def take():
        for _ in range(200):
            with turn(), turn():
                inside.append(None)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=take, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1] * 1600


def test_an_error_ends_a_turn():
    turn = Turn()
    for _ in range(2):
        with pytest.raises(ArithmeticError), turn():
            raise ArithmeticError
    assert waiting(turn) == 0


def test_who_is_interrupted_leaves_the_queue_and_nobody_passes():
    turn, has_it, order = Turn(), threading.Event(), []

    def first():
        with turn():
            has_it.set()
            until(lambda: waiting(turn) == 3)  # the main thread, and the one behind
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.2)
            order.append("first")

    def last():
        until(lambda: waiting(turn) == 2)
        with turn():
            order.append("last")

    threads = [threading.Thread(target=each, daemon=True) for each in (first, last)]
    for thread in threads:
        thread.start()
    assert has_it.wait(20)
    gc.disable()  # an interruption that comes in a collector's callback is lost
    try:
        with pytest.raises(KeyboardInterrupt), turn():
            order.append("interrupted")
    finally:
        gc.enable()
    for thread in threads:
        thread.join(20)
    assert order == ["first", "last"]
    with turn():
        assert waiting(turn) == 1
