import json

import numpy as np
import pytest
from PIL import Image

from kerasdiffusion.datasets import FolderDataset
from kerasdiffusion.datasets.folder import read_square


def save(file, color, size=(40, 30)):
    Image.new("RGB", size, color).save(file)


@pytest.fixture
def folder(tmp_path):
    for name, color in (("a", "red"), ("b", "green"), ("c", "blue")):
        save(tmp_path / f"{name}.png", color)
        (tmp_path / f"{name}.txt").write_text(f"all {color}\n")
    return tmp_path


def test_captions_from_text_files(folder):
    data = FolderDataset(folder, image_size=16, seed=None)
    images, captions, files = data.batch(0, 4)
    assert images.shape == (4, 16, 16, 3) and images.dtype == np.uint8
    assert captions == ["all red", "all green", "all blue", "all red"]
    assert [file.name for file in files] == ["a.png", "b.png", "c.png", "a.png"]
    assert (images[0] == (255, 0, 0)).all()


def test_each_pass_shows_each_picture_once_in_its_own_order(folder):
    for name in "defghij":
        save(folder / f"{name}.png", "grey")
    data = FolderDataset(folder, 16, caption="grey")
    passes = [data.batch(start, 10)[1:] for start in (0, 10, 20)]
    for _, files in passes:
        assert sorted(files) == data.files
    assert len({tuple(files) for _, files in passes}) == 3
    assert FolderDataset(folder, 16, caption="grey").batch(4, 10)[2] == (
        passes[0][1][4:] + passes[1][1][:4]
    )


@pytest.mark.parametrize("column", ["text", "caption"])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_captions_from_metadata(folder, kind, column):
    rows = [("a.png", "first, of all"), ("sub/d.png", "last")]
    (folder / "sub").mkdir()
    save(folder / "sub" / "d.png", "white")
    if kind == "jsonl":
        lines = [json.dumps({"file_name": f, column: text}) for f, text in rows]
    else:
        lines = [f"file_name,{column}", *(f'{f},"{text}"' for f, text in rows)]
    (folder / f"metadata.{kind}").write_text("\n".join(lines) + "\n")
    data = FolderDataset(folder, 16)
    assert data.captions == ["first, of all", "last"]
    assert data.files[1] == folder / "sub/d.png"


def test_the_middle_square_is_kept(tmp_path):
    wide = Image.new("RGB", (90, 30), "red")
    wide.paste("blue", (30, 0, 60, 30))
    wide.save(tmp_path / "wide.png")
    square = read_square(tmp_path / "wide.png", 16)
    assert (square[:, 4:-4] == (0, 0, 255)).all()


def test_exif_turns_the_picture(tmp_path):
    picture = Image.new("RGB", (32, 32), "red")
    picture.paste("blue", (0, 0, 32, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera on its side: turn clockwise
    picture.save(tmp_path / "turned.png", exif=exif)
    square = read_square(tmp_path / "turned.png", 32)
    assert (square[:, -1] == (0, 0, 255)).all() and (square[:, 0] == (255, 0, 0)).all()


def test_unusual_modes(tmp_path):
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_square(tmp_path / "clear.png", 16) == 255).all()
    deep = np.full((20, 20), 0x8000, np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert (read_square(tmp_path / "deep.png", 16) == 128).all()
    Image.new("P", (20, 20), 0).save(tmp_path / "palette.gif")
    assert read_square(tmp_path / "palette.gif", 16).shape == (16, 16, 3)


def test_errors(folder, tmp_path_factory):
    with pytest.raises(FileNotFoundError, match="folder of pictures. Received: .*none"):
        FolderDataset(folder / "none")
    with pytest.raises(ValueError, match="must hold pictures"):
        FolderDataset(tmp_path_factory.mktemp("empty"))
    with pytest.raises(ValueError, match="`image_size` .*Received: 0"):
        FolderDataset(folder, 0)
    (folder / "b.txt").unlink()
    with pytest.raises(ValueError, match="needs a caption.*Received: 1 .*b.png"):
        FolderDataset(folder)
    assert FolderDataset(folder, caption="green").captions[1] == "green"
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:60])
    with pytest.raises(ValueError, match="can be read.*Received: .*b.png"):
        FolderDataset(folder, 16, caption="green").batch(0, 3)


def test_where_a_table_says_nothing_the_text_beside_counts(folder):
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png"}')
    data = FolderDataset(folder)
    assert (data.files, data.captions) == ([folder / "a.png"], ["all red"])


@pytest.mark.parametrize(
    "line, error, message",
    [
        ('{"file_name": "z.png", "text": "z"}', FileNotFoundError, "'z.png'"),
        ('{"file_name": "../z.png", "text": "z"}', ValueError, "its folder alone"),
        ('{"text": "z"}', ValueError, "`file_name`.*line 1"),
        ("not json", ValueError, "one JSON object a line"),
    ],
)
def test_metadata_that_does_not_fit_is_told(folder, line, error, message):
    (folder / "metadata.jsonl").write_text(line + "\n")
    with pytest.raises(error, match=message):
        FolderDataset(folder)
