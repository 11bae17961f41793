"""A folder becomes a file: each kind of lesson, and a run that was stopped."""

import csv

import keras
import numpy as np
import pytest
from PIL import Image

from kerasdiffusion import StableDiffusion
from kerasdiffusion.adapters.telling import describe_file
from kerasdiffusion.training.lessons import courses, runs
from kerasdiffusion.training.lessons.courses import teach
from kerasdiffusion.training.lessons.lesson import Lesson
from kerasdiffusion.weights.files import open_tensors
from tests.tiny import ONE_LEVEL, tiny_model


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "tiny"
    tiny_model(config=ONE_LEVEL).save_preset(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    dice = np.random.default_rng(0)
    for i in range(4):
        picture = dice.integers(0, 255, (40, 40, 3), "uint8")
        Image.fromarray(picture).save(folder / f"{i}.png")
    (folder / "broken.png").write_text("none")
    return folder


SHORT = {"steps": 4, "batch_size": 2, "resolution": 16, "learning_rate": 1e-2}
SHORT |= {"instance_prompt": "two cats", "warm_up": 0, "save_every": 1}


def lesson(**fields):
    return Lesson(**{**SHORT, **fields})


def losses(run):
    with open(run / "log.csv", newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def quiet(said=None):
    return {"report": (said if said is not None else []).append, "progress_bar": False}


@pytest.mark.every_backend_at_length
def test_a_lora_is_taught_in_one_size(tmp_path, folder, base):
    said, out = [], tmp_path / "cats.safetensors"
    taught = teach(folder, out, lesson(rank=2), base, **quiet(said))
    assert taught.path == out and taught.prompt == "two cats"
    text = "\n".join(said)
    assert "Left out" in text and "broken.png" in text
    assert "lora of rank 2 on attention" in text and "Steps: 4 of 2" in text
    assert "Time: roughly" in text and "Memory: about" in text
    assert len(losses(tmp_path / "cats-run")) == 4
    with open_tensors(out) as file:
        assert file.metadata["ss_network_dim"] == "2"
        assert file.metadata["ss_base_model_version"] == "latent-diffusion"
        assert any(np.any(file.read(key)) for key in file.keys() if "up" in key)
    shown = describe_file(out)
    assert (shown["trained on"], shown["optimizer"]) == ("latent-diffusion", "adamw")
    assert shown["tags"] == "two cats (4)"
    with pytest.raises(FileExistsError, match="--overwrite.*Received: .*cats"):
        teach(folder, out, lesson(), base, **quiet())


@pytest.mark.heavy
def test_what_is_painted_on_the_way_is_what_the_file_paints(tmp_path, folder, base):
    out = tmp_path / "cats.safetensors"
    how = lesson(sample=("two cats",), sample_every=2, validation=0.25, ema=0.5)
    teach(folder, out, how, base, **quiet())
    run = tmp_path / "cats-run"
    assert len(list((run / "samples").iterdir())) == 2
    assert (run / "sheet.png").is_file()
    model = StableDiffusion.from_preset(base)
    before = model.text_to_image("two cats", seed=0, progress_bar=False)
    model.load_adapter(out)
    after = model.text_to_image("two cats", seed=0, progress_bar=False)
    last = np.asarray(Image.open(run / "samples" / "0-step-000004.png"))
    assert np.abs(after[0].astype(int) - last).max() <= 1
    assert not np.array_equal(before, after)


@pytest.mark.heavy
def test_a_run_that_is_stopped_goes_on(tmp_path, folder, base, monkeypatch):
    how = lesson(caption_dropout=0.5, text_encoders=0.5)
    teach(folder, tmp_path / "whole.safetensors", how, base, **quiet())
    step, out = runs.Run._step, tmp_path / "cats.safetensors"

    def stopped(self, number):
        if number == 2:
            raise KeyboardInterrupt
        return step(self, number)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runs.Run, "_step", stopped)
        teach(folder, out, how, base, **quiet())
    assert not out.exists() and len(losses(tmp_path / "cats-run")) == 2
    teach(folder, out, how, base, **quiet())
    whole = losses(tmp_path / "whole-run")
    assert losses(tmp_path / "cats-run") == pytest.approx(whole, rel=1e-5)
    run = tmp_path / "cats-run"
    with pytest.raises(ValueError, match="another lesson; choose"):
        other = tmp_path / "other.safetensors"
        teach(folder, other, how.replace(rank=3), base, run=run, **quiet())


@pytest.mark.heavy
@pytest.mark.parametrize("algorithm", ["dora", "loha", "lokr"])
def test_its_kin(tmp_path, folder, base, algorithm):
    out = tmp_path / "a.safetensors"
    teach(folder, out, lesson(algorithm=algorithm, modules="all"), base, **quiet())
    model = StableDiffusion.from_preset(base)
    assert algorithm in str(model.load_adapter(out)).lower()


@pytest.mark.heavy
def test_words_are_taught_and_painted_with(tmp_path, folder, base):
    out = tmp_path / "new.safetensors"
    how = lesson(kind="textual-inversion", word="<new>", vectors=2, begin="cats")
    how = how.replace(instance_prompt=None)
    taught = teach(folder, out, how, base, **quiet())
    assert taught.prompt == "a photo of <new>"
    model = StableDiffusion.from_preset(base)
    assert model.load_embedding(out) == ["<new>"]
    with pytest.raises(ValueError, match="new word in it.*Received: 4 without <new>"):
        teach(
            folder,
            tmp_path / "x.safetensors",
            how.replace(instance_prompt="a cat"),
            base,
            **quiet(),
        )


@pytest.mark.heavy
def test_a_bundle(tmp_path, folder, base):
    out = tmp_path / "both.safetensors"
    how = lesson(kind="pivotal", word="<new>", vectors=2, instance_prompt=None)
    teach(folder, out, how, base, **quiet())
    model = StableDiffusion.from_preset(base)
    assert "<new>" in model.load_adapter(out).adapter.embeddings["text_encoder"]


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["whole", "whole.safetensors"])
def test_a_whole_model_with_prior_preservation(tmp_path, folder, base, name):
    said, out = [], tmp_path / name
    how = lesson(kind="dreambooth", class_prompt="cats", class_count=3)
    how = how.replace(text_encoders=0.0)
    teach(folder, out, how, base, **quiet(said))
    painted = sorted(f.name for f in (tmp_path / "whole-run" / "class").iterdir())
    assert painted == [f"{i:04}{end}" for i in range(3) for end in (".png", ".txt")]
    assert "Paints 3 pictures of 'cats'." in said
    old, new = StableDiffusion.from_preset(base), StableDiffusion.from_preset(out)
    for part, same in (("diffusion_model", False), ("text_encoder", True)):
        pairs = zip(getattr(old, part).weights, getattr(new, part).weights, strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs) == same, part


@pytest.mark.heavy
def test_batches_of_several_buckets_through_fit(folder, base):
    from kerasdiffusion.training.examples.batches import FolderBatches, Sample
    from kerasdiffusion.training.examples.buckets import fit
    from kerasdiffusion.training.examples.folders import Picture
    from kerasdiffusion.training.finetuning.finetuner import Finetuner
    from kerasdiffusion.training.finetuning.learned import LoRA

    sizes = [(16, 16), (16, 16), (16, 16), (16, 32), (32, 16)]
    samples = [
        Sample(Picture(folder / f"{i}.png", "two cats", size), fit(size, 16, 8))
        for i, size in enumerate(sizes)
    ]

    def latents(picture, to):
        return np.zeros((to.bucket[0] // 2, to.bucket[1] // 2, 4), "float32")

    def texts(text):
        return {"context": np.zeros((12, 32), "float32")}

    trainer = Finetuner(StableDiffusion.from_preset(base), LoRA(rank=2))
    trainer.compile("adam")
    data = FolderBatches(samples, latents, texts, 1, shrink=2)
    history = trainer.fit(data, epochs=2, verbose=0, shuffle=False)
    assert np.isfinite(history.history["loss"]).all()


def test_what_cannot_be_written_is_said_ahead(tmp_path, folder, base, monkeypatch):
    monkeypatch.setattr(courses, "StableDiffusion", None)
    for out, error, message in (
        ("a.ckpt", ValueError, "ends in .safetensors"),
        ("no/a.safetensors", FileNotFoundError, "folder to write to must exist"),
    ):
        with pytest.raises(error, match=f"{message}.*Received: "):
            teach(folder, tmp_path / out, lesson(), base, **quiet())


@pytest.mark.parametrize("word", ["two cats", "a"])
def test_a_word_that_is_none_is_said_ahead(tmp_path, folder, base, monkeypatch, word):
    monkeypatch.setattr(courses, "gathered", None)
    how, out = Lesson(kind="pivotal", word=word), tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match=f"A new word must be .*Received: '{word}'"):
        teach(folder, out, how, base, **quiet())
    assert not courses.run_folder(out).exists()


def test_a_whole_model_is_taught_in_32_bits():
    assert courses._precision("auto", Lesson(kind="full")) in ("auto", "float32")
    assert courses._precision("bfloat16", Lesson(kind="full")) == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"
