import numpy as np
import pytest

from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling.forecasts import Forecast, foretold
from kerasdiffusion.sampling.samplers import make_table
from kerasdiffusion.sampling.table import COLUMNS
from tests.sampling.plain_caches import Spectrum

USUAL = Forecast()


def told(sampler, steps, how=USUAL, kinds=None, **options):
    table = make_table(ScheduleConfig(), sampler, steps, **options)
    return foretold(table, how, kinds or [0] * len(table))


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"w": 1.0, "m": 5, "lam": 0.1, "window": 3, "flex": 0.0, "warmup": 6},
        {"w": 0.0, "m": 1, "flex": 3.0, "stop": 0.5},
        {"w": 0.7, "lam": 0.0, "warmup": 0, "stop": 1.0},
        {"w": 0.7, "stop": 0.0},
    ],
)
@pytest.mark.parametrize("steps", [3, 20, 70])
def test_what_is_foretold_is_the_plain_method_s(how, steps):
    plain = Spectrum(steps, **how)
    table = told("euler", steps, USUAL._replace(**named(how)))
    past, random = np.zeros((6, 8)), np.random.default_rng(0)
    for row in table.values:
        computed = random.normal(size=8)
        before = plain.skipped
        if plain.lam == 0.0 and len(plain.past) <= plain.m:
            # Of a fit that is not a definite one, whether it is, is all.
            assert plain.is_foretold() == (not row[COLUMNS.whole])
        expected = plain(lambda: computed)  # noqa: B023
        assert (plain.skipped > before) == (not row[COLUMNS.whole])
        if row[COLUMNS.whole]:
            past = np.vstack([computed[None], past[:-1]])
        elif plain.lam or len(plain.past) > plain.m:
            assert row[COLUMNS.forecast] @ past == pytest.approx(expected, abs=1e-6)
    assert len(table) < 8 or plain.skipped > 1


def named(how):
    names = {"w": "blend", "m": "degree", "lam": "ridge", "flex": "growth"}
    return {names.get(name, name): value for name, value in how.items()}


def test_a_straight_line_goes_on_by_half_a_step():
    table = told("euler", 8, Forecast(blend=0.0))
    assert table.values[4, COLUMNS.forecast].tolist() == [1.5, -0.5, 0, 0, 0, 0]
    assert table.values[:, COLUMNS.whole].tolist() == [1, 1, 1, 1, 0, 1, 0, 1]


def test_a_window_of_one_computes_all():
    table = told("euler", 12, Forecast(window=1, growth=0.0))
    assert table.values[:, COLUMNS.whole].all()


def test_the_calls_of_a_step_are_alike():
    table = told("heun", 10)
    found = dict(zip(table.steps, table.values[:, COLUMNS.whole], strict=True))
    assert [found[i] for i in table.steps] == table.values[:, COLUMNS.whole].tolist()
    assert 0 in found.values()
    # The second call is half way to the next step's first.
    assert told("heun", 3).values[:, COLUMNS.begins].tolist() == [1, 0, 1, 0, 1]


def test_nothing_serves_behind_a_change_of_what_is_asked():
    kinds = [0] * 6 + [1] * 10
    table = told("euler", 16, Forecast(window=3, growth=0.0), kinds)
    whole = table.values[:, COLUMNS.whole].tolist()
    assert whole[4:10] == [0, 0, 1, 1, 0, 0]
    assert np.count_nonzero(table.values[8, COLUMNS.forecast]) == 2
    alternating = told("euler", 16, USUAL, [i % 2 for i in range(16)])
    assert alternating.values[:, COLUMNS.whole].all()


def test_counted_are_the_steps_of_the_run():
    later = told("euler", 20, first_step=10)
    assert later.values[:, COLUMNS.whole].tolist() == (
        told("euler", 10).values[:, COLUMNS.whole].tolist()
    )


def test_a_step_of_two_calls_is_foretold_from_what_was_asked_alike():
    """By whose second call another word is seen, as by `[a|b]`: nothing serves."""
    how = Forecast(warmup=2, window=4, growth=0.0, stop=1.0)

    def whole(kinds):
        return told("heun", 6, how, kinds).values[:, COLUMNS.whole].tolist()

    assert whole("aaaaaaaaaaa") == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1]
    assert whole("abababababa") == [1] * 11
    # Its second call alone can serve, which is too little.
    assert whole("aaabbbbbbbb") == [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
