"""Pictures of a batch, judged as those that `evaluate` paints itself."""

import functools
import json
import pickle

import numpy as np
import pytest

from kerasdiffusion.apps.cli import main
from kerasdiffusion.batch import judging, paint, pictures_of
from kerasdiffusion.datasets import SceneConfig, SceneDataset
from kerasdiffusion.training.judging import evaluate as evaluation
from kerasdiffusion.training.judging import metrics
from kerasdiffusion.training.judging.evaluate import scene_sets
from tests.batch.stand_in import StandIn

SCENES = SceneConfig(objects=("red apple", "dog face"), relations=0.3)
QUIET = {"progress_bar": False, "engine": "local"}


class Renders(StandIn):
    """Paints each row's own render."""

    def own_size(self):
        return 32, 32

    def paint(self, items):
        found = []
        for each in items:
            name, _, number = each.name.rpartition(" ")
            config, split = scene_sets(SCENES)[name]
            data = SceneDataset(config, 32, seed=2000, split=split)
            picture, caption = data.sample(int(number))
            assert caption == each.request.prompt
            found.append(picture[None])
        return found


class InThree:
    """Three shares, as a cluster has them."""

    def over(self, work):
        return [work(i, 3) for i in range(3)]


def test_a_batch_of_scenes_is_judged_by_the_classifier(tmp_path, monkeypatch):
    rows = tmp_path / "rows.jsonl"
    assert judging.write_rows(rows, SCENES, 6) == 18
    first = json.loads(rows.read_text().splitlines()[0])
    assert first["name"] == "seen 000000" and first["seed"] == 2000
    paint(rows, tmp_path / "out", Renders, **QUIET)
    assert judging.is_of_scenes(tmp_path / "out")

    def name_objects(images, scenes, config, classifier):
        return [tuple(item.name for item in scene.items) for scene in scenes]

    monkeypatch.setattr(evaluation, "name_objects", name_objects)
    header, line, *lines = judging.judge(
        tmp_path / "out", SCENES, lambda: None, InThree()
    )
    assert [each.split(" | ")[0] for each in lines] == [
        *("| seen, 6", "| held out, 6", "| held-out pairs, 6")
    ]
    assert all(each.split(" | ")[1] == "100.0%" for each in lines)
    with pytest.raises(FileExistsError):
        judging.write_rows(rows, SCENES, 6)
    with pytest.raises(ValueError, match="must go to a file"):
        judging.write_rows(tmp_path / "rows.csv", SCENES, 6)


def test_other_batches_by_the_fields_figures(tmp_path, monkeypatch, capsys):
    rows = [{"prompt": f"a cat {i}", "size": 16 + 8 * (i % 2)} for i in range(5)]
    paint(rows, tmp_path / "out", functools.partial(StandIn, None), **QUIET)
    shown = []

    def clip_sums(parts):
        parts = list(parts)
        shown.extend((pictures.shape, captions) for pictures, captions in parts)
        count = sum(len(captions) for _, captions in parts)
        return 12.345 * count, count

    def frechet_sums(pictures):
        return {"num_samples": float(sum(map(len, pictures)))}

    def distance_of(shown, real):
        return float(sum(each["num_samples"] for each in (*shown, *real)))

    monkeypatch.setattr(metrics, "clip_sums", clip_sums)
    monkeypatch.setattr(metrics, "frechet_sums", frechet_sums)
    monkeypatch.setattr(metrics, "distance_of", distance_of)
    references = next((tmp_path / "out/pictures").iterdir())
    out, beside = str(tmp_path / "out"), str(references)
    assert main(["evaluate", "--of", out, "--reference", beside]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["5 pictures", "CLIP score        12.35"]
    assert lines[2] == "1 references" and lines[3] == "Fréchet distance  6.00"
    assert sum(len(captions) for _, captions in shown) == 5
    assert all(len(captions) == shape[0] for shape, captions in shown)
    first = list(shown)
    again = list(judging.figures(tmp_path / "out", references, InThree()))
    assert again == lines
    assert sorted(text for _, captions in first for text in captions) == [
        f"a cat {i}" for i in range(5)
    ]


def test_there_must_be_pictures(tmp_path):
    paint([{"seed": 1}], tmp_path / "out", StandIn, **QUIET)
    with pytest.raises(ValueError, match="a batch with pictures"):
        list(judging.figures(tmp_path / "out"))


def test_a_classifier_is_sent_to_other_processes():
    from kerasdiffusion.training.judging.judge import build_classifier, class_names

    own = build_classifier(len(class_names(SCENES)), 4)
    sent = judging.Sent(own, SCENES)
    assert sent() is own
    found = pickle.loads(pickle.dumps(sent))()
    for one, other in zip(own.get_weights(), found.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_shares_are_all_of_it_and_nothing_twice(tmp_path):
    rows = [{"prompt": f"a cat {i}"} for i in range(11)]
    how = {"shard": 3, "batch_size": 2, **QUIET}
    for store, count in (("files", 5), ("webdataset", 8), ("files", 11)):
        paint(rows[:count], tmp_path / "out", StandIn, store=store, **how)
    shares = [list(pictures_of(tmp_path / "out", i, 3)) for i in range(3)]
    names = [told["name"] for share in shares for told, _ in share]
    assert sorted(names) == [f"{i:08d}" for i in range(11)]
    assert all(shares)
