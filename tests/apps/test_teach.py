"""The command that teaches: what it asks of `courses.teach`, and what it says."""

from pathlib import Path

import pytest

from kerasdiffusion.apps.cli import main
from kerasdiffusion.training.lessons import courses
from kerasdiffusion.training.lessons.courses import Taught
from kerasdiffusion.training.lessons.lesson import Lesson


@pytest.fixture
def asked(command, monkeypatch):
    """Runs the command; gives what it asks for."""
    calls = []

    def teach(folder, out, lesson, base, **how):
        calls.append((folder, out, lesson, base, how))
        return Taught(out, lesson, "a photo of sks dog")

    monkeypatch.setattr(courses, "teach", teach)

    def run(*arguments):
        assert command("teach", *arguments) == 0
        return calls.pop()

    return run


def test_without_flags_the_lesson_is_the_usual_one(asked, capsys):
    folder, out, lesson, base, how = asked("dog", "--out", "dog.safetensors")
    assert (folder, out, base) == (Path("dog"), Path("dog.safetensors"), "emoji")
    assert lesson == Lesson() and how["run"] == Path("dog-run")
    printed = capsys.readouterr().out
    assert "Wrote dog.safetensors. Its run is in dog-run." in printed
    line = "generate 'a photo of sks dog' --adapter dog.safetensors"
    assert f"Paint with it: kerasdiffusion {line}" in printed


def test_flags_are_the_lessons_fields(asked):
    flags = "--as pivotal --word <dog> --vectors 2 --begin dog --rank 8 --steps 50 "
    flags += "--resolution 512,768 --no-buckets --shuffle-captions --snr-gamma 5"
    given = ["dog", "--out", "d.safetensors", *flags.split()]
    given += ["--sample", "a dog", "--sample", "a cat"]
    assert asked(*given)[2] == Lesson(
        kind="pivotal",
        word="<dog>",
        vectors=2,
        begin="dog",
        rank=8,
        steps=50,
        resolution=(512, 768),
        buckets=False,
        shuffle_captions=True,
        snr_gamma=5.0,
        sample=("a dog", "a cat"),
    )


@pytest.mark.parametrize(
    "flags, line",
    [
        ("--base sd1.5", "--preset sd1.5 --adapter x.safetensors"),
        ("--as textual-inversion --word <dog>", "--embedding x.safetensors"),
        ("--as dreambooth --base sd1.5", "--preset x.safetensors"),
    ],
)
def test_it_says_how_to_paint_with_it(asked, capsys, flags, line):
    asked("dog", "--out", "x.safetensors", *flags.split())
    printed = capsys.readouterr().out
    assert line in printed and "sheet" not in printed


def test_it_says_where_the_samples_are(asked, capsys):
    asked("dog", "--out", "x.safetensors", "--sample", "a dog")
    assert str(Path("x-run", "sheet.png")) in capsys.readouterr().out


def test_quiet_prints_the_file_alone(asked, capsys):
    asked("dog", "--out", "x.safetensors", "--quiet")
    assert capsys.readouterr().out == "x.safetensors\n"


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--rank 0", "must be a whole number from 1"),
        ("--as hypernetwork", "invalid choice"),
        ("--resolution 512x512", "must be pixels"),
    ],
)
def test_wrong_flags(command, capsys, flags, message):
    with pytest.raises(SystemExit) as exit:
        command("teach", "dog", "--out", "x.safetensors", *flags.split())
    assert exit.value.code == 2 and message in capsys.readouterr().err


def test_a_word_that_is_missing_is_said(command, capsys):
    assert command("teach", "dog", "--out", "x.safetensors", "--as", "pivotal") == 1
    assert "a word of its own, as <dog>" in capsys.readouterr().err


def test_an_interruption_says_how_to_go_on(command, monkeypatch, capsys):
    def teach(*args, **how):
        raise KeyboardInterrupt

    monkeypatch.setattr(courses, "teach", teach)
    assert main(["teach", "dog", "--out", "x.safetensors"]) == 130
    assert "the same command goes on from the state in x-run" in capsys.readouterr().out
