"""Which models and adapters may be named, and which of them are in memory."""

from __future__ import annotations

import difflib
import gc
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kerasdiffusion.adapters import sources
from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.styles import Styles
from kerasdiffusion.presets.named import FILES
from kerasdiffusion.storage.bounds import shown


@dataclass
class Loaded:
    """A model that is there, and what its weights take, in bytes.

    Args:
        model: It.
        bytes: The sum of those of its networks' variables.
        parts: Which networks these were.
    """

    model: object
    bytes: int = 0
    parts: tuple = ()


class Models:
    """The models that may be named, read when they are asked for.

    A name is looked up in what there is, and never becomes part of a path.

    Args:
        presets: Names of presets; the first is what is painted with by default.
        folder: Where others are: files and folders, each by its name.
        adapters: Where adapters are.
        controls: Where networks that follow pictures are.
        most_bytes: What weights may take together; the one that was used the longest
            time ago is given up. `None` for no limit.
        make: Makes a model of a source.
        styles: A file of styles, see `Styles`; `styles.csv` in `folder` by default.

    Attributes:
        styles: The `Styles` that may be named.
    """

    def __init__(
        self,
        presets: Sequence[str] = ("emoji",),
        folder: str | os.PathLike | None = None,
        adapters: str | os.PathLike | None = None,
        controls: str | os.PathLike | None = None,
        most_bytes: int | None = None,
        make: Callable | None = None,
        styles: str | os.PathLike | None = None,
    ):
        self.presets, self.most_bytes = tuple(presets), most_bytes
        self.folder, self.adapters, self.controls = (
            None if each is None else Path(each)
            for each in (folder, adapters, controls)
        )
        self._make = make or _make
        beside = None if self.folder is None else self.folder / "styles.csv"
        self.styles = Styles(styles or beside, must_be=styles is not None)
        self._loaded: dict[str, Loaded] = {}
        self._lock = threading.RLock()
        self.default = self.presets[0]

    def names(self) -> dict[str, str]:
        """Where each model is, by its name."""
        found = {name: name for name in self.presets}
        for path in _inside(self.folder):
            is_model = path.suffix in FILES or (path / "model_index.json").is_file()
            if is_model:
                found.setdefault(_name_of(path), str(path))
        return found

    def find(self, name: str | None) -> str:
        """The name of a model as `names` has it.

        Raises:
            Refused: If there is none, with those that are like it.
        """
        if name is None or name == "":
            return self.default
        known = self.names()
        # What the web UI shows is a title: the file's name, and a hash in brackets.
        for text in (name, _title(name), _stem(_title(name))):
            if text in known:
                return text
        raise _unknown("model", name, known)

    def adapter(self, name: str, known: Mapping[str, Path] | None = None) -> str:
        """The file of an adapter.

        Args:
            name: Its name.
            known: What `adapter_files` has said; looked up by default.

        Raises:
            Refused: If there is none.
        """
        known = self.adapter_files() if known is None else known
        for text in (name, _stem(name)):
            if text in known:
                return str(known[text])
        raise _unknown("adapter", name, known)

    def adapter_files(self) -> dict[str, Path]:
        """The adapters by name, those in folders within the folder too."""
        found = {}
        for path in _inside(self.adapters, deep=True):
            if path.suffix in sources.ENDINGS and path.is_file():
                named = path.name in sources.NAMES
                found.setdefault(path.parent.name if named else path.stem, path)
        return found

    def control(self, name: str) -> str:
        """Where a network is that follows pictures.

        Raises:
            Refused: If there is none.
        """
        known = self.control_files()
        for text in (name, _title(name), _stem(_title(name))):
            if text in known:
                return str(known[text])
        raise _unknown("network to follow a picture", name, known)

    def control_files(self) -> dict[str, Path]:
        """The networks that follow pictures, by name."""
        return {
            _name_of(path): path
            for path in _inside(self.controls)
            if path.suffix in FILES or (path / "config.json").is_file()
        }

    def get(self, name: str):
        """A model, whose weights are read when it paints.

        Raises:
            Refused: If there is none of that name.
        """
        with self._lock:
            if name not in self._loaded:
                known = self.names()
                if name not in known:
                    raise _unknown("model", name, known)
                self._loaded[name] = Loaded(self._make(known[name]))
            return self._loaded[name].model

    def use(self, name: str):
        """A model to paint with now; others leave where there is no room for all."""
        model = self.get(name)
        with self._lock:
            loaded = self._loaded.pop(name)
            self._loaded[name] = loaded  # the latest is the last
            expected = loaded.bytes or self._expected(name)
            self._give_up(expected, name)
        return model

    def used(self, name: str) -> None:
        """A model has painted: what it takes is known."""
        with self._lock:
            loaded = self._loaded.get(name)
            if loaded is None:
                return
            # (Counting takes as long as some small pictures.)
            parts = getattr(loaded.model, "_parts", {})
            there = tuple((part, id(network)) for part, network in dict(parts).items())
            if there != loaded.parts or not there:
                loaded.bytes, loaded.parts = bytes_of(loaded.model), there
            self._give_up(loaded.bytes, name)

    def unload(self, name: str | None = None) -> None:
        """Gives a model up, or all; it is read again when it is asked for."""
        with self._lock:
            for each in [name] if name else list(self._loaded):
                self._loaded.pop(each, None)
        gc.collect()

    def loaded(self) -> Mapping[str, int]:
        """What weights take, in bytes, by the names of models that are there."""
        with self._lock:
            return {name: each.bytes for name, each in self._loaded.items()}

    def without_places(self, message: str) -> str:
        """A message without the names of this machine's folders."""
        for folder in (self.folder, self.adapters, self.controls):
            if folder is not None:
                for each in (folder, folder.resolve()):
                    message = message.replace(f"{each}{os.sep}", "")
        return message

    def _give_up(self, needed: int, name: str) -> None:
        if self.most_bytes is None:
            return
        others = [each for each in self._loaded if each != name]
        taken = sum(self._loaded[each].bytes for each in others)
        for each in others:
            if taken + needed <= self.most_bytes:
                break
            if self._loaded[each].bytes:
                taken -= self._loaded.pop(each).bytes
                gc.collect()

    def _expected(self, name: str) -> int:
        """What a model's files have, in bytes; 0 where that is not known."""
        path = Path(self.names().get(name, name))
        if path.is_file():
            return path.stat().st_size
        if name in self.presets or not path.is_dir():
            return 0
        files = (each for each in path.rglob("*") if each.suffix in FILES)
        return sum(each.stat().st_size for each in files)


def bytes_of(model) -> int:
    """What the weights of a model's networks take that are in memory."""
    parts = getattr(model, "_parts", {})
    return sum(
        _size(variable) for part in dict(parts).values() for variable in part.variables
    )


def _size(variable) -> int:
    count, dtype = 1, str(variable.dtype)
    for side in variable.shape:
        count *= int(side)
    return count * (2 if "16" in dtype else 1 if "8" in dtype else 4)


def _make(source: str):
    from kerasdiffusion.tasks.stable_diffusion import StableDiffusion

    return StableDiffusion(weights=source)


def _inside(folder: Path | None, deep: bool = False) -> list[Path]:
    """What is in a folder and, links followed, stays in it; in order."""
    if folder is None or not folder.is_dir():
        return []
    root = folder.resolve()
    found = []
    for path in sorted(folder.rglob("*") if deep else folder.iterdir()):
        if path.name.startswith("."):
            continue
        try:
            path.resolve(strict=True).relative_to(root)
        except (OSError, ValueError, RuntimeError):
            continue  # a link that leads elsewhere, or nowhere
        found.append(path)
    return found


def _name_of(path: Path) -> str:
    return path.stem if path.suffix in FILES else path.name


def _title(name: str) -> str:
    """A title without its hash."""
    return name.partition(" [")[0]


def _stem(name: str) -> str:
    """A file's name without its ending."""
    stem, ending = os.path.splitext(name)
    return stem if ending in FILES else name


def _unknown(what: str, name: str, known) -> Refused:
    near = difflib.get_close_matches(name[:200], known, 3, 0.4)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    there = ", ".join(list(known)[:20]) or "none"
    return Refused(
        404,
        f"The {what} must be one that this server has ({there}).{hint} "
        f"Received: {shown(name)}",
        what.partition(" ")[0],
    )
