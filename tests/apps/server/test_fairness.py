"""Whose turn it is."""

from kerasdiffusion.apps.server.fairness import Fair


def served(fair, waiting, costs, count):
    """Who is served, in order."""
    order = []
    for _ in range(count):
        name = fair.next(waiting)
        fair.serve(name, costs[name])
        order.append(name)
    return order


def joined(names):
    fair = Fair()
    for name in names:
        fair.join(name)
    return fair


def test_equals_take_turns():
    assert served(joined("abc"), "abc", dict.fromkeys("abc", 1.0), 6) == [*"abcabc"]


def test_who_asks_for_much_waits_for_as_much():
    order = served(joined("ab"), "ab", {"a": 4.0, "b": 1.0}, 10)
    assert order.count("b") == 4 * order.count("a")


def test_who_comes_late_has_saved_nothing_up():
    fair = joined("a")
    served(fair, "a", {"a": 1.0}, 100)
    fair.join("b")
    order = served(fair, "ab", {"a": 1.0, "b": 1.0}, 10)
    assert 4 <= order.count("a") <= 6


def test_who_leaves_and_comes_back_at_once_gains_nothing():
    fair = joined("ab")
    fair.serve("a", 10.0)
    fair.forget("b")
    fair.join("a")
    assert served(fair, "ab", {"a": 1.0, "b": 1.0}, 9) == ["b"] * 9


def test_who_is_owed_nothing_is_forgotten():
    fair = joined("ab")
    fair.serve("a", 1.0)
    fair.serve("b", 1.0)
    fair.serve("a", 1.0)
    fair.forget("a")
    assert fair.next("a") == "a"
    assert "b" not in fair._times
