"""Pictures and arrays in JSON: base64 of a PNG, or of numpy's own file."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from typing import Any

from kerasdiffusion.requests.kinds import refuse, shown

#: JSON schema of one.
BINARY = {
    "type": "object",
    "properties": {"png": {"type": "string"}, "npy": {"type": "string"}},
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
}


def is_pil(value) -> bool:
    """Whether it is a PIL image; PIL is loaded by whoever made it."""
    return type(value).__module__.startswith("PIL.")


def to_png(image, name: str) -> dict:
    """JSON of a PIL image."""
    encoded = io.BytesIO()
    try:
        image.save(encoded, format="PNG")
    except OSError as error:
        raise refuse(
            ValueError,
            name,
            "be of a mode that PNG holds to be written, as RGB: convert it, or pass "
            "an array",
            f"mode {image.mode} ({error})",
        ) from None
    return {"png": base64.b64encode(encoded.getvalue()).decode("ascii")}


def to_npy(value) -> dict:
    """JSON of an array or tensor: pictures as PNG, others as numpy's own file."""
    import numpy as np

    array = to_array(value)
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[-1] in (3, 4):
        from PIL import Image

        return to_png(Image.fromarray(array), "picture")
    encoded = io.BytesIO()
    np.save(encoded, array, allow_pickle=False)
    return {"npy": base64.b64encode(encoded.getvalue()).decode("ascii")}


def to_array(value) -> Any:
    """An array or tensor of any backend, as numpy's."""
    import numpy as np

    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    return np.asarray(value)


def read_binary(value, name: str):
    """What `to_png` or `to_npy` wrote, as an array."""
    import numpy as np

    rule = 'be {"png": ...} or {"npy": ...}, in base64'
    if not isinstance(value, Mapping) or len(value) != 1:
        raise refuse(ValueError, name, rule, value)
    ((kind, text),) = value.items()
    if kind not in ("png", "npy") or not isinstance(text, str):
        raise refuse(ValueError, name, rule, value)
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise refuse(ValueError, name, rule, shown(error)) from None
    if kind == "png":
        return _read_png(content, name)
    try:
        stated = _npy_bytes(content)
        if stated != len(content):
            raise ValueError(f"{len(content)} bytes in place of {stated}")
        return np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, TypeError) as error:
        rule = "be an array as numpy saves it"
        raise refuse(ValueError, name, rule, error) from None


def _npy_bytes(content: bytes) -> int:
    """How many bytes an array's file has by its header."""
    import numpy as np

    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version if version in ((1, 0), (2, 0)) else (2, 0)]
    shape, _, dtype = read(file)
    return file.tell() + math.prod(shape) * dtype.itemsize


def _read_png(content: bytes, name: str):
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    from kerasdiffusion.pictures.read import LARGEST

    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if max(image.size) > LARGEST:
                rule = f"have sides of at most {LARGEST} pixels"
                raise refuse(ValueError, name, rule, image.size)
            image.load()
            is_plain = image.mode in ("RGB", "RGBA") and not image.info.get(
                "transparency"
            )
            return np.array(image) if is_plain else image.copy()
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
    ) as error:
        raise refuse(ValueError, name, "be a PNG that Pillow reads", error) from None
