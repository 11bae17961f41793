"""Files that the page hands out: bytes as they were kept, under names for people."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from kerasdiffusion.pictures.write import filename_for
from kerasdiffusion.storage.whole import write_whole


class Handed:
    """A folder of what browsers may fetch.

    Args:
        folder: Where; made if it is not there.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder).resolve()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def picture(self, kept: Path, text: Mapping) -> str:
        """A kept picture under a name of its prompt and seed, byte for byte.

        Args:
            kept: `ID/NUMBER.png`.
            text: What its own text says.
        """
        folder = self.folder / f"{kept.parent.name}-{kept.stem}"
        folder.mkdir(mode=0o700, exist_ok=True)
        seed = text.get("seed", 0)
        name = filename_for(str(text.get("prompt", "")), seed if seed else 0)
        path = folder / name
        if not path.exists():
            with contextlib.suppress(FileExistsError):
                try:
                    os.link(kept, path)
                except OSError:  # another disk
                    shutil.copyfile(kept, path)
        return str(path)

    def write(self, content: bytes, name: str) -> str:
        """A file of its own."""
        folder = self.folder / secrets.token_hex(8)
        folder.mkdir(mode=0o700)
        return str(write_whole(folder / name, content))

    def is_inside(self, path: str) -> bool:
        """Whether a path leads into the folder, links followed."""
        try:
            Path(path).resolve().relative_to(self.folder)
        except (OSError, ValueError, RuntimeError):
            return False
        return True
