"""Where a model lies: from a source's spelling to a local path.

A model of the Hugging Face hub is fetched once, and found in its cache without a
request afterwards.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from kerasdiffusion.storage.folders import recover
from kerasdiffusion.storage.places import expand_user, refused
from kerasdiffusion.weights.base import BLOCK, WeightsError, read_json
from kerasdiffusion.weights.layout import FOLDERS, KERAS_CV, find_weights

ASSETS = Path(__file__).parent.parent / "assets"
HUB = re.compile(r"hf://([\w.-]+/[\w.-]+?)(/[^@]+)?(?:@([^@\s]+))?")
SMALL = re.compile(
    r"(model_index|kerasdiffusion)\.json|(unet|vae|text_encoder(_2)?)/config\.json"
    r"|(low_res_)?scheduler/scheduler_config\.json|tokenizer(_2)?/[\w.-]+\.(json|txt)"
)
MARKS = ("model_index.json", *KERAS_CV.values(), "config.json")
CLIENTS = {"httpx", "httpx2", "requests", "urllib3"}
SINGLE = (".safetensors", ".ckpt", ".bin", ".pt", ".pth", ".h5")


def resolve(
    source: str | os.PathLike,
    *,
    variant: str | None = None,
    configs_only: bool = False,
    parts: Sequence[str] | None = None,
) -> Path:
    """The local path of a source, after fetching what it needs.

    Of a model on the hub, the configurations and one precision of the weights are
    fetched, safetensors if there are any, with a progress bar. A broken connection is
    resumed, and files are checked against the hub's sums.

    Args:
        source: A local folder or file; `hf://owner/name`, a model or a network alone,
            where `@revision` and a file (`hf://owner/name/file.safetensors`) may
            follow; or `asset://name`, a model in the package.
        variant: Which of several precisions is wanted (`"fp16"`, ...); the plain files
            by default, else what there is.
        configs_only: Whether the weights can stay where they are.
        parts: Whose weights are wanted, of `layout.PARTS`; all by default.

    Returns:
        The path of a folder or a file.

    Raises:
        WeightsError: If the source does not exist, is misspelt, may not be read or
            cannot be reached; the message says what to do.

    Example:

    >>> resolve("hf://CompVis/stable-diffusion-v1-4", variant="fp16")
    """
    text = os.fspath(source)
    if text.startswith("asset://"):
        return _asset(text)
    if "://" not in text:
        path = _local(text)
        if path.exists():
            return path
        hint = ""
        if re.fullmatch(r"[\w.-]+/[\w.-]+", text):
            hint = f" For a model on the Hugging Face hub write hf://{text}."
        raise WeightsError(f"There is no such file or folder.{hint} Received: {text!r}")
    match = HUB.fullmatch(text)
    if match is None or not all(part.strip(".-") for part in match[1].split("/")):
        raise WeightsError(
            f"A source is a local path, hf://owner/name (@revision and /file may "
            f"follow), or asset://name. Received: {text!r}"
        )
    repository, file, revision = match.groups()
    if {"..", "."} & set((file or "").split("/")):
        raise WeightsError(
            f"A file of the hub is named from the repository's top, without `..`. "
            f"Received: {text!r}"
        )
    return _Fetch(repository, revision, variant, configs_only, parts).run(file)


def resolve_file(source: str, names: Sequence[str], beside: str = "") -> Path:
    """The local path of a file on the hub, one of several names.

    Args:
        source: `hf://owner/name`, where `@revision` and a file may follow.
        names: What the file may be called, the best first; else the only
            `.safetensors` of the repository.
        beside: A file that is fetched too, where there is one.

    Returns:
        The path of the file.

    Raises:
        WeightsError: As `resolve`; or if there is no such file.
    """
    match = HUB.fullmatch(source)
    if match is None or match[2]:
        return resolve(source)
    repository, _, revision = match.groups()
    return _Fetch(repository, revision, None, False).one_of(names, beside)


def _local(text: str) -> Path:
    """A local path, where a save that was killed has put back what it moved away."""
    try:
        path = expand_user(text)
        if not path.exists():
            recover(path)
    except (ValueError, OSError) as error:
        raise WeightsError(refused(text, error)) from error
    return path


def _asset(text: str) -> Path:
    name = text.removeprefix("asset://")
    there = sorted(path.parent.name for path in ASSETS.glob("*/model_index.json"))
    if name not in there:
        raise WeightsError(
            f"The models in the package are {', '.join(there) or 'none'}. "
            f"Received: {text!r}"
        )
    return ASSETS / name


class _Fetch:
    """One model of the hub, fetched as far as the cache lacks it."""

    def __init__(self, repository, revision, variant, configs_only, parts=None):
        self.repository, self.revision = repository, revision
        self.variant, self.configs_only = variant, configs_only
        self.parts = FOLDERS if parts is None else parts
        self.name = f"hf://{repository}" + (f"@{revision}" if revision else "")

    def run(self, file: str | None) -> Path:
        file = file and file.strip("/")
        folder = self._cached([file] if file else MARKS)
        if folder and (file or self._is_complete(folder)):
            return folder / file if file else folder
        files = self._list()
        if file:
            if file not in files:
                self._refuse("has no such file", f"{self.name}/{file}")
            return self._download([file], files) / file
        if "model_index.json" not in files:
            alone = self._alone(files.__contains__)
            return self._download(alone or self._loose(files), files)
        # Weights come last: where they are whole, so is the rest.
        small = [name for name in files if SMALL.fullmatch(name)]
        weights = [] if self.configs_only else self._weights(files)
        indices = [name for name in weights if name.endswith(".json")]
        folder = self._download(small + indices, files)
        for index in indices:
            weights += self._shards(folder / index, index)
        return self._download(weights, files) if weights else folder

    def one_of(self, names: Sequence[str], beside: str) -> Path:
        """The first file of these names, or the only one of weights."""
        for name in names:
            folder = self._cached([name])
            if folder:
                return folder / name
        files = self._list()
        found = [name for name in names if name in files]
        single = [name for name in files if name.endswith(".safetensors")]
        if not found and len(single) != 1:
            self._refuse(
                f"has none of {', '.join(names[:2])}. One of its files can be read by "
                f"its name, {self.name}/FILE: {', '.join(single[:8]) or 'none'}",
                self.name,
            )
        name = (found or single)[0]
        wanted = [name, *([beside] if beside in files else [])]
        return self._download(wanted, files) / name

    def _weights(self, files) -> list[str]:
        """The weights file of each part, by what the hub lists."""
        found = []
        for part, (root, _) in self._needed(files).items():
            name = find_weights(files.__contains__, part, self.variant, f"{root}/")
            if name is None:
                wanted = f" of variant {self.variant!r}" if self.variant else ""
                self._refuse(f"has no weights{wanted} in {root}/", self.name)
            found.append(name)
        return sorted(set(found))

    def _alone(self, is_file) -> list[str] | None:
        """The files of a network by itself, if that is all there is: a ControlNet."""
        weights = find_weights(is_file, "diffusion_model", self.variant)
        if not is_file("config.json") or not (weights or self.configs_only):
            return None
        return ["config.json", *([] if self.configs_only else [weights])]

    def _loose(self, files) -> list[str]:
        """KerasCV's files; other single files have to be named."""
        found = [name for name in KERAS_CV.values() if name in files]
        if not found:
            single = [name for name in files if name.endswith(SINGLE)]
            self._refuse(
                "has no model_index.json. One of its files can be read by its name, "
                f"{self.name}/FILE: {', '.join(single[:8]) or 'but there are none'}",
                self.name,
            )
        return found

    def _shards(self, path: Path, index: str) -> list[str]:
        weight_map = read_json(path).get("weight_map")
        names = set(weight_map.values()) if isinstance(weight_map, dict) else set()
        root = index.rpartition("/")[0]
        return sorted(f"{root}/{name}" for name in names)

    def _is_complete(self, folder: Path) -> bool:
        """Whether the cache holds all that `run` would fetch."""
        if not (folder / "model_index.json").is_file():
            if self._alone(lambda name: (folder / name).is_file()):
                return True
            return all((folder / name).is_file() for name in KERAS_CV.values())
        needed = self._needed(
            [
                f"{root}/config.json"
                for root, _ in FOLDERS.values()
                if (folder / root / "config.json").is_file()
            ]
        )
        if self.configs_only:
            configs = [f"{root}/config.json" for root, _ in needed.values()]
            tokenizers = [
                f"{root.replace('text_encoder', 'tokenizer')}/tokenizer_config.json"
                for part, (root, _) in needed.items()
                if part.startswith("text_encoder")
            ]
            names = [*configs, *tokenizers, "scheduler/scheduler_config.json"]
            return all((folder / name).is_file() for name in names)
        for part, (root, _) in needed.items():
            name = find_weights(
                lambda name: (folder / name).is_file(), part, self.variant, f"{root}/"
            )
            if name is None:
                return False
            if name.endswith(".json") and not all(
                (folder / shard).is_file()
                for shard in self._shards(folder / name, name)
            ):
                return False
        return True

    def _needed(self, files) -> dict:
        """The parts that are wanted of a model with these files.

        It may have one or two text encoders.
        """
        second = "text_encoder_2/config.json" in files
        first = "text_encoder/config.json" in files or not second
        there = {"text_encoder": first, "text_encoder_2": second}
        return {
            part: place
            for part, place in FOLDERS.items()
            if part in self.parts and there.get(part, True)
        }

    def _list(self) -> dict[str, str | None]:
        """The repository's files, each with its SHA-256 where the hub knows it."""
        import huggingface_hub

        with _Errors(self.name, self.repository):
            info = huggingface_hub.HfApi().model_info(
                self.repository, revision=self.revision, files_metadata=True
            )
        return {
            sibling.rfilename: sibling.lfs.sha256 if sibling.lfs else None
            for sibling in info.siblings or []
        }

    def _cached(self, names) -> Path | None:
        """The snapshot in the cache that holds one of the files."""
        from huggingface_hub import try_to_load_from_cache

        for name in names:
            path = try_to_load_from_cache(self.repository, name, revision=self.revision)
            if isinstance(path, str):
                return Path(path).parents[name.count("/")]
        return None

    def _download(self, names: list[str], files: dict[str, str | None]) -> Path:
        """Fetch files and check those that were not in the cache before."""
        import huggingface_hub

        new = [name for name in names if not self._cached([name])]
        with _Errors(self.name, self.repository):
            folder = Path(
                huggingface_hub.snapshot_download(
                    self.repository,
                    revision=self.revision,
                    allow_patterns=names,
                    library_name="kerasdiffusion",
                )
            )
        for name in new:
            path, wanted = folder / name, files.get(name)
            if not path.is_file():
                self._refuse(f"did not deliver {name}", self.name)
            if wanted and _sha256(path) != wanted:
                path.resolve().unlink()
                path.unlink(missing_ok=True)
                self._refuse(
                    f"delivered a damaged {name}: its SHA-256 is not {wanted}. It was "
                    f"removed; try again",
                    self.name,
                )
        return folder

    def _refuse(self, what: str, received: str):
        raise WeightsError(
            f"The repository on the Hugging Face hub {what}. Received: {received!r}"
        )


class _Errors:
    """Turns the hub's errors into one that says what to do."""

    def __init__(self, name: str, repository: str):
        self.name, self.repository = name, repository

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback) -> bool:
        if error is None or isinstance(error, WeightsError):
            return False
        what = self._explain(error)
        if what is None:
            return False
        raise WeightsError(f"{what} Received: {self.name!r}") from error

    def _explain(self, error) -> str | None:
        from huggingface_hub import errors

        page = f"https://huggingface.co/{self.repository}"
        if isinstance(error, errors.GatedRepoError):
            return (
                f"The model is gated: accept its terms at {page}, then log in with "
                f"`hf auth login` or set HF_TOKEN."
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return "The model on the Hugging Face hub has no such revision."
        if isinstance(error, errors.RepositoryNotFoundError):
            return (
                "There is no such model on the Hugging Face hub, or it is private: "
                "check the spelling, or log in with `hf auth login`."
            )
        if isinstance(error, errors.HFValidationError):
            return f"The name of a model on the Hugging Face hub is wrong ({error})."
        if isinstance(error, errors.OfflineModeIsEnabled):
            return (
                "The model is not in the cache, and HF_HUB_OFFLINE forbids to fetch "
                f"it: unset it once, or copy the model from {page} and pass its folder."
            )
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            return (
                f"The hub does not let you read the model (HTTP {status}): log in with "
                f"`hf auth login` or set HF_TOKEN."
            )
        if _is_network_error(error):
            return (
                f"The model is not in the cache and could not be fetched "
                f"({type(error).__name__}: {error}): check the connection and try "
                f"again, whole files are kept; or copy it from {page} and pass its "
                f"folder."
            )
        return None


def _is_network_error(error: BaseException) -> bool:
    """Whether a transfer failed: requests' errors are OSErrors, httpx's are not."""
    modules = {kind.__module__.split(".")[0] for kind in type(error).__mro__}
    return isinstance(error, OSError) or bool(modules & CLIENTS)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
