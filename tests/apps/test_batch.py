"""`kerasdiffusion batch`, in this process, on a tiny model."""

import pytest
from PIL import Image

from kerasdiffusion.batch import read_index
from tests.tiny import TEXTS

ROWS = f"name,prompt,seed\napple,{TEXTS[0]},1\ncats,{TEXTS[1]},\n"


@pytest.fixture
def batch(command, tmp_path):
    def run(*arguments, rows=ROWS):
        (tmp_path / "rows.csv").write_text(rows, "utf-8")
        return command("batch", "rows.csv", "--out", "out", *arguments)

    return run


def test_a_table_is_painted_and_gone_on_with(batch, tmp_path, capsys):
    assert batch("--steps", "2", "--size", "32x48") == 0
    assert capsys.readouterr().out == "Painted 2 rows to out.\n"
    found = {each["name"]: each for each in read_index("out")}
    assert found["apple"]["seed"] == 1
    picture = Image.open(tmp_path / "out" / found["apple"]["files"][0])
    assert picture.size == (32, 48) and "Steps: 2" in picture.info["parameters"]
    assert "Model: emoji" in picture.info["parameters"]
    assert batch("--steps", "2", "--size", "32x48", "--quiet") == 0
    assert capsys.readouterr().out == "out\n"
    more = f"{ROWS}third,blurry,\n"
    assert batch("--steps", "2", "--size", "32x48", rows=more) == 0
    assert capsys.readouterr().out == (
        "Painted 1 rows to out. 2 were recorded before.\n"
    )


def test_rows_that_fail_are_told_and_the_others_painted(batch, capsys):
    assert batch("--steps", "2", rows=f"prompt,size\n{TEXTS[0]},\nx,33\n,\n") == 1
    out, err = capsys.readouterr()
    assert out == "Painted 1 rows to out.\n"
    assert "2 rows failed; the index says why, and --retry-failed tries" in err
    errors = [each["error"] for each in read_index("out") if "error" in each]
    assert any("multiples of 2" in each for each in errors)
    assert any("must have `prompt`" in each for each in errors)


@pytest.mark.parametrize(
    ("rows", "arguments", "message"),
    [
        ("seed\n1\n", [], "`text_to_image` must have a column `prompt`"),
        ("prompt,promt\na,b\n", [], "Did you mean prompt"),
        (f"{ROWS}apple,again,\n", [], "Received: 'apple' again, as row 2"),
        (ROWS, ["--preset", "emjoi"], "Did you mean emoji?"),
        (ROWS, ["--quality", "101"], "`quality` must be from 1 to 100"),
    ],
)
def test_what_cannot_be_is_one_line_ahead_of_painting(
    batch, capsys, tmp_path, rows, arguments, message
):
    assert batch(*arguments, rows=rows) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out/pictures").exists()
