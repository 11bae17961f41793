"""Files that the page hands out: bytes as they were kept, under names for people."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from kerasdiffusion.apps.server.errors import Refused
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

        Raises:
            Refused: If there is no room for it, or it is kept no more.
        """
        folder = self.folder / f"{kept.parent.name}-{kept.stem}"
        seed = text.get("seed", 0)
        name = filename_for(str(text.get("prompt", "")), seed if seed else 0)
        path = folder / name
        with _there_is_room():
            folder.mkdir(mode=0o700, exist_ok=True)
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
        with _there_is_room():
            folder.mkdir(mode=0o700)
            return str(write_whole(folder / name, content))

    def is_inside(self, path: str) -> bool:
        """Whether a path leads into the folder, links followed."""
        try:
            Path(path).resolve().relative_to(self.folder)
        except (OSError, ValueError, RuntimeError):
            return False
        return True


@contextlib.contextmanager
def _there_is_room() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise Refused(404, "The picture is kept no more.") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Refused(507, f"The page cannot write its files: {reason}.") from None
