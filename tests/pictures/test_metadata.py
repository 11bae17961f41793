"""Where picture files carry texts: chunks, EXIF, XMP and the last bits of pixels."""

import gzip
import json

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from kerasdiffusion.pictures.metadata import read_parameters
from tests.pictures.test_comfy_parameters import PLAIN as GRAPH
from tests.pictures.test_generation_parameters import PLAIN, TEXT
from tests.pictures.test_other_programs import DRAW, NOVEL, SWARM

PICTURE = Image.fromarray(
    np.random.default_rng(0).integers(0, 256, (64, 64, 3), "uint8")
)


def with_exif(path, tag, value, inside=True):
    exif = Image.Exif()
    exif[0x0131] = "a program"  # Pillow writes no EXIF to a PNG without some tag
    (exif.get_ifd(0x8769) if inside else exif)[tag] = value
    PICTURE.save(path, exif=exif)
    return path


def with_chunks(path, **chunks):
    info = PngImagePlugin.PngInfo()
    for name, text in chunks.items():
        info.add_itxt(name.replace("__", ":"), text)
    PICTURE.save(path, pnginfo=info)
    return path


@pytest.mark.parametrize("ending", ["jpg", "webp", "png"])
@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + TEXT.encode("utf-16-be"),
        b"UNICODE\0" + TEXT.encode("utf-16-le"),
        b"ASCII\0\0\0" + TEXT.encode(),
        bytes(8) + TEXT.encode(),
    ],
)
def test_a_comment_in_exif(ending, comment, tmp_path):
    assert (
        read_parameters(with_exif(tmp_path / f"a.{ending}", 0x9286, comment)) == PLAIN
    )


def test_other_scripts_in_exif(tmp_path):
    text = TEXT.replace("a castle", "猫と城")
    for name in ("utf-16-be", "utf-16-le"):
        path = with_exif(tmp_path / "a.jpg", 0x9286, b"UNICODE\0" + text.encode(name))
        assert read_parameters(path) == PLAIN | {"prompt": "猫と城"}


def test_a_text_where_fooocus_has_it(tmp_path):
    """In the first directory of EXIF, and not in the one that comments belong to."""
    path = with_exif(tmp_path / "a.jpg", 0x9286, json.dumps(SWARM), inside=False)
    assert read_parameters(path)["prompt"] == "a cat"


def test_comfys_webp(tmp_path):
    text = "prompt:" + json.dumps(GRAPH)
    path = with_exif(tmp_path / "a.webp", 0x0110, text, inside=False)
    assert read_parameters(path)["prompt"] == "a white horse"


def test_a_camera_is_no_program(tmp_path):
    path = with_exif(tmp_path / "a.jpg", 0x0110, "Canon EOS", inside=False)
    with pytest.raises(ValueError, match="must hold a text chunk.*no text"):
        read_parameters(path)


def test_draw_things_xmp(tmp_path):
    said = json.dumps(DRAW).replace('"', "&quot;")
    xmp = (
        '<x:xmpmeta><exif:UserComment>\n <rdf:Alt>\n  <rdf:li xml:lang="x-default">'
        f"{said}</rdf:li></rdf:Alt></exif:UserComment></x:xmpmeta>"
    )
    path = with_chunks(tmp_path / "a.png", **{"XML:com.adobe.xmp": xmp})
    found = read_parameters(path)
    assert found["prompt"] == "a cat" and found["version"] == "Draw Things"


def test_chunks_behind_the_pixels(tmp_path):
    whole = with_chunks(tmp_path / "a.png", parameters=TEXT).read_bytes()
    start, text = whole.index(b"iTXt") - 4, whole.index(b"IDAT") - 4
    end = whole.index(b"IEND") - 4
    moved = whole[:start] + whole[text:end] + whole[start:text] + whole[end:]
    (tmp_path / "b.png").write_bytes(moved)
    assert read_parameters(tmp_path / "b.png") == PLAIN


@pytest.mark.parametrize("mark", ["pnginfo", "pngcomp", "rgbinfo", "rgbcomp"])
def test_the_last_bits_of_pixels(mark, tmp_path):
    pixels = np.full((64, 64, 4), 255, np.uint8)
    content = TEXT.encode()
    content = gzip.compress(content) if mark.endswith("comp") else content
    head = b"stealth_" + mark.encode() + (len(content) * 8).to_bytes(4, "big")
    bits = np.unpackbits(np.frombuffer(head + content, np.uint8))
    part = pixels[..., 3:] if mark.startswith("png") else pixels[..., :3]
    flat = part.transpose(1, 0, 2).reshape(-1).copy()
    flat[: len(bits)] = flat[: len(bits)] & 0xFE | bits
    part[:] = flat.reshape(64, 64, -1).transpose(1, 0, 2)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_parameters(tmp_path / "a.png") == PLAIN


def test_a_graph_counts_more_than_a_text_beside_it(tmp_path):
    """Nodes that save the web UI's text beside the graph shorten it."""
    path = with_chunks(tmp_path / "a.png", parameters=TEXT, prompt=json.dumps(GRAPH))
    assert read_parameters(path)["prompt"] == "a white horse"
    unknown = {**GRAPH, "6": {"class_type": "Mine", "inputs": {"x": "y"}}}
    path = with_chunks(tmp_path / "b.png", parameters=TEXT, prompt=json.dumps(unknown))
    assert read_parameters(path) == PLAIN | {"version": "ComfyUI"}


def test_novel_ais_chunks_and_its_size(tmp_path):
    comment = {
        key: value for key, value in NOVEL.items() if key not in ("width", "prompt")
    }
    path = with_chunks(
        tmp_path / "a.png",
        Software="NovelAI",
        Description="a cat",
        Comment=json.dumps(comment),
    )
    found = read_parameters(path)
    assert found["prompt"] == "a cat" and found["width"] == 64


def test_texts_of_no_program_are_listed(tmp_path):
    path = with_chunks(tmp_path / "a.png", Title="x", Artist="y")
    with pytest.raises(ValueError, match="which has Artist, Title"):
        read_parameters(path)
