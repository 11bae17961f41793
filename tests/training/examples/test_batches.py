"""Batches of a folder's pictures: each picture once an epoch, each bucket by itself."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from kerasdiffusion.training.examples.batches import FolderBatches, Sample
from kerasdiffusion.training.examples.buckets import fit
from kerasdiffusion.training.examples.captions import Captions
from kerasdiffusion.training.examples.folders import Picture

SIZES = [(64, 64)] * 5 + [(64, 128)] * 3 + [(128, 64)] * 2


def picture(number, size, **more):
    return Picture(Path(f"{number}.png"), f"picture {number}", size, **more)


def samples(sizes=SIZES, **more):
    pictures = [picture(i, size, **more) for i, size in enumerate(sizes)]
    return [Sample(each, fit(each.size, 64, 16)) for each in pictures]


def latents(picture, fit):
    height, width = fit.bucket
    return np.full((height // 8, width // 8, 4), int(picture.path.stem), "float32")


def texts(text):
    return {"tokens": np.array([int(text.split()[-1]) if text else -1], "int32")}


def make(found=None, batch_size=2, **options):
    found = samples() if found is None else found
    return FolderBatches(found, latents, texts, batch_size, **options)


def seen(data, first, last):
    return Counter(i for number in range(first, last) for i in data.rows(number))


def test_every_picture_once_an_epoch():
    data = make()
    assert data.steps == 3 + 2 + 1
    for epoch in range(3):
        found = seen(data, epoch * data.steps, (epoch + 1) * data.steps)
        assert found == Counter(range(10))


def test_repeats_are_as_often():
    found = samples([(64, 64)] * 2)
    twice = found[1]._replace(picture=picture(1, (64, 64), repeats=3))
    data = make([found[0], twice])
    assert seen(data, 0, data.steps) == Counter({0: 1, 1: 3})


def test_a_batch_is_of_one_bucket_and_always_full():
    data = make()
    for number in range(2 * data.steps):
        batch, rows = data.batch(number), data.rows(number)
        assert len(batch["latents"]) == len(batch["tokens"]) == 2
        assert {data.samples[i].fit.bucket for i in rows} == {
            tuple(8 * side for side in batch["latents"].shape[1:3])
        }
        own = batch["latents"][:, 0, 0, 0].astype("int32")
        assert own.tolist() == batch["tokens"][:, 0].tolist()


def test_what_fills_a_batch_up_weighs_nothing():
    data = make()
    for number in range(data.steps):
        batch, rows = data.batch(number), data.rows(number)
        assert batch["weight"].tolist() == ([1.0, 1.0] if len(rows) == 2 else [2, 0])
    assert "weight" not in make(batch_size=1).batch(0)


def test_a_batch_depends_on_its_number_and_the_seed_alone():
    one, other = make(seed=1), make(seed=1)
    for number in reversed(range(20)):
        assert one.rows(number) == other.rows(number)
    assert [make(seed=2).rows(i) for i in range(20)] != [one.rows(i) for i in range(20)]
    epochs = [[one.rows(e * one.steps + i) for i in range(6)] for e in range(4)]
    assert len({str(each) for each in epochs}) == 4


def test_the_captions_of_a_resumed_run_are_those_of_the_unbroken_one():
    how = Captions(dropout=0.5, seed=1)
    one, other = make(captions=how), make(captions=how)
    told = [one.batch(number)["tokens"].tolist() for number in range(12)]
    assert [-1] in sum(told, []) and told[7] == other.batch(7)["tokens"].tolist()


def test_half_of_the_samples_are_mirrored_where_that_is_asked():
    def sides(**options):
        seen = []
        data = FolderBatches(
            samples(),
            lambda picture, fit: seen.append(fit.mirrored) or latents(picture, fit),
            texts,
            2,
            **options,
        )
        for number in range(40):
            data.batch(number)
        return seen

    found = sides(flip=True)
    assert found == sides(flip=True) and 0.3 < np.mean(found) < 0.7
    assert not any(sides())


def test_as_many_class_pictures_as_others_in_turn():
    found = samples([(64, 64)] * 3)
    found += [
        Sample(picture(10 + i, size, is_class=True), fit(size, 64, 16))
        for i, size in enumerate([(64, 64)] * 4 + [(64, 128)])
    ]
    data = make(found, prior_weight=0.5)
    epochs = [data.epoch_of(epoch) for epoch in range(5)]
    counts = Counter(i for epoch in epochs for rows in epoch for i in rows)
    assert counts == Counter(
        {**dict.fromkeys(range(3), 5), **dict.fromkeys(range(3, 8), 3)}
    )
    number = 0
    for epoch in epochs:
        for rows in epoch:
            assert data.rows(number) == rows
            weight, share = data.batch(number)["weight"], 2 / len(rows)
            expected = [share * (0.5 if i >= 3 else 1.0) for i in rows]
            assert weight.tolist() == expected + [0.0] * (2 - len(rows))
            number += 1
    with pytest.raises(ValueError, match="pictures to teach beside class pictures"):
        make(found[3:])


def test_the_first_two_batches_differ_in_all_that_differs():
    for seed in range(5):
        data = make(seed=seed)
        for epoch in range(3):
            first, second, *_ = data.epoch_of(epoch)
            one, other = (data.samples[rows[0]].fit.bucket for rows in (first, second))
            assert one[0] != other[0] and one[1] != other[1]


def test_size_ids_and_masks(tmp_path):
    from PIL import Image

    Image.new("RGB", (128, 64)).save(tmp_path / "1.png")
    Image.new("L", (128, 64), 255).save(tmp_path / "1.mask.png")
    found = samples([(64, 64), (64, 128)])
    masked = Picture(tmp_path / "1.png", "picture 1", (64, 128))
    masked = Picture(**{**vars(masked), "mask": tmp_path / "1.mask.png"})
    found[1] = Sample(masked, fit(masked.size, 64, 16))
    data = make(found, batch_size=1, size_ids=True)
    for number in range(2):
        batch = data.batch(number)
        assert batch["mask"].shape == (*batch["latents"].shape[:3], 1)
        assert batch["mask"].all()
        (row,) = data.rows(number)
        assert batch["sizes"].tolist() == [list(found[row].fit.size_ids)]


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"prior_weight": -1.0}])
def test_numbers_out_of_range(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received"):
        make(**options)
