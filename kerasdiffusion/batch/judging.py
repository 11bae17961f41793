"""The pictures of a batch, judged: a few in memory at a time."""

from __future__ import annotations

import functools
import io
import itertools
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from kerasdiffusion.batch.index import read_index
from kerasdiffusion.batch.packing import pictures_of
from kerasdiffusion.batch.spreading import Here
from kerasdiffusion.storage.whole import whole_file

#: Seed of scenes and of the first picture, as `training.judging.evaluate` has it.
SEED = 2000
#: Pictures that are judged at once.
_TOGETHER = 32
_NAME = re.compile(r"(seen|held out|held-out pairs) (\d{6})")


def write_rows(path: str | os.PathLike, scenes, count: int) -> int:
    """What `training.judging.evaluate` paints, as rows of a batch.

    Args:
        path: A new file that ends in `.jsonl`.
        scenes: The model's `SceneConfig`.
        count: Pictures of each set.

    Returns:
        The number of rows.

    Raises:
        FileExistsError: If the file is there.
        ValueError: If it ends otherwise.
    """
    from kerasdiffusion.datasets import SceneDataset
    from kerasdiffusion.training.judging.evaluate import scene_sets

    if Path(path).suffix != ".jsonl":
        raise ValueError(
            f"Rows must go to a file that ends in .jsonl. Received: {path}"
        )
    written = 0
    with whole_file(path) as part, open(part, "x", encoding="utf-8") as file:
        for name, (config, split) in scene_sets(scenes).items():
            data = SceneDataset(config, seed=SEED, split=split)
            for i in range(count):
                row = {"name": f"{name} {i:06d}", "prompt": data.caption(i)}
                row["seed"] = SEED + i
                file.write(json.dumps(row) + "\n")
                written += 1
    return written


def is_of_scenes(out) -> bool:
    """Whether a batch's rows are those of `write_rows`."""
    first = next(read_index(out), None)
    return first is not None and _NAME.fullmatch(first["name"]) is not None


def judge(out, scenes, classifier: Callable, where=None) -> Iterator[str]:
    """What the classifier of scenes says of a batch of `write_rows`.

    Args:
        out: The folder of the batch, or its URL.
        scenes: The model's `SceneConfig`.
        classifier: Gives a model from `training.judging.judge.train_classifier`.
        where: Where it is asked, see `spreading`; here by default.

    Yields:
        Lines of a Markdown table.
    """
    from kerasdiffusion.training.judging.evaluate import scene_sets, scores_of

    yield "| scenes | object | ground | place | all |"
    yield "| --- | --- | --- | --- | --- |"
    work = functools.partial(_answered, out, scenes, classifier)
    shares = (where or Here()).over(work)
    for name in scene_sets(scenes):
        own = [share[name] for share in shares if name in share]
        answers = [sum((list(each[i]) for each in own), []) for i in range(3)]
        if not answers[0]:
            continue
        found = scores_of(answers)
        shown = found.objects, found.grounds, found.places, found.all
        cells = ("" if np.isnan(each) else f"{each:.1%}" for each in shown)
        yield f"| {name}, {len(answers[0])} | {' | '.join(cells)} |"


class Sent:
    """A classifier that other processes are sent, and make again.

    Args:
        classifier: From `training.judging.judge.train_classifier`.
        scenes: What it tells apart.
    """

    def __init__(self, classifier, scenes):
        from kerasdiffusion.training.judging.kept_classifier import save_classifier

        self._own, self._scenes = classifier, scenes
        with tempfile.TemporaryDirectory() as folder:
            save_classifier(classifier, Path(folder) / "sent.safetensors")
            self._content = (Path(folder) / "sent.safetensors").read_bytes()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_own": None}

    def __call__(self):
        """The classifier."""
        from kerasdiffusion.training.judging.kept_classifier import read_classifier

        if self._own is None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "sent.safetensors"
                path.write_bytes(self._content)
                self._own = read_classifier(path, self._scenes)
        return self._own


def _answered(out, scenes, classifier: Callable, share: int, of: int) -> dict:
    """What is said of a share of the pictures of each set."""
    from kerasdiffusion.datasets import SceneDataset
    from kerasdiffusion.training.judging.evaluate import answers, scene_sets

    sets: dict[str, list] = {name: [] for name in scene_sets(scenes)}
    for told, content in pictures_of(out, share, of):
        found = _NAME.fullmatch(told["name"])
        if found and found[1] in sets:
            sets[found[1]].append((int(found[2]), told["prompt"], content))
    model, said = classifier(), {}
    for name, (config, split) in scene_sets(scenes).items():
        shown = sorted(sets[name])
        if not shown:
            continue
        images = np.stack([_decoded(content) for _, _, content in shown])
        data = SceneDataset(config, images.shape[1], seed=SEED, split=split)
        asked = [data.scene(i) for i, _, _ in shown]
        captions = [caption for _, caption, _ in shown]
        said[name] = answers(images, captions, asked, config, model)
    return said


def figures(
    out, reference: str | os.PathLike | None = None, where=None
) -> Iterator[str]:
    """The CLIP score of a batch, and the Fréchet distance to a folder's pictures.

    Args:
        out: The folder of the batch, or its URL.
        reference: The folder; no distance by default.
        where: Where pictures are looked at, see `spreading`; here by default.

    Yields:
        Lines.

    Raises:
        ValueError: If the batch has no pictures.
    """
    from kerasdiffusion.training.judging import metrics

    where = where or Here()
    if next(pictures_of(out), None) is None:
        raise ValueError(f"There must be a batch with pictures. Received: {out}")
    sums = where.over(functools.partial(_clip_sums, out))
    yield f"{sum(count for _, count in sums)} pictures"
    yield f"CLIP score        {metrics.mean_of(sums):.2f}"
    if reference is None:
        return
    shown = where.over(functools.partial(_frechet_sums, out))
    reference = Path(reference).absolute()
    real = where.over(functools.partial(_frechet_sums_of_folder, reference))
    yield f"{sum(int(each['num_samples']) for each in real)} references"
    yield f"Fréchet distance  {metrics.distance_of(shown, real):.2f}"


def _clip_sums(out, share: int, of: int) -> tuple[float, int]:
    from kerasdiffusion.training.judging import metrics

    return metrics.clip_sums(_parts(out, share, of))


def _frechet_sums(out, share: int, of: int) -> dict:
    from kerasdiffusion.training.judging import metrics

    return metrics.frechet_sums(pictures for pictures, _ in _parts(out, share, of))


def _frechet_sums_of_folder(folder: Path, share: int, of: int) -> dict:
    from kerasdiffusion.datasets.captioned import read_captions
    from kerasdiffusion.pictures.read import read_pictures
    from kerasdiffusion.training.judging import metrics

    files = [each.file for each in read_captions(folder).pictures][share::of]
    return metrics.frechet_sums(read_pictures(each)[0][None] for each in files)


def _parts(out, share: int, of: int) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Pictures of one size and their prompts, a few at a time."""
    of_sizes = itertools.groupby(
        (
            (_decoded(content), _caption(told))
            for told, content in pictures_of(out, share, of)
        ),
        lambda each: each[0].shape,
    )
    for _, group in of_sizes:
        while some := list(itertools.islice(group, _TOGETHER)):
            yield np.stack([each for each, _ in some]), [text for _, text in some]


def _caption(told: dict) -> str:
    """What a picture was asked for."""
    prompt = told["prompt"]
    if isinstance(prompt, list):
        prompt = prompt[told["position"] % len(prompt)]
    return prompt or ""


def _decoded(content: bytes) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))
