"""Pictures and masks: other formats, sizes that are not there, texts that unpack."""

import io
import os
import struct
import zlib

import numpy as np

from kerasdiffusion.pictures.metadata import read_parameters
from kerasdiffusion.pictures.read import read_masks, read_pictures
from tests.hostile.harness import Collection

CASES = Collection()
CASES.reader("pictures")(read_pictures)
CASES.reader("parameters of pictures")(read_parameters)


@CASES.reader("masks")
def masks(mask):
    return read_masks(mask, (32, 32))


def chunk(kind: bytes, data: bytes) -> bytes:
    return (
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data))
    )


def png(width=32, height=32, pixels=None, *more: bytes, depth=8, color=2) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    if pixels is None:
        pixels = zlib.compress((b"\0" + b"\x80" * 3 * 32) * 32)
    parts = [chunk(b"IHDR", head), *more, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def add(name, content, outcome="refused", file="a.png", reader="pictures", **more):
    def make(folder):
        (folder / file).write_bytes(content() if callable(content) else content)
        return folder / file

    CASES.add(reader, name, make, outcome, **more)


def saved(kind: str, size=(32, 32), mode="RGB", **options):
    def make():
        from PIL import Image

        buffer = io.BytesIO()
        Image.new(mode, size).save(buffer, kind, **options)
        return buffer.getvalue()

    return make


add("a good one", png(), "taken")
add("a good JPEG", saved("JPEG"), "taken", "a.jpg")
add("a good WebP", saved("WEBP"), "taken", "a.webp")
add("nothing", b"")
add("text", b"not a picture")
add("cut short", png()[:60])
add("a size of 2**31", png(2**31 - 1, 2**31 - 1))
add("30,000 pixels on a side", png(30_000, 30_000))
add("one row too many of them", png(32, 8193))
add(
    "as large as pictures may be",
    lambda: png(8192, 8192, zlib.compress(bytes(2**28))),
    "taken",
    mebibytes=1500,
)
add("less pixels than it states", png(4096, 4096, zlib.compress(b"\0" * 99)))
add("pixels that do not unpack", png(32, 32, b"no zlib"))
add("a wrong sum", png().replace(b"IHDR", b"IHDS"))
add("a text of a gigabyte", lambda: png(32, 32, None, _text_bomb()))
add("a profile of garbage", png(32, 32, None, chunk(b"iCCP", b"x\0\0garbage")), "taken")
add(
    "an orientation of garbage",
    png(32, 32, None, chunk(b"eXIf", b"MM\0*" + b"\xff" * 40)),
    "any",  # some versions of Pillow say a word, some none
)
add(
    "a palette beyond its end",
    png(
        32,
        32,
        zlib.compress((b"\0" + b"\xff" * 32) * 32),
        chunk(b"PLTE", b"\0" * 3),
        color=3,
    ),
    "taken",
)
add(
    "PostScript",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\nshowpage\n",
    file="a.eps",
)
add(
    "PostScript with a picture's name",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n",
    file="b.png",
)
add("a PDF", b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n", file="a.pdf")
add(
    "an SVG of entities",
    b'<!DOCTYPE svg [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><svg>&b;</svg>',
    file="a.svg",
)
add(
    "an SVG that fetches",
    b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1:9/x"/></svg>',
    file="c.svg",
)
add("a WMF", b"\xd7\xcd\xc6\x9a" + bytes(99), file="a.wmf")
add("a FITS file", b"SIMPLE  =                    T" + b" " * 2851, file="a.fits")
add("an HDF5 file", b"\x89HDF\r\n\x1a\n" + bytes(99), file="a.hdf")
add("a GRIB file", b"GRIB" + bytes(99), file="a.grib")
add("an MPEG's head", b"\0\0\1\xb3\x20\0\x20" + bytes(99), file="a.mpg")
add("a Photoshop file", b"8BPS\0\1" + bytes(99), file="a.psd")
add("a GIF of nothing", b"GIF89a\x20\0\x20\0\0\0\0;", file="a.gif")
add(
    "a BMP of 2**31",
    b"BM"
    + struct.pack(
        "<IHHIIiiHHIIIIII",
        99,
        0,
        0,
        54,
        40,
        2**31 - 1,
        2**31 - 1,
        1,
        24,
        0,
        0,
        0,
        0,
        0,
        0,
    ),
    file="a.bmp",
)
add("a TIFF in a circle", b"II*\0\x08\0\0\0\0\0\x08\0\0\0" + bytes(20), file="a.tif")
for source in (
    "http://127.0.0.1:9/a.png",
    "file:///etc/hostname",
    "data:image/png;base64,AAAA",
    "",
    "\0",
    "a" * 10**5,
    "|ls",
    "-",
):
    CASES.add("pictures", f"a source {source[:20]!r}", source)
for name, value in {
    "None": None,
    "a number": 7,
    "a dict": {},
    "no pictures": [],
    "a list of lists": [[[]]],
    "of NaN": np.full((32, 32), np.nan),
    "of infinity": np.full((32, 32), np.inf),
    "of objects": np.full((32, 32), None),
    "of text": np.full((32, 32), "x"),
    "of complex numbers": np.zeros((32, 32), "complex64"),
    "five dimensions": np.zeros((1, 1, 32, 32, 3), "uint8"),
    "no sides": np.zeros((0, 32, 3), "uint8"),
    "seven channels": np.zeros((32, 32, 7), "uint8"),
    "10,000 rows": np.zeros((10_000, 32, 3), "uint8"),
    "above one": np.full((32, 32), 1.5),
}.items():
    CASES.add("pictures", name, lambda _, value=value: value)


def nested(_):
    found = np.zeros((32, 32, 3), "uint8")
    for _ in range(10**4):
        found = [found]
    return found


CASES.add("pictures", "a list ten thousand deep", nested)


@CASES.case("pictures", "a list that holds itself")
def _(_):
    found = []
    found.append(found)
    return found


for kind, make in {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
    "a link to itself": lambda path: path.symlink_to(path.name),
}.items():
    for reader in ("pictures", "masks", "parameters of pictures"):

        @CASES.case(reader, kind)
        def _(folder, make=make):
            make(folder / "a.png")
            return folder / "a.png"


add("a good mask", png(), "taken", reader="masks")
add(
    "black everywhere",
    png(pixels=zlib.compress((b"\0" + bytes(96)) * 32)),
    reader="masks",
)
add(
    "another size",
    png(16, 16, zlib.compress((b"\0" + b"\xff" * 48) * 16)),
    reader="masks",
)
for name, value in {
    "of NaN": np.full((32, 32), np.nan),
    "of -1": np.full((32, 32), -1.0),
    "of 256.0": np.full((32, 32), 256.0),
    "black": np.zeros((32, 32), bool),
    "text": "x",
    "another shape": np.ones((31, 32), bool),
    "a dict": {},
}.items():
    CASES.add("masks", name, lambda _, value=value: value)


def _text_bomb() -> bytes:
    pack = zlib.compressobj(9)
    data = b"".join(pack.compress(bytes(2**22)) for _ in range(256)) + pack.flush()
    return chunk(b"zTXt", b"parameters\0\0" + data)


def itxt(text: bytes) -> bytes:
    return chunk(b"iTXt", b"parameters\0\0\0\0\0" + text)


TEXT = "parameters of pictures"
add(
    "a good text",
    png(32, 32, None, itxt(b"a cat\nSteps: 20, Sampler: Euler a, Seed: 1")),
    "taken",
    reader=TEXT,
)
add("a text of a gigabyte", lambda: png(32, 32, None, _text_bomb()), reader=TEXT)
add(
    "a thousand texts",
    png(32, 32, None, *[itxt(b"x" * 9)] * 1000),
    "taken",
    reader=TEXT,
)
add("a text of no UTF-8", png(32, 32, None, itxt(b"\xff\xfe\n")), reader=TEXT)
add("no text", png(), reader=TEXT)
add("a graph of no JSON", png(32, 32, None, chunk(b"tEXt", b"prompt\0{")), reader=TEXT)
add(
    "a graph nested",
    png(32, 32, None, chunk(b"tEXt", b"prompt\0" + b"[" * 10**5)),
    reader=TEXT,
)
add("no PNG", b"x", reader=TEXT)
add(
    "a text of 30 megabytes",
    lambda: png(32, 32, None, itxt(b"a, " * 10**7)),
    reader=TEXT,
)


def gif(*comments: bytes, flags=0, end=b",") -> bytes:
    """A GIF's head, of extensions, up to its first frame."""
    parts = [b"GIF89a\x20\0\x20\0", bytes([flags]), b"\0\0"]
    for comment in comments:
        parts.append(b"\x21\xfe")
        for start in range(0, len(comment), 255):
            block = comment[start : start + 255]
            parts.append(bytes([len(block)]) + block)
        parts.append(b"\0")
    return b"".join([*parts, end])


def box(kind: bytes, content: bytes, size: int | None = None) -> bytes:
    """A box of an MP4, however wrong its size."""
    size = len(content) + 8 if size is None else size
    return size.to_bytes(4, "big") + kind + content


def mp4(text: bytes, kind=1, size=None) -> bytes:
    content = box(b"data", kind.to_bytes(4, "big") + bytes(4) + text, size)
    for name in (b"\xa9cmt", b"ilst"):
        content = box(name, content)
    for name in (b"meta", b"udta", b"moov"):
        content = box(name, bytes(4) * (name == b"meta") + content)
    return HEAD + content


HEAD = box(b"ftyp", b"isom" + bytes(4))
SAID = b"a cat\nSteps: 20, Sampler: Euler a, Seed: 1"
for name, content in {"GIF": gif(SAID), "MP4": mp4(SAID)}.items():
    add(f"a good text in a {name}", content, "taken", f"a.{name}", TEXT)
for name, content in {
    "no text": gif(),
    "another program's name": gif(b"Created with GIMP"),
    "two megabytes": gif(b"x" * 2**21),
    "two megabytes in a thousand": gif(*[b"Steps: " * 300] * 1000),
    "a text without end": gif(SAID, end=b"\x21\xfe\xff" + SAID)[:-60],
    "a palette beyond its end": gif(SAID, flags=0xF7)[:40],
    "its name alone": b"GIF89a",
}.items():
    add(f"a GIF of {name}", content, file="a.gif", reader=TEXT)
    add(f"a GIF of {name}, as a picture", content, file="a.gif")
deep = b""
for _ in range(5000):
    deep = box(b"moov", deep)
for name, content in {
    "no text": HEAD,
    "another kind of text": mp4(SAID, kind=21),
    "two megabytes": mp4(b"x" * 2**21),
    "a million boxes": HEAD + box(b"free", b"") * 10**6,
    "a box without a size": HEAD + box(b"moov", bytes(99), 0),
    "a box smaller than its head": HEAD + box(b"moov", bytes(99), 7),
    "a box larger than the file": HEAD + box(b"moov", bytes(99), 2**32 - 1),
    "a box of 2**64": HEAD + box(b"moov", b"\xff" * 99, 1),
    "a text larger than its box": mp4(SAID, size=2**31),
    "boxes in boxes": HEAD + deep,
    "its name alone": b"\0\0\0\x08ftyp",
    "a number of text": mp4(b"Steps: x, Sampler: \xff\xfe, Seed: -, a: NovelAI"),
}.items():
    outcome = "taken" if name == "a number of text" else "refused"
    add(f"an MP4 of {name}", content, outcome, "a.mp4", TEXT)
