"""The pictures of a batch, judged: a few in memory at a time."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kerasdiffusion.batch.index import read_index
from kerasdiffusion.batch.packing import pictures_of
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


def is_of_scenes(out: str | os.PathLike) -> bool:
    """Whether a batch's rows are those of `write_rows`."""
    first = next(read_index(out), None)
    return first is not None and _NAME.fullmatch(first["name"]) is not None


def judge(out: str | os.PathLike, scenes, classifier) -> Iterator[str]:
    """What the classifier of scenes says of a batch of `write_rows`.

    Args:
        out: The folder of the batch.
        scenes: The model's `SceneConfig`.
        classifier: A model from `training.judging.judge.train_classifier`.

    Yields:
        Lines of a Markdown table.
    """
    from kerasdiffusion.datasets import SceneDataset
    from kerasdiffusion.training.judging.evaluate import scene_sets, score

    yield "| scenes | object | ground | place | all |"
    yield "| --- | --- | --- | --- | --- |"
    sets = {name: [] for name in scene_sets(scenes)}
    for told, content in pictures_of(out):
        found = _NAME.fullmatch(told["name"])
        if found and found[1] in sets:
            sets[found[1]].append((int(found[2]), told["prompt"], content))
    for name, (config, split) in scene_sets(scenes).items():
        shown = sorted(sets[name])
        if not shown:
            continue
        images = np.stack([_decoded(content) for _, _, content in shown])
        side = images.shape[1]
        data = SceneDataset(config, side, seed=SEED, split=split)
        asked = [data.scene(i) for i, _, _ in shown]
        captions = [caption for _, caption, _ in shown]
        found = score(images, captions, asked, config, classifier)
        shares = found.objects, found.grounds, found.places, found.all
        cells = ("" if np.isnan(each) else f"{each:.1%}" for each in shares)
        yield f"| {name}, {len(shown)} | {' | '.join(cells)} |"


def figures(
    out: str | os.PathLike, reference: str | os.PathLike | None = None
) -> Iterator[str]:
    """The CLIP score of a batch, and the Fréchet distance to a folder's pictures.

    Args:
        out: The folder of the batch.
        reference: The folder; no distance by default.

    Yields:
        Lines.

    Raises:
        ValueError: If the batch has no pictures.
    """
    from kerasdiffusion.datasets.captioned import read_captions
    from kerasdiffusion.pictures.read import read_pictures
    from kerasdiffusion.training.judging import metrics

    def parts():
        of_sizes = itertools.groupby(
            ((_decoded(content), told["prompt"]) for told, content in pictures_of(out)),
            lambda each: each[0].shape,
        )
        for _, group in of_sizes:
            while some := list(itertools.islice(group, _TOGETHER)):
                yield np.stack([each for each, _ in some]), [text for _, text in some]

    count = sum(len(pictures) for pictures, _ in parts())
    if not count:
        raise ValueError(f"There must be a batch with pictures. Received: {out}")
    yield f"{count} pictures"
    yield f"CLIP score        {metrics.clip_score_of(parts()):.2f}"
    if reference is None:
        return
    files = [each.file for each in read_captions(Path(reference)).pictures]
    shown = (pictures for pictures, _ in parts())
    real = (read_pictures(each)[0][None] for each in files)
    distance = metrics.frechet_distance_of(shown, real)
    yield f"{len(files)} references"
    yield f"Fréchet distance  {distance:.2f}"


def _decoded(content: bytes) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))
