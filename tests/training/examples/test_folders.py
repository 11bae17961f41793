"""A folder of pictures to teach: its forms, and what is left out."""

import json

import numpy as np
import pytest
from PIL import Image

from kerasdiffusion.training.examples.folders import read_folder, read_pixels


def save(file, color="red", size=(40, 30), mode="RGB"):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(file)


def captions(folder, **options):
    found = read_folder(folder, **options).pictures
    return {str(each.path.relative_to(folder)): each.caption for each in found}


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.jpg"):
        save(tmp_path / name)
    return tmp_path


def test_texts_beside_pictures(folder):
    (folder / "a.txt").write_text("a red wall\n")
    (folder / "b.caption").write_text("\ufeffa brick", "utf-8")
    assert captions(folder) == {"a.png": "a red wall", "b.jpg": "a brick"}
    assert read_folder(folder).pictures[0].size == (30, 40)


@pytest.mark.parametrize(
    "name, text",
    [
        ("metadata.jsonl", None),
        ("metadata.csv", 'file_name,caption\na.png,"x, y"\nb.jpg,z\n'),
        ("captions.csv", 'file,caption\na.png,"x, y"\nb.jpg,z\n'),
        ("captions.csv", 'a.png,"x, y"\nb.jpg,z\n'),
    ],
)
def test_tables(folder, name, text):
    rows = [{"file_name": "a.png", "text": "x, y"}, {"file_name": "b.jpg", "text": "z"}]
    (folder / name).write_text(text or "\n".join(map(json.dumps, rows)))
    assert captions(folder) == {"a.png": "x, y", "b.jpg": "z"}


def test_kohyas_folders(tmp_path):
    save(tmp_path / "20_sks dog" / "a.png")
    save(tmp_path / "10_sks cat" / "b.png")
    (tmp_path / "10_sks cat" / "b.txt").write_text("a cat that sleeps")
    pictures = read_folder(tmp_path).pictures
    found = {each.caption: (each.repeats, each.name) for each in pictures}
    assert found == {"sks dog": (2, "sks dog"), "a cat that sleeps": (1, "sks cat")}


def test_one_caption_for_all_that_have_none(folder):
    (folder / "a.txt").write_text("a red wall")
    found = captions(folder, instance_prompt="a photo of sks dog")
    assert found == {"a.png": "a red wall", "b.jpg": "a photo of sks dog"}
    with pytest.raises(ValueError, match="needs a caption.*Received: 1 .*b.jpg"):
        read_folder(folder)


def test_what_differs_is_said(folder):
    (folder / "captions.csv").write_text("a.png,one\nb.jpg,other\n")
    (folder / "a.txt").write_text("two")
    (folder / "b.txt").write_text("other")
    (folder / "c.txt").write_text("of no picture")
    found = read_folder(folder)
    assert found.pictures[0].caption == "one"
    differs, bare = found.notes
    assert "a.png has captions that differ; captions.csv counts, not a.txt" in differs
    assert "c.txt" in bare


def test_broken_pictures_are_named_and_left_out(folder):
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:60])
    (folder / "text.jpg").write_text("no picture")
    save(folder / "small.png", size=(8, 8))
    (folder / "captions.csv").write_text("a.png,a\nb.jpg,b\ngone.png,c\n")
    found = read_folder(folder)
    assert [each.path.name for each in found.pictures] == ["a.png", "b.jpg"]
    left_out = {path.name: reason for path, reason in found.left_out}
    assert set(left_out) == {"cut.png", "text.jpg", "small.png", "gone.png"}
    assert "captions.csv names it; it is missing" in left_out["gone.png"]
    assert "sides must be 16 to" in left_out["small.png"]


def test_a_folder_with_nothing_fit(tmp_path):
    with pytest.raises(ValueError, match="must hold pictures.*which has none"):
        read_folder(tmp_path)
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(ValueError, match="must hold pictures.*a.png: .*that Pillow"):
        read_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="a folder of pictures.*none"):
        read_folder(tmp_path / "none")


def test_masks(folder):
    mask = np.zeros((30, 40), "uint8")
    mask[:, 20:] = 255
    Image.fromarray(mask).save(folder / "a.mask.png")
    found = read_folder(folder, "a wall").pictures
    assert [each.path.name for each in found] == ["a.png", "b.jpg"]
    pixels, learnt = read_pixels(found[0])
    assert pixels.shape == (30, 40, 3)
    assert not learnt[:, :20].any() and learnt[:, 20:].all()
    assert read_pixels(found[1])[1] is None


def test_a_mask_of_another_size_is_said(folder):
    save(folder / "a.mask.png", "white", (20, 20), "L")
    ((path, reason),) = read_folder(folder, "a wall").left_out
    assert path.name == "a.png" and "its mask a.mask.png" in reason
    assert "(30, 40)" in reason


def test_transparency_is_white_or_a_mask(tmp_path):
    layer = np.zeros((32, 32, 4), "uint8")
    layer[8:24, 8:24] = (255, 0, 0, 255)
    Image.fromarray(layer).save(tmp_path / "a.png")
    (picture,) = read_folder(tmp_path, "a square").pictures
    pixels, mask = read_pixels(picture)
    assert (pixels[0, 0] == 255).all() and mask is None
    (picture,) = read_folder(tmp_path, "a square", alpha_mask=True).pictures
    mask = read_pixels(picture)[1]
    assert mask[16, 16] == 1.0 and mask[0, 0] == 0.0


def test_class_pictures(folder):
    found = read_folder(folder, class_prompt="a dog").pictures
    assert all(each.is_class and each.caption == "a dog" for each in found)


def test_photos_are_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", exif=exif)
    assert read_folder(tmp_path, "a photo").pictures[0].size == (40, 30)


@pytest.mark.parametrize(
    "line", ['{"file_name": "../a.png", "text": "x"}', '{"text": "x"}', "no json"]
)
def test_tables_that_cannot_be_read(folder, line):
    (folder / "metadata.jsonl").write_text(line)
    with pytest.raises(ValueError, match=r"metadata.*Received: .*metadata\.jsonl"):
        read_folder(folder)
