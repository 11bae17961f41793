"""`kerasdiffusion encode`: what `teach` then finds."""

import json

import numpy as np
import pytest
from PIL import Image

from kerasdiffusion.batch import read_index
from kerasdiffusion.training.examples import encoded
from kerasdiffusion.training.examples.folders import read_folder
from kerasdiffusion.training.lessons.courses import teach
from kerasdiffusion.training.lessons.lesson import Lesson

LESSON = ("--instance-prompt", "two cats", "--resolution", "32")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "cats"
    folder.mkdir()
    for i, shape in enumerate(((40, 40), (40, 64), (48, 48))):
        pixels = np.random.default_rng(i).integers(0, 256, (*shape, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "1.txt").write_text("a red apple on a blue background")
    return folder


def test_teach_encodes_nothing_again(command, folder, tmp_path, capsys, monkeypatch):
    assert command("encode", "cats", "--out", "out", *LESSON) == 0
    out = capsys.readouterr().out
    assert "Encoded 3 rows" in out and "--encoded" in out
    assert command("encode", "cats", "--out", "out", *LESSON, "--quiet") == 0
    assert "3 were recorded before" not in capsys.readouterr().out

    monkeypatch.setattr(encoded.EncodedPictures, "_encoded", None)
    monkeypatch.setattr(encoded.EncodedTexts, "_run", None)

    class Enough(Exception):
        pass

    def stop(*_):
        raise Enough

    # Pictures and captions are read by then, and teaching itself is tested elsewhere.
    monkeypatch.setattr("kerasdiffusion.training.lessons.courses.told", stop)
    lesson = Lesson(instance_prompt="two cats", resolution=(32,), text_encoders=0.0)
    with pytest.raises(Enough):
        teach(
            folder, tmp_path / "a.safetensors", lesson, encoded=tmp_path / "out/encoded"
        )


def test_a_broken_picture_is_named_and_the_others_encoded(command, folder, capsys):
    (folder / "3.png").write_bytes(b"no")
    assert command("encode", "cats", "--out", "out", *LESSON) == 0
    out = capsys.readouterr().out
    assert "Left out: " in out and "3.png" in out and "Encoded 3 rows" in out


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_table_is_encoded_and_found_by_teach(
    command, folder, tmp_path, capsys, monkeypatch, kind
):
    """Pictures wherever they are; two that a table cannot name."""
    rows = [{"image": f"cats/{i}.png", "caption": f"two cats {i}"} for i in range(3)]
    rows.append({"image": str(folder / "none.png"), "caption": "no cat"})
    table = tmp_path / f"table.{kind}"
    if kind == "csv":
        lines = ["image,caption", *(",".join(each.values()) for each in rows)]
        table.write_text("\n".join(lines), "utf-8-sig")
    elif kind == "jsonl":
        table.write_text("\n".join(json.dumps(each) for each in rows))
    else:
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), table)
    how = ("--out", "out", "--resolution", "32")
    assert command("encode", table.name, *how) == 0
    out = capsys.readouterr().out
    assert "Encoded 3 rows" in out and f"{table.name} names it; it is missing" in out
    names = {each["name"]: each["prompt"] for each in read_index("out")}
    assert names == {f"cats/{i}.png": f"two cats {i}" for i in range(3)}

    made = []
    monkeypatch.setattr(encoded.Kept, "get", kept_or(made, encoded.Kept.get))
    found = read_folder(table)
    assert sorted(each.caption for each in found.pictures) == sorted(names.values())
    assert command("encode", table.name, *how) == 0
    assert not made


def kept_or(made, get):
    """`Kept.get`, which writes down what it would make."""

    def wrapped(self, facts, make):
        return get(self, facts, lambda: made.append(facts) or make())

    return wrapped
