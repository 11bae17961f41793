import keras
import numpy as np
import pytest
from keras import ops

from kerasdiffusion.presets.config import ScheduleConfig
from kerasdiffusion.sampling import reuse
from kerasdiffusion.sampling.samplers import make_table
from kerasdiffusion.sampling.table import COLUMNS
from tests.sampling.plain_caches import UCache

HOW = {"threshold": 1.0, "decay": 1.0, "relative": 1.0, "reset": 1.0}
HOW |= {"noise": 0.0, "drift": 0.5, "streak": 0.5, "early": 0.5, "late": 1.5}
EASY = HOW | {"drift": 0.0, "streak": 0.0, "early": 1.0, "late": 1.0}
SHAPE = (4, 5, 3)


def table_of(sampler="euler", steps=10, start=0.15, end=0.95, kinds=None):
    table = make_table(ScheduleConfig(), sampler, steps)
    return reuse.reusable(table, start, end, kinds or [0] * len(table))


def column(table, name):
    return table.values[:, getattr(COLUMNS, name)].tolist()


def test_calls_may_be_left_out_between_two_shares_of_the_steps():
    table = table_of(steps=20)
    assert column(table, "keeps") == [0] * 3 + [1] * 16 + [0]
    assert column(table, "whole") == [1] * 3 + [0] * 16 + [1]
    # The last step is computed in any case.
    assert column(table_of(steps=4, start=0.0, end=1.0), "whole") == [0, 0, 0, 1]


def test_all_calls_of_a_step_that_is_asked_something_else_are_computed():
    kinds = [0, 0, 0, 0, 0, 1, 1, 1, 1]
    table = table_of("heun", 5, 0.0, 1.0, kinds)
    assert table.steps.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    assert column(table, "whole") == [0, 0, 0, 0, 1, 1, 0, 0, 1]


def walk(table, how, networks, inputs, copies=2):
    """Predictions of each row, and how many calls each picture was spared."""
    how = {name: np.float32(each) for name, each in how.items()}
    how["steps"] = np.float32(table.steps[-1] + 1)
    memory = reuse.empty(ops.zeros((len(networks), *SHAPE)), copies)
    found, calls = [], []
    for i, row in enumerate(table.rows):
        seen = np.stack([each[i] for each in inputs])

        def network(i=i):
            calls.append(i)
            return ops.array(np.concatenate([each[i] for each in networks]))

        outputs, memory = reuse.reuse_or_call(
            network, ops.array(seen), ops.array(row), memory, how, judge=1
        )
        outputs = ops.convert_to_numpy(outputs)
        found.append(outputs.reshape(len(networks), copies, *SHAPE))
    return np.stack(found, axis=1), reuse.spared(memory), calls


def wandering(seed, steps, speed):
    """Inputs `(steps, h, w, c)` and predictions `(steps, copies, h, w, c)`."""
    random = np.random.default_rng(seed)
    inputs = np.cumsum(random.normal(size=(steps, *SHAPE)), axis=0) * speed
    outputs = np.cumsum(random.normal(size=(steps, 2, *SHAPE)), axis=0) * speed
    return inputs.astype("float32"), (3.0 + outputs).astype("float32")


def test_one_of_so_many_steps_may_be_computed_in_any_case():
    table = make_table(ScheduleConfig(), "euler", 12)
    kinds = [0] * 7 + [1] * 5
    whole = reuse.reusable(table, 0.1, 0.95, kinds, 3).values[:, COLUMNS.whole]
    assert whole.tolist() == [1, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 1]
    table = make_table(ScheduleConfig(), "heun", 6)
    whole = reuse.reusable(table, 0.0, 1.0, [0] * 11, 2).values[:, COLUMNS.whole]
    assert whole.tolist() == [1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_noise_is_the_same_whatever_the_network_predicts(prediction):
    config = ScheduleConfig(prediction_type=prediction)
    table = reuse.reusable(make_table(config, "euler", 8), 0.0, 1.0, [0] * 8)
    random, rows = np.random.default_rng(0), table.rows
    inputs = [random.normal(size=(8, *SHAPE)).astype("float32")]
    networks = [random.normal(size=(8, 1, *SHAPE)).astype("float32")]
    how = HOW | {"threshold": np.inf, "noise": 1.0}
    memory = reuse.empty(ops.zeros((1, *SHAPE)), 1)
    noise = []
    for i, row in enumerate(rows):
        outputs, memory = reuse.reuse_or_call(
            lambda i=i: ops.array(networks[0][i]),
            ops.array(inputs[0][i][None]),
            ops.array(row),
            memory,
            {name: np.float32(each) for name, each in (how | {"steps": 8}).items()},
            judge=0,
        )
        x = inputs[0][i] / row[COLUMNS.c_in]
        outputs = ops.convert_to_numpy(outputs)[0]
        clean = row[COLUMNS.c_skip] * x + row[COLUMNS.c_out] * outputs
        noise.append((x - clean) / row[COLUMNS.sigma])
    for i in range(2, 7):
        np.testing.assert_allclose(noise[i], noise[1], atol=1e-3)
    assert np.abs(noise[7] - noise[1]).max() > 0.1


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "options, easy",
    [
        ({}, False),
        ({"threshold": 0.5, "reset": 0.0, "decay": 0.6}, False),
        ({"threshold": 0.7, "relative": 0.0}, False),
        ({"threshold": 0.3}, True),
        ({"noise": 1.0}, False),
        ({"threshold": 1e-6}, False),
    ],
)
def test_each_picture_is_judged_as_the_plain_method_does_it_alone(options, easy):
    steps, table = 24, table_of(steps=24)
    pictures = [wandering(seed, steps, 0.05 * (seed + 1)) for seed in range(3)]
    inputs, networks = zip(*pictures, strict=True)
    how = (EASY if easy else HOW) | options
    found, spared, calls = walk(table, how, networks, inputs)
    left_out = []
    for i, (seen, outputs) in enumerate(pictures):
        plain = UCache(steps, easy=easy, **options)
        before = 0
        for step in range(steps):
            # The second copy judges.
            first = lambda: list(outputs[step, ::-1])  # noqa: B023, E731
            expected = np.stack(plain(step, seen[step], first)[::-1])
            np.testing.assert_allclose(found[i, step], expected, atol=1e-5)
            left_out += [(step, i)] * (plain.skipped > before)
            before = plain.skipped
        assert spared[i] == plain.skipped
    if options.get("threshold") == 1e-6:
        assert not left_out
        return
    assert len(set(spared)) > 1, "nothing to tell pictures apart by"
    if keras.backend.backend() == "jax":
        return  # which traces both sides of a condition
    # The network runs where one picture needs it.
    needed = [step for step in range(steps) if sum(s == step for s, _ in left_out) < 3]
    assert calls == needed
