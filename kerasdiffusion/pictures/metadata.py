"""The texts that a picture file carries, and what they say of how it was made.

| program | file | where |
| --- | --- | --- |
| AUTOMATIC1111's web UI and its kin | PNG | `parameters` |
| the same | JPEG, WebP | EXIF `UserComment` |
| the same, NovelAI | PNG | the last bits of alpha or of the colours ("stealth") |
| SwarmUI, Fooocus | PNG, JPEG, WebP | JSON in the same places |
| ComfyUI | PNG, WebP | `prompt`; EXIF `Model` of a WebP |
| InvokeAI | PNG | `invokeai_metadata`, `sd-metadata`, `Dream` |
| NovelAI | PNG | `Comment`, with `Software` |
| Draw Things | PNG | XMP, `exif:UserComment` |
| Easy Diffusion | PNG, JPEG | a chunk each; JSON in `UserComment` |
| this library's walks, the web UI's AnimateDiff | GIF, MP4 | the file's comment |
"""

from __future__ import annotations

import html
import os
import re
import zlib
from collections.abc import Mapping

import numpy as np

from kerasdiffusion.pictures.comfy_parameters import parse_graph
from kerasdiffusion.pictures.comments import read_comment
from kerasdiffusion.pictures.formats import open_image
from kerasdiffusion.pictures.generation_parameters import parse_parameters
from kerasdiffusion.pictures.other_programs import (
    PROGRAMS,
    dream,
    easy,
    invoke,
    invoke_2,
    novel,
)
from kerasdiffusion.storage.bounds import BOUNDS, check_bound
from kerasdiffusion.storage.reading import parse_json

_EXIF, _USER_COMMENT = 0x8769, 0x9286
# Tags of EXIF that programs write texts to, by the names that the table has.
_TAGS = {
    0x010E: "ImageDescription",
    0x010F: "Make",
    0x0110: "Model",
    0x0131: "Software",
}
_TAGS |= {_USER_COMMENT: "UserComment", 0x927C: "MakerNote"}
_XMP_COMMENT = re.compile(
    r"<exif:UserComment>.{0,200}?<rdf:li[^>]{0,100}>(.*?)</rdf:li>", re.S
)
# The marks of texts in the last bits of pixels, all of 15 bytes; whether it is packed.
_STEALTH = {b"pnginfo": False, b"pngcomp": True, b"rgbinfo": False, b"rgbcomp": True}


def read_parameters(path: str | os.PathLike) -> dict:
    """Reads how a picture was made.

    Args:
        path: A PNG, JPEG, WebP, GIF or MP4 file of this library or of a program in this
            module's table.

    Returns:
        The arguments of `format_parameters` as far as they are known, and all else
        under the name that the program gives it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no readable picture, or says nothing that is understood.

    Example:

    ```python
    image = np.zeros((64, 64, 3), "uint8")
    path = save_png(image, "apple.png", {"prompt": "an apple", "seed": 1})
    read_parameters(path)["seed"]  # 1
    ```
    """
    comment = read_comment(path) if os.path.isfile(path) else None
    if comment is None:
        texts, size = open_image(path, lambda image: (texts_of(image), image.size))
    else:
        # What other programs say there is mostly their own name.
        texts = {"parameters": comment} if "Steps: " in comment else {}
    try:
        found = read_texts(texts)
    except ValueError as error:
        raise ValueError(f"{error} ({path})") from None
    if found is None:
        names = ", ".join(sorted(texts)) or "no text"
        raise ValueError(
            "The picture must hold a text chunk `parameters`, or what one of these "
            f"programs writes: {', '.join(PROGRAMS)}. Received: {path}, which has "
            f"{names}"
        )
    is_novel = comment is None and "NovelAI" in str(found.get("version"))
    if is_novel and "width" not in found:
        found["width"], found["height"] = size
    return found


def texts_of(image) -> dict[str, str]:
    """All texts of an opened Pillow image, by name: chunks, EXIF, XMP, hidden bits.

    Args:
        image: Its pixels are read only where nothing stands ahead of them.

    Returns:
        Texts of bounded length.

    Raises:
        ValueError: If there is more text than any known program writes.
    """
    texts = _written(image)
    if image.format == "PNG" and not texts:
        image.load()  # There may be chunks behind the pixels.
        texts = _written(image) or _hidden(np.asarray(image))
    check_bound("picture_text", sum(map(len, texts.values())), "a picture")
    return texts


def _written(image) -> dict[str, str]:
    known = {"parameters", "prompt", "workflow", "Comment", "Software", "Description"}
    known |= {"Title", "Source", "Dream", "sd-metadata", "invokeai_metadata", "seed"}
    if image.format == "PNG":
        texts = {
            name: text
            for name, text in image.info.items()
            if isinstance(text, str) and (name in known or "date" not in name)
        }
    else:
        comment = image.info.get("comment", b"")
        texts = {"comment": _decoded(comment)} if comment else {}
    exif = image.getexif()
    for tags in (exif, exif.get_ifd(_EXIF)):
        for tag, name in _TAGS.items():
            if tag in tags and tags[tag]:
                texts.setdefault(name, _decoded(tags[tag]))
    xmp = image.info.get("XML:com.adobe.xmp") or image.info.get("xmp") or ""
    texts.pop("XML:com.adobe.xmp", None)
    comment = _XMP_COMMENT.search(_decoded(xmp)) if xmp else None
    if comment:
        texts["XMP"] = html.unescape(comment[1])
    # What cameras and editors write is no text about how a picture was made.
    makers = {"Make", "Model", "Software"}
    return texts if set(texts) - makers or "prompt:" in str(texts) else {}


def _decoded(value) -> str:
    """Text of a tag: EXIF's comments begin with the name of their encoding."""
    if not isinstance(value, bytes):
        return str(value)
    start, rest = value[:8], value[8:]
    if start == b"UNICODE\0":
        # Programs write either order, whatever the file's own is: half of the bytes of
        # most texts are 0.
        even, odd = rest[0:2000:2].count(0), rest[1:2000:2].count(0)
        name = "utf-16-be" if even > odd else "utf-16-le" if odd > even else "utf-16"
        return rest.decode(name, errors="replace").strip("\0\ufeff")
    if start in (b"ASCII\0\0\0", bytes(8)):
        value = rest
    return value.decode("utf-8", errors="replace").strip("\0")


def _hidden(pixels: np.ndarray) -> dict[str, str]:
    """The text in the last bits of alpha, or of the colours, column by column."""
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        return {}
    columns = pixels.transpose(1, 0, 2)
    for part in (columns[..., 3:], columns[..., :3]):
        bits = (part.reshape(-1) & 1) if part.size else part.reshape(-1)
        head = np.packbits(bits[: 19 * 8]).tobytes()
        mark = head[8:15]
        if head[:8] != b"stealth_" or mark not in _STEALTH:
            continue
        length = int.from_bytes(head[15:19], "big")
        content = np.packbits(bits[19 * 8 : 19 * 8 + length]).tobytes()
        most = BOUNDS["picture_text"].most
        if _STEALTH[mark]:
            try:
                content = zlib.decompressobj(31).decompress(content, most + 1)
            except zlib.error:
                return {}
        check_bound("picture_text", len(content), "the last bits of a picture")
        return {"stealth": content.decode("utf-8", errors="replace")}
    return {}


def read_texts(texts: Mapping[str, str]) -> dict | None:
    """What a picture's texts say of how it was made.

    Args:
        texts: From `texts_of`.

    Returns:
        Arguments of `format_parameters` and more; `None` if nothing is known.

    Raises:
        ValueError: If a known program's text cannot be read.
    """
    graph = texts.get("prompt") or _prefixed(texts, "prompt:")
    is_graph = bool(graph) and graph.lstrip().startswith("{")
    said = next(
        (
            texts[name]
            for name in ("parameters", "UserComment", "stealth", "XMP")
            if texts.get(name, "").strip()
        ),
        None,
    )
    if is_graph:
        try:
            found = parse_graph(graph)
            if found["prompt"] or said is None:
                return found
        except ValueError:
            if said is None:
                raise
    for name, read in (
        ("invokeai_metadata", lambda text: invoke(_object(text))),
        ("sd-metadata", lambda text: invoke_2(_object(text))),
        ("Dream", dream),
    ):
        if texts.get(name):
            return read(texts[name])
    if "NovelAI" in texts.get("Software", "") and texts.get("Comment"):
        return novel(texts)
    if {"num_inference_steps", "Guidance Scale"} & set(texts):
        return easy(texts)
    if said is None:
        return None
    found = parse_parameters(said)
    if is_graph:
        found["version"] = "ComfyUI"
    return found


def _prefixed(texts: Mapping[str, str], start: str) -> str | None:
    """A text in a tag that belongs to cameras, as ComfyUI's WebP has it."""
    for name in ("Model", "Make", "ImageDescription"):
        if texts.get(name, "").startswith(start):
            return texts[name][len(start) :]
    return None


def _object(text: str) -> dict:
    values = parse_json(text, "a picture's text")
    if not isinstance(values, dict):
        raise ValueError("A picture's JSON must be an object. Received: another")
    return values
