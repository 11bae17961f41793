"""The table of cheaper steps, on a model of which all is known."""

from types import SimpleNamespace

import numpy as np

from kerasdiffusion.datasets import SceneDataset
from kerasdiffusion.training.judging import evaluate_cheaper as cheaper
from tests.training.judging.test_evaluate_samplers import SCENES, Judge, whole_pictures

whole_pictures = whole_pictures


class Painter:
    """Paints truly, but for one level of grey with an option; and notes its calls."""

    img_height = 32

    def __init__(self, clock, seconds):
        self.clock, self.seconds, self.calls = clock, seconds, []

    def run(self, request):
        interval = request.deep_cache and request.deep_cache[0]
        self.calls.append((len(request.prompt), request.seed, interval))
        self.clock[0] += self.seconds / (interval or 1)
        truth = SceneDataset(SCENES, 32, seed=7, split="all").batch(0, 6)[0]
        truth = truth[request.seed - 7 :][: len(request.prompt)]
        pictures = truth ^ 1 if interval else truth
        # Of ten calls each picture does without one more than the one before.
        left_out = np.arange(len(pictures)) if interval else np.zeros(1)
        return SimpleNamespace(
            pictures=lambda: pictures,
            plan=SimpleNamespace(settings=SimpleNamespace(table=range(10))),
            step=SimpleNamespace(left_out=left_out),
        )


def test_time_distance_and_objects_of_each_row(monkeypatch):
    clock, lines = [0.0], []
    monkeypatch.setattr(cheaper.time, "perf_counter", lambda: clock[0])
    model, small = Painter(clock, 4.0), Painter(clock, 5.0)
    options = {"half": {"deep_cache": 2}}
    how = {"count": 6, "seed": 7, "batch_size": 3, "report": lines.append}
    rows = cheaper.evaluate_cheaper(model, small, Judge(), SCENES, options, **how)
    assert list(rows) == ["plain", "half", '`quantize("int8")`']
    assert rows["plain"] == cheaper.Cheaper(1.0, 10.0, np.inf, 1.0)
    assert (rows["half"].time, rows['`quantize("int8")`'].time) == (0.5, 1.25)
    assert rows["half"].calls == 9.0
    # An error of 1 in 255 everywhere.
    assert abs(rows["half"].decibels - 20 * np.log10(255)) < 1e-9
    assert rows["half"].objects < rows["plain"].objects == 1.0
    assert {call[:2] for call in model.calls} == {(3, 7), (3, 10)}
    assert len(lines) == 4 and "0.50 of the time, 9.0 calls, 48.1 dB" in lines[2]
    assert cheaper.markdown(rows).splitlines()[2:4] == [
        "| plain | 1.00 | 10.0 |  | 100 % |",
        f"| half | 0.50 | 9.0 | 48.1 dB | {100 * rows['half'].objects:.0f} % |",
    ]


def test_the_usual_rows_are_options_of_the_tasks():
    from kerasdiffusion.presets.config import DiffusionModelConfig
    from kerasdiffusion.requests.cheaper_steps import cheaper_methods
    from kerasdiffusion.requests.request import Request

    for keywords in cheaper.USUAL.values():
        found = cheaper_methods(
            Request(task="text_to_image", prompt="x", **keywords),
            DiffusionModelConfig(),
        )
        assert found or "guidance_interval" in keywords
