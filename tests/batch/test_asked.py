"""From a row to a request: columns, constants, names, seeds, sizes, errors."""

import numpy as np
import pytest
from PIL import Image

from kerasdiffusion.batch.asked import (
    Asking,
    Broken,
    check_columns,
    check_names,
    name_of,
)
from kerasdiffusion.batch.grouping import grouped
from kerasdiffusion.batch.painter import Keyed
from kerasdiffusion.batch.rows import read_rows
from kerasdiffusion.requests.request import Request
from tests.batch.stand_in import StandIn


def asking(**how):
    def keyed(size):
        return Keyed({"weights": "none"}, size)

    return Asking(keyed, StandIn().likeness, (8, 8), **how)


def items(rows, **how):
    return list(asking(**how).items(read_rows(rows)))


def item(**row):
    (found,) = items([row])
    return found


def table(tmp_path, text):
    (tmp_path / "rows.csv").write_text(text, "utf-8")
    return tmp_path / "rows.csv"


def test_a_row_is_its_request_and_its_key_that_requests(tmp_path):
    text = 'name,prompt,seed,steps,guidance_interval,size\na,two cats,7,3,"1,5",16x8\n'
    (found,) = items(table(tmp_path, text))
    wanted = Request(
        task="text_to_image",
        prompt="two cats",
        seed=7,
        num_steps=3,
        guidance_interval=(1, 5),
    )
    assert found.request == wanted and found.size == (8, 16) and found.name == "a"
    assert found.key == wanted.key({"weights": "none", "size": "16x8"})


def test_a_row_counts_more_than_constants_and_an_open_cell_less(tmp_path):
    path = table(tmp_path, "prompt,steps\na cat,3\na dog,\n")
    found = items(
        path, constants={"num_steps": 9, "sampler": "euler", "size": (16, 16)}
    )
    assert [each.request.num_steps for each in found] == [3, 9]
    assert {each.request.sampler for each in found} == {"euler"}
    assert {each.size for each in found} == {(16, 16)}


def test_names_and_seeds_are_the_same_each_time():
    one, two = (items([{"prompt": "a"}, {"prompt": "b", "name": 5.0}]) for _ in "12")
    assert [each.name for each in one] == ["00000000", "5"]
    assert one == two and one[0].request.seed != one[1].request.seed


def test_changed_settings_and_another_model_make_new_keys():
    row = {"name": "a", "prompt": "a cat"}
    other = Asking(lambda size: Keyed({"w": "other"}, size), StandIn().likeness, (8, 8))
    keys = {
        item(**row).key,
        item(name="a", prompt="a cat", steps=5).key,
        item(name="a", prompt="a cat", width=16, height=8).key,
        items([row], constants={"eta": 0.5})[0].key,
        next(other.items(read_rows([row]))).key,
    }
    assert len(keys) == 5


def test_whole_numbers_of_tables_with_gaps():
    found = item(prompt="a", seed=7.0, steps=3.0, size=16.0)
    assert (found.request.seed, found.request.num_steps, found.size) == (7, 3, (16, 16))
    assert "must be a whole number" in item(prompt="a", seed=2.0**60).error
    assert "must be a whole number" in item(prompt="a", steps=2.5).error


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "`text_to_image` must have `prompt`. Received: none"),
        ({"prompt": 5}, "`prompt` must be a string"),
        ({"prompt": float("nan")}, "must have `prompt`"),
        ({"prompt": b"a"}, "`prompt` must be a string"),
        ({"prompt": "a", "size": 500}, "multiples of 8. Received: (500, 500)"),
        ({"prompt": "a", "size": "big"}, "must be N or WIDTHxHEIGHT"),
        ({"prompt": "a", "width": 8}, "must have `size`, or `width` and `height`"),
        ({"prompt": "a", "steps": 0}, "`num_steps` must be a whole number from 1"),
        ({"prompt": "a", "task": "paint"}, "`task` must be one of"),
        ({"prompt": "a", "promt": "b"}, "Did you mean prompt"),
        ({"prompt": "a", "steps": 1, "num_steps": 1}, "must be given once"),
        ({"prompt": "a", "task": "image_to_image", "image": "no.png"}, "no.png"),
        ({"prompt": "a", "task": "image_to_image", "image": b"no"}, "a picture that"),
    ],
)
def test_a_broken_row_says_why_and_the_next_is_well(row, message):
    broken, well = items([{"name": "a", **row}, {"prompt": "b"}])
    assert isinstance(broken, Broken) and message in broken.error, broken
    assert well.request.prompt == "b"
    assert item(name="a", **row).key == broken.key != item(name="a", prompt=6).key


def test_pictures_are_beside_their_table_or_in_it(tmp_path):
    image = Image.fromarray(np.full((16, 24, 3), 9, "uint8"))
    image.save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    path = table(tmp_path, "task,prompt,image\nimage_to_image,a,a.png\n")
    (beside,) = items(path)
    assert beside.request.image == str(tmp_path / "a.png")
    for value in (content, {"bytes": content, "path": None}, image, np.asarray(image)):
        found = item(prompt="a", task="image_to_image", image=value)
        assert np.array_equal(np.asarray(found.request.image), np.asarray(image))


def test_columns_are_looked_at_ahead(tmp_path):
    def check(text, keep=(), constants=None):
        check_columns(
            read_rows(table(tmp_path, text)), constants or {}, "text_to_image", keep
        )

    check("prompt,id\n", keep=["id"])
    check("seed\n", constants={"prompt": "a cat"})
    with pytest.raises(ValueError, match="must have a column `prompt`. Received: seed"):
        check("seed\n")
    with pytest.raises(ValueError, match="Did you mean prompt .* Received: 'promt'"):
        check("prompt,promt\n")
    with pytest.raises(ValueError, match="kept must be there. Received: 'id'"):
        check("prompt\n", keep=["id"])


def test_two_rows_of_one_name_are_an_error(tmp_path):
    path = table(tmp_path, "name,prompt\na,a cat\nb,a dog\na,a cow\n")
    with pytest.raises(
        ValueError, match="a name of its own.*Received: 'a' again.*row 2"
    ):
        check_names(read_rows(path))
    once = read_rows({"name": "a", "prompt": each} for each in "ab")
    check_names(once)
    found = asking().items(once)
    assert next(found).name == "a"
    with pytest.raises(ValueError, match="Received: 'a' again"):
        next(found)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a" * 501])
def test_odd_names_are_refused(name):
    with pytest.raises(ValueError, match="A name must be 1 to 500 printable"):
        name_of({"name": name}, 3)


def test_what_goes_along_is_what_json_has():
    rows = [{"prompt": "a", "id": np.int64(5), "tags": ("x", float("inf"))}]
    (found,) = items(rows, keep=["id", "tags"])
    assert found.kept == {"id": 5, "tags": ["x", "inf"]}


def test_batches_are_full_and_of_one_likeness():
    rows = [{"prompt": "a", "size": 8 * (1 + i % 3)} for i in range(10)]
    found = list(grouped(items(rows), 2))
    assert sorted(map(len, found)) == [1, 1, 2, 2, 2, 2]
    assert all(len({each.size for each in one}) == 1 for one in found)
    sizes = [each.size for one in grouped(items(rows), 2, ahead=1) for each in one]
    assert len(sizes) == 10
