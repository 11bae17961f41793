"""Where an adapter lies: a file, a folder of PEFT's, the hub, the user's own folder."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from kerasdiffusion.weights import hub
from kerasdiffusion.weights.base import WeightsError

#: Where the folder of adapters is named.
VARIABLE = "KERASDIFFUSION_ADAPTERS"
ENDINGS = (".safetensors", ".pt", ".bin", ".pth", ".ckpt")
#: What a folder of PEFT's or of diffusers' holds.
NAMES = tuple(
    f"{stem}{ending}"
    for stem in ("adapter_model", "pytorch_lora_weights")
    for ending in (".safetensors", ".bin")
)


def find_adapter(source: str | os.PathLike) -> Path:
    """The file of an adapter.

    Args:
        source: A file; a folder that PEFT or diffusers wrote; `hf://owner/name`, where
            a file may follow; or the name, with or without its ending, of a file in
            the folder that `KERASDIFFUSION_ADAPTERS` names.

    Returns:
        The path of a file.

    Raises:
        WeightsError: If there is none.
    """
    text = os.fspath(source)
    if text.startswith("hf://"):
        return _in_folder(hub.resolve_file(text, NAMES, "adapter_config.json"), text)
    path = Path(text).expanduser()
    if path.exists():
        return _in_folder(path, text)
    return by_name(text)


def _in_folder(path: Path, text: str) -> Path:
    if not path.is_dir():
        return path
    for name in NAMES:
        if (path / name).is_file():
            return path / name
    files = [each for each in sorted(path.iterdir()) if each.suffix in ENDINGS]
    if len(files) == 1:
        return files[0]
    there = ", ".join(each.name for each in files[:5]) or "none"
    raise WeightsError(
        f"A folder of an adapter must hold one file of {', '.join(NAMES[:2])}, or one "
        f"weights file at all; it holds: {there}. Received: {text!r}"
    )


def folder() -> Path | None:
    """The folder of adapters, where one is named."""
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser() if named else None


def names() -> dict[str, Path]:
    """The adapters in the folder, by name; those in folders within it too."""
    root, found = folder(), {}
    if root is not None and root.is_dir():
        for path in sorted(root.rglob("*")):
            if path.suffix in ENDINGS and path.is_file():
                name = path.parent.name if path.name in NAMES else path.stem
                found.setdefault(name, path)
    return found


def by_name(text: str) -> Path:
    """The file of a name in the folder of adapters.

    Args:
        text: The name, with or without its ending; never a path.

    Raises:
        WeightsError: If there is none, with those that are like it.
    """
    found = names()
    path = found.get(text) or found.get(Path(text).stem if _is_file_name(text) else "")
    if path is not None and _is_name(text):
        return path
    near = difflib.get_close_matches(text[:200], found, 3, 0.4)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    where = f"in {folder()}" if folder() else f"({VARIABLE} names none)"
    raise WeightsError(
        f"There is no such adapter: no file, no folder, and no name in the folder of "
        f"adapters {where}.{hint} Received: {text!r}"
    )


def _is_name(text: str) -> bool:
    """Whether a text is a name alone, which leads nowhere else."""
    return Path(text).name == text and "\\" not in text and text not in (".", "..")


def _is_file_name(text: str) -> bool:
    return Path(text).suffix in ENDINGS
