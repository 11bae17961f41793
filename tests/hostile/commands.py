"""The command line: one line for what is wrong, a code, and nothing half done."""

import contextlib
import io
import os

import numpy as np

from kerasdiffusion.apps.cli import main
from kerasdiffusion.pictures.write import save_png
from tests.hostile.harness import Collection
from tests.hostile.pictures import png

CASES = Collection(framework=True)


class Failed(ValueError):
    """What a command said as it failed."""


@CASES.reader("commands")
def run(arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(list(map(str, arguments)))
        except SystemExit as exit:
            code = exit.code
    said = err.getvalue()
    if code == 0:
        return out.getvalue()
    errors = [
        line
        for line in said.replace("\r", "\n").splitlines()
        if line.strip() and "warning" not in line and "step/s" not in line
    ]
    assert code in (1, 2), code
    assert all(line.startswith("kerasdiffusion: error: ") for line in errors), errors
    if "--traceback shows" in said:
        raise RuntimeError(said)
    # What argparse refuses it says in its own words, which name the value.
    raise Failed(out.getvalue() + said + " Received: the arguments" * (code == 2))


def add(name, line, outcome="refused", **more):
    arguments = line.split(" ") if isinstance(line, str) else line
    CASES.add("commands", name, arguments, outcome, **more)


def there(folder, _):
    assert not list(folder.iterdir()), list(folder.iterdir())


for flag, values in {
    "--steps": ("0", "-1", "1e9", "1000000000", "9" * 400, "x", ""),
    "--size": ("7", "0", "79992x", "x", "-64", "9" * 400, "1x1", "64x64x64"),
    "--batch-size": ("0", "-1", "x", "1.5", "9" * 5000),
    "--seed": ("x", str(2**64), "9" * 400, "1.5"),
    "--guidance-scale": ("nan", "inf", "x", "1e400"),
    "--sampler": ("os.system", "", "x" * 10**5),
    "--precision": ("float8", ""),
    "--backend": ("theano", "os"),
    "--preset": (
        "none.safetensors",
        "~nobody-here/x",
        "hf://../x",
        "file:///etc",
        "\0",
    ),
}.items():
    for value in values:
        add(
            f"generate {flag} {value[:12]!r} x{len(value)}",
            ["generate", "x", f"{flag}={value}"],
        )
add("generate nothing", "generate")
add("generate with a flag that is not", "generate x --no-such-flag")
add("generate to a device", "generate x --output /dev/null/a.png")
add(
    "generate to a name that is too long",
    ["generate", "x", "--output", "a" * 5000 + ".png"],
)
add("generate to another ending", "generate x --output a.jpg")
add("generate of a picture that is not", "generate x --image none.png")
add("generate from a picture that is not", "generate --from none.png")
add("generate a megabyte", ["generate", "a " * 2**19])
add("generate 10,000 brackets", ["generate", "(" * 10_000])
add("generate AND a thousand times", ["generate", "a AND " * 1000 + "b"])
add("generate 79992 pixels", "generate x --size 79992", mebibytes=2000)
add("generate 10**9 pictures", "generate x --batch-size 1000000000", mebibytes=2000)
add("walk 10**9 frames", "walk a b a.gif --frames 1000000000", mebibytes=2000)
add("walk 0 frames", "walk a b a.gif --frames 0")
add("walk to another ending", "walk a b a.exe")
add("show nothing", "show")
add("show what is not", "show none.png")
add("evaluate what is not", "evaluate --preset none")
add("evaluate with another classifier", "evaluate --classifier a.keras")
add("train what is not", "train other --out x")
add("train no epochs", "train emoji --out x --epochs 0")
add("a command that is not", "os.system")
add("nothing", [])


def file_in(name, content, *arguments, outcome="refused", **more):
    def make(folder):
        (folder / "a.png").write_bytes(content)
        return [*arguments, folder / "a.png"]

    CASES.add("commands", name, make, outcome, **more)


file_in("show a broken picture", b"x", "show")
file_in("show a picture without texts", png(), "show")
file_in("generate from a broken picture", b"x", "generate", "--from")
file_in("generate over a broken picture", b"x", "generate", "x", "--image")
file_in("train to a file", b"x", "train", "emoji", "--toy", "--out")


@CASES.case("commands", "show goes on", says="prompt: a cat")
def _(folder):
    save_png(np.zeros((16, 16, 3), "uint8"), folder / "b.png", {"prompt": "a cat"})
    (folder / "a.png").write_bytes(b"x")
    return ["show", folder / "a.png", folder / "b.png"]


@CASES.case("commands", "show a pipe")
def _(folder):
    os.mkfifo(folder / "a.png")
    return ["show", folder / "a.png"]


@CASES.case("commands", "train in another's folder", check=lambda *_: None)
def _(folder):
    (folder / "run.json").write_text('{"recipe": {}, "start": null}')
    return ["train", "emoji", "--toy", "--out", folder]


@CASES.case("commands", "train in a broken folder", check=lambda *_: None)
def _(folder):
    (folder / "run.json").write_text('{"recipe"')
    return ["train", "emoji", "--toy", "--out", folder]
