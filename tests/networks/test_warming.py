"""Programs that are compiled ahead of the first picture."""

import numpy as np
import pytest

from kerasdiffusion.sampling import loop
from tests.tiny import TEXTS, TINY_SDXL, tiny_model

SETTINGS = {"num_steps": 3, "seed": 1, "progress_bar": False}
GREY = np.full((48, 32, 3), 128, np.uint8)
MASK = np.eye(48, 32) > 0


@pytest.mark.every_backend
def test_a_first_picture_compiles_nothing(tiny):
    model = tiny_model()
    model.warm_up(batch_sizes=(1, 2))
    before = model.traces
    assert sorted(before) == ["decode", "denoise", "encode"]
    found = model.text_to_image(TEXTS[0], **SETTINGS)
    model.text_to_image(list(TEXTS[:2]), sampler="euler_ancestral", **SETTINGS)
    model.text_to_image(TEXTS[0], batch_size=2, **SETTINGS)
    assert model.traces == before
    assert (tiny.text_to_image(TEXTS[0], **SETTINGS) == found).all()


@pytest.mark.every_backend_at_length
def test_nor_does_one_of_another_size_or_task():
    model = tiny_model()
    model.warm_up([(48, 32)], tasks=["image_to_image", "inpaint"])
    before = model.traces
    model.image_to_image(GREY, TEXTS[0], strength=0.7, **SETTINGS)
    model.inpaint(GREY, MASK, TEXTS[0], **SETTINGS)
    assert model.traces == before


@pytest.mark.heavy  # the others compile ahead of a first picture too
def test_it_paints_nothing(monkeypatch):
    model, rows = tiny_model(config=TINY_SDXL), []
    without_rows = loop.without_rows

    def watched(*args):
        rows.append(args[-3:-1])
        return without_rows(*args)

    monkeypatch.setattr(loop, "without_rows", watched)
    model.warm_up([(32, 32), (48, 32)], tasks="text_to_image", num_steps=4)
    assert len(rows) >= 2
    before = model.traces
    model.text_to_image(TEXTS[0], **SETTINGS)
    assert model.traces == before


def test_what_it_is_told():
    model = tiny_model()
    with pytest.raises(ValueError, match="`tasks` must be of text_to_image.*'walk'"):
        model.warm_up(tasks=["walk"])
    with pytest.raises(ValueError, match="multiple of|batch_size"):
        model.warm_up(batch_sizes=[0])
    with pytest.raises(TypeError, match="colour"):
        model.warm_up(colour="red")
