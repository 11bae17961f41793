"""The bar: when it appears, and what it counts."""

import sys
import threading
import time
import types

import pytest

from kerasdiffusion.compute import progress
from kerasdiffusion.compute.progress import Progress


def test_what_is_soon_done_shows_none(capsys):
    with Progress(3, "step") as bar:
        for i in range(3):
            bar.to(i + 1)
    assert capsys.readouterr().err == ""


def test_it_can_be_silenced(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with Progress(3, "step", show=False) as bar:
        bar.to(3)
    assert capsys.readouterr().err == ""


def test_what_takes_long_is_counted(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with Progress(3, "step") as bar:
        bar.begin()
        bar.to(3)
    assert "3/3" in capsys.readouterr().err


def test_it_begins_where_others_have_been_and_tells_of_the_last(monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with Progress(10, "step", first=4) as bar:
        bar.begin()
        bar.to(5, "loss 0.5")
        assert "5/10" in str(bar._bar) and "loss 0.5" in str(bar._bar)


def test_lines_beside_the_bar_are_whole(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with Progress(3, "step") as bar:
        bar.to(1)
        with bar.aside():
            print("half an hour")
    assert capsys.readouterr().out == "half an hour\n"


def test_what_comes_ahead_is_a_word_and_counts_nothing(monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with Progress(10, "step", ahead="preparing") as bar:
        until = time.monotonic() + 60
        while bar._bar is None and time.monotonic() < until:
            time.sleep(0.01)  # the bar is drawn by another thread
        assert "preparing" in str(bar._bar), "while nothing is counted"
        bar.begin()
        began = time.time()
        bar.to(1)
        assert bar._bar.start_t == pytest.approx(began, abs=1.0)
        assert "1/10" in str(bar._bar) and "preparing" not in str(bar._bar)


def test_the_time_of_what_comes_ahead_is_seen_to_pass(monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "TICK", 0.01)
    with Progress(10, "step", ahead="preparing") as bar:
        drawn, until = [], time.monotonic() + 60
        while len(drawn) < 3 and time.monotonic() < until:
            time.sleep(0.01)
            if bar._bar is not None and not drawn:
                monkeypatch.setattr(bar._bar, "refresh", lambda: drawn.append(1))
                drawn.append(0)
        bar.begin()
    assert len(drawn) >= 3 and not bar._timer.is_alive()


@pytest.mark.parametrize("shell", [types.SimpleNamespace(kernel="mine"), None])
def test_a_notebook_draws_in_its_own_thread(shell, monkeypatch):
    """A process that has imported what makes notebooks is none."""
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    ipython = types.SimpleNamespace(get_ipython=lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    with Progress(3, "step") as bar:
        assert (bar._timer is None) == (shell is not None)


def test_bars_of_threads_have_a_line_each(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    together, lines = threading.Barrier(3), []

    def count():
        with Progress(2, "step") as bar:
            bar.to(1)
            together.wait(5)
            lines.append(bar._bar.pos)
            together.wait(5)

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(lines)) == 3


def test_an_error_takes_the_bar_away(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE", 0.05)
    with pytest.raises(ZeroDivisionError), Progress(2, "step"):
        raise ZeroDivisionError
    time.sleep(0.2)
    assert capsys.readouterr().err == ""
