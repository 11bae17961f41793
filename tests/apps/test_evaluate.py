"""`kerasdiffusion evaluate`: which figures it prints."""

import numpy as np
import pytest
from PIL import Image

from kerasdiffusion import StableDiffusion
from kerasdiffusion.apps.cli import main
from tests.tiny import tiny_model


@pytest.fixture
def folder(tmp_path):
    """Two pictures with captions."""
    for name, shade in (("cat", 80), ("dog", 160)):
        Image.fromarray(np.full((40, 50, 3), shade, "uint8")).save(
            tmp_path / f"{name}.png"
        )
        (tmp_path / f"{name}.txt").write_text(f"two {name}s")
    return tmp_path


def test_pictures_of_a_folder_are_compared_by_the_fields_figures(
    folder, monkeypatch, capsys
):
    model = tiny_model()
    monkeypatch.setattr(StableDiffusion, "from_preset", lambda *_, **__: model)
    seen = []

    def clip_score(pictures, captions):
        seen.append((pictures.shape, captions))
        return 12.345

    def frechet_distance(pictures, references):
        seen.append(references[:, 0, 0, 0].tolist())
        return 6.789

    for function in (clip_score, frechet_distance):
        name = f"kerasdiffusion.training.judging.metrics.{function.__name__}"
        monkeypatch.setattr(name, function)
    assert main(["evaluate", "--reference", str(folder), "--count", "3"]) == 0
    (shape, captions), shades = seen
    assert shape == (3, model.img_height, model.img_width, 3)
    assert captions == ["two cats", "two dogs", "two cats"]
    assert shades == [80, 160]
    assert capsys.readouterr().out.splitlines() == [
        "3 pictures, 2 references",
        "CLIP score        12.35",
        "Fréchet distance  6.79",
    ]


def test_a_model_of_no_scenes_is_refused(monkeypatch, tmp_path, capsys):
    (tmp_path / "model_index.json").write_text("{}")
    assert main(["evaluate", "--preset", str(tmp_path)]) != 0
    assert "has its recipe beside its weights" in capsys.readouterr().err
