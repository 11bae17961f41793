"""Processes that are killed while they write, and what is found after them.

A template process makes the models once; each trial is a fork of it, which works until
it is killed. PyTorch alone of the backends may be forked, with one thread.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from kerasdiffusion.pictures.animations import save_animation
from kerasdiffusion.pictures.write import save_png
from kerasdiffusion.storage.whole import write_whole

PICTURE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), "uint8")
MADE = {"prompt": "a cat", "steps": 20, "seed": 1}


@functools.cache
def model():
    from tests.tiny import tiny_model

    return tiny_model()


def hidden(folder: Path) -> list[str]:
    """What is in a folder that a user does not look for."""
    return [str(path) for path in folder.rglob("*") if path.name.startswith(".")]


def check_model(path: Path) -> None:
    """That a model, folder or file, is there and whole."""
    from kerasdiffusion.weights.files import open_tensors
    from kerasdiffusion.weights.load import read_config

    read_config(path)
    files = [path] if path.is_file() else sorted(path.rglob("*.safetensors"))
    assert len(files) == (1 if path.is_file() else 3), files
    for each in files:
        with open_tensors(each) as file:
            file.check(file.keys())


class Job:
    """Something that writes, over and over."""

    def prepare(self, folder: Path) -> None:
        """What is there before."""

    def work(self, folder: Path, turn: int) -> None:
        """One turn."""

    def check(self, folder: Path) -> None:
        """That what is there after a kill is whole."""


class Folder(Job):
    """A preset in place of another."""

    name, options = "a", {"overwrite": True}

    def prepare(self, folder):
        model().save_preset(folder / self.name)

    def work(self, folder, turn):
        model().save_preset(folder / self.name, **self.options)

    def check(self, folder):
        check_model(folder / self.name)


class File(Folder):
    """The same as a single file."""

    name = "a.safetensors"


class New(Job):
    """Presets where nothing was."""

    def work(self, folder, turn):
        model().save_preset(folder / f"m{turn}-{os.getpid()}")

    def check(self, folder):
        for path in folder.iterdir():
            if not path.name.startswith("."):
                check_model(path)


class Pictures(Job):
    """Pictures of one name."""

    def work(self, folder, turn):
        save_png(PICTURE, folder / "a.png", MADE)

    def check(self, folder):
        from PIL import Image

        for path in folder.iterdir():
            if not path.name.startswith("."):
                with Image.open(path) as image:
                    image.load()


class Animations(Pictures):
    """Animations of one name."""

    def work(self, folder, turn):
        save_animation(np.stack([PICTURE] * 8), folder / "a.gif", 8)


class Cache(Job):
    """Traces, in place of those of the same name."""

    def work(self, folder, turn):
        from kerasdiffusion.compute.kept_traces import give_way

        path = folder / f"{turn % 3}.trace"
        write_whole(path, bytes([turn % 3]) * 10**6, overwrite=True)
        give_way(path)

    def check(self, folder):
        for path in folder.glob("*.trace"):
            if not path.name.startswith("."):
                assert path.read_bytes() == bytes([int(path.stem)]) * 10**6


class Generate(Pictures):
    """The command that paints."""

    line = ("generate", "a cat", "--output", "{}", "--quiet")

    def prepare(self, folder):
        model().save_preset(folder.parent / "model")

    def work(self, folder, turn):
        from kerasdiffusion.apps.cli import main

        line = [each.format(folder) for each in self.line]
        line += ["--preset", str(folder.parent / "model"), "--steps", "1"]
        with contextlib.redirect_stdout(io.StringIO()):
            assert main([*line, "--seed", "1"]) == 0


class Walk(Generate):
    """The command that paints an animation."""

    line = ("walk", "a cat", "a dog", "{}/a.gif", "--frames", "2", "--quiet")


class Training(Job):
    """A run that goes on where it was."""

    def work(self, folder, turn):
        from kerasdiffusion.training.bundled import emoji
        from kerasdiffusion.training.bundled.recipes import Stage
        from kerasdiffusion.training.checkpoints import CHECKPOINT, _progress
        from tests.training.test_checkpoints import Line, Numbers

        path = folder / CHECKPOINT
        done = _progress(path)[0] if path.exists() else 0
        with contextlib.redirect_stdout(io.StringIO()):
            emoji._fit(Line(), Stage(done + 2, 1, 4, 1e-3), Numbers(), folder)

    def check(self, folder):
        from kerasdiffusion.training.checkpoints import CHECKPOINT, LOG, _progress

        done = 0
        if (folder / CHECKPOINT).exists():
            done = _progress(folder / CHECKPOINT)[0]
        if (folder / LOG).exists():
            with open(folder / LOG, newline="") as file:
                rows = [int(row["epoch"]) for row in csv.DictReader(file)]
            # A row more is of an epoch that is trained again, and goes then.
            assert rows[:done] == list(range(done)), (rows, done)
            assert len(rows) <= done + 1, (rows, done)


@functools.cache
def lessons():
    """Pictures in two buckets for `Teaching`, and a trainer's parts."""
    from kerasdiffusion.training.examples.batches import Sample
    from kerasdiffusion.training.examples.buckets import fit
    from kerasdiffusion.training.examples.folders import Picture

    sizes = [(16, 16)] * 3 + [(16, 32)] * 2
    pictures = [Picture(Path(f"{i}"), "two cats", size) for i, size in enumerate(sizes)]
    return [Sample(each, fit(each.size, 16, 8)) for each in pictures]


class Teaching(Job):
    """A model is taught; in the end as if nobody had killed it."""

    steps = 12

    def prepare(self, folder):
        self.teach(folder.parent / "whole")
        self.expected = self.rows(folder.parent / "whole")
        assert len(self.expected) == self.steps

    def teach(self, folder):
        from kerasdiffusion.training.examples.batches import FolderBatches
        from kerasdiffusion.training.finetuning.finetuner import Finetuner
        from kerasdiffusion.training.finetuning.learned import LoRA
        from kerasdiffusion.training.lessons.from_lesson import optimizer_of
        from kerasdiffusion.training.lessons.lesson import Lesson
        from kerasdiffusion.training.lessons.runs import Run

        def latents(picture, to):
            dice = np.random.default_rng(int(picture.path.name))
            shape = [side // 2 for side in to.bucket]
            return dice.normal(size=(*shape, 4)).astype("float32")

        def texts(text):
            return {"context": np.ones((12, 32), "float32") / 10}

        lesson = Lesson(steps=self.steps, learning_rate=1e-2, warm_up=2, ema=0.9)
        trainer = Finetuner(model(), LoRA(rank=2))
        trainer.compile(optimizer_of(lesson))
        batches = FolderBatches(lessons(), latents, texts, 2, shrink=2)
        Run(
            folder,
            trainer,
            batches,
            self.steps,
            save_every=1,
            report=lambda line: None,
            progress_bar=False,
        ).go()

    def rows(self, folder):
        if not (folder / "log.csv").exists():
            return []
        text = (folder / "log.csv").read_text()
        whole = text[: text.rfind("\n") + 1]
        found = csv.DictReader(io.StringIO(whole))
        return [(int(row["step"]), float(row["loss"])) for row in found]

    def work(self, folder, turn):
        if len(self.rows(folder)) == self.steps and turn >= 0:
            for path in folder.iterdir():
                path.unlink()
        self.teach(folder)
        assert len(self.rows(folder)) == self.steps

    def check(self, folder):
        found = self.rows(folder)
        # Rows of steps that are taught again go when they are.
        assert [step for step, _ in found] == [i + 1 for i in range(len(found))]
        np.testing.assert_allclose(
            [loss for _, loss in found],
            [loss for _, loss in self.expected[: len(found)]],
            rtol=1e-5,
        )


class Broken(Teaching):
    """One run that is killed again and again, and at last ends."""

    steps = 40

    def teach(self, folder):
        # A state takes about as long to reach the disk as a step: kills meet both.
        sync = os.fsync

        def slow(handle):
            time.sleep(0.02)
            sync(handle)

        os.fsync = slow
        try:
            super().teach(folder)
        finally:
            os.fsync = sync

    def work(self, folder, turn):
        self.teach(folder)
        while turn >= 0:  # the end is for the process that is not killed
            time.sleep(1.0)


def break_one_run(kills: int, seed: int) -> None:
    """Kills one run so often, at random moments; prints what was found in the end."""
    job, dice, steps, midway = Broken(), random.Random(seed), [], 0
    with tempfile.TemporaryDirectory() as place:
        folder, whole = Path(place, "out"), Path(place, "whole")
        folder.mkdir()
        job.prepare(folder)
        begun = time.monotonic()
        job.teach(Path(place, "again"))
        each = (time.monotonic() - begun) / kills
        for _ in range(kills):
            trial(job, folder, dice.uniform(0.3, 1.2) * each)
            job.check(folder)
            midway += any(".part" in name for name in hidden(folder))
            steps.append(len(job.rows(folder)))
        job.work(folder, -1)
        job.check(folder)
        assert len(job.rows(folder)) == job.steps and not hidden(folder)
        pairs = zip(numbers(whole), numbers(folder), strict=True)
        most = max(float(np.abs(a - b).max()) for a, b in pairs)
    told = {"kills": kills, "while a state was written": midway, "steps": steps}
    print(json.dumps({**told, "largest difference": most}))


def numbers(folder: Path) -> list[np.ndarray]:
    """All that a run has in the end: what is taught, the optimizer, the draws."""
    from kerasdiffusion.weights.files import open_tensors

    with open_tensors(folder / "state.safetensors") as file:
        return [file.read(name).astype("float64") for name in sorted(file.keys())]


JOBS = {
    kind.__name__: kind()
    for kind in (
        Folder,
        File,
        New,
        Pictures,
        Animations,
        Cache,
        Generate,
        Walk,
        Training,
        Teaching,
    )
}


def trial(job: Job, folder: Path, delay: float) -> None:
    """Kills a fork of this process some time after it began to work."""
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(ready)
            os.write(tell, b"1")
            turn = 0
            while True:
                job.work(folder, turn)
                turn += 1
        except BaseException:
            import traceback

            traceback.print_exc()
        os._exit(9)
    os.close(tell)
    os.read(ready, 1)
    os.close(ready)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"it failed by itself: {status}"


def main(kills: int, seed: int, names=tuple(JOBS)) -> None:
    """Kills each job so often; prints what was found."""
    dice, found = random.Random(seed), {}
    for name in names:
        job = JOBS[name]
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place, "out")
            folder.mkdir()
            job.prepare(folder)
            for _ in range(2):  # the second is what it takes when all is warm
                begun = time.monotonic()
                job.work(folder, 0)
                length = time.monotonic() - begun
                for path in folder.iterdir() if name == "New" else ():
                    path.rename(folder / f"x{time.monotonic_ns()}")
            left = 0
            for _ in range(kills):
                trial(job, folder, dice.uniform(0, 2 * length))
                job.check(folder)
                left += bool(hidden(folder))
            job.work(folder, -1)
            job.check(folder)
            assert not hidden(folder), (name, hidden(folder))
            found[name] = {"kills": kills, "left a part": left, "s": round(length, 3)}
    print(json.dumps(found))


if __name__ == "__main__" and sys.argv[3:] == ["Broken"]:
    break_one_run(int(sys.argv[1]), int(sys.argv[2]))
elif __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] or tuple(JOBS))
