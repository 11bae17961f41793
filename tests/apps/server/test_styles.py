"""Styles as the web UI writes them: read, put around prompts, or refused."""

import os

import pytest

from kerasdiffusion.apps.server.errors import Refused
from kerasdiffusion.apps.server.models import Models
from kerasdiffusion.apps.server.styles import OWN, Style, Styles, names_of

#: What the web UI 1.10 writes: a byte order mark, a comment of its own, lines in words.
WRITTEN = (
    "\ufeffname,prompt,negative_prompt\r\n"
    'soft,"soft light, {prompt}, mist",harsh\r\n'
    "#a divider,,\r\n"
    'behind, masterpiece ,"a ""b"", c"\r\n'
    '"two lines","first\r\nsecond {prompt}",\r\n'
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "styles.csv"
    path.write_bytes(WRITTEN.encode())
    return path


def test_a_file_of_the_web_ui_is_read(file):
    found = Styles(file).all()
    assert list(found) == [*OWN, "soft", "behind", "two lines"]
    assert found["soft"] == Style("soft light, {prompt}, mist", "harsh")
    assert found["behind"] == Style("masterpiece ", 'a "b", c')
    assert found["two lines"].prompt == "first\r\nsecond {prompt}"


def test_the_oldest_files_have_texts_alone(tmp_path):
    path = tmp_path / "styles.csv"
    path.write_text("name,text\nold,in oil\n", "utf-8")
    assert Styles(path).all()["old"] == Style("in oil")


@pytest.mark.parametrize(
    "names, prompt, negative",
    [
        ([], " a cat ", "dark"),
        (["soft"], "soft light,  a cat , mist", "dark, harsh"),
        (["behind"], "a cat, masterpiece", 'dark, a "b", c'),
        (
            ["behind", "soft"],
            "soft light, a cat, masterpiece, mist",
            'dark, a "b", c, harsh',
        ),
    ],
)
def test_they_stand_around_prompts_as_in_the_web_ui(file, names, prompt, negative):
    assert Styles(file).around(" a cat ", "dark", names) == (prompt, negative)


def test_a_file_that_has_changed_is_read_anew(file):
    styles = Styles(file)
    file.write_text("name,prompt,negative_prompt\nnew,{prompt}!,\n", "utf-8")
    os.utime(file, ns=(1, 1))
    assert styles.around("a cat", "", ["new"]) == ("a cat!", "")
    file.unlink()
    assert styles.all() == OWN
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(Refused, match=r"(?s)must be a table.*: styles\.csv") as error:
        styles.all()
    assert error.value.status == 500 and str(file.parent) not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a,b\n1,2\n",
        b"name;prompt\n",
        b"\xff\xfe",
        b"name,prompt\na,'" + b"x" * 2**18,
    ],
)
def test_what_is_no_such_table_is_said_at_once(tmp_path, content):
    path = tmp_path / "styles.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="must be a table in UTF-8"):
        Styles(path)


def test_a_file_that_is_named_must_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="There must be a file"):
        Models(styles=tmp_path / "none.csv")
    assert Models(folder=tmp_path).styles.all() == OWN
    (tmp_path / "styles.csv").write_bytes(WRITTEN.encode())
    assert "soft" in Models(folder=tmp_path).styles.all()


def test_a_style_that_is_not_here_is_refused(file):
    with pytest.raises(Refused, match="Did you mean soft") as error:
        Styles(file).around("a cat", "", ["sotf"])
    assert error.value.status == 404 and error.value.name == "styles"
    for given in ("soft", [1], {}, ["soft"] * 100):
        with pytest.raises(Refused, match="`styles` must be"):
            names_of(given)


def test_styles_that_repeat_the_prompt_do_not_fill_the_memory(tmp_path):
    path = tmp_path / "styles.csv"
    path.write_text("name,prompt\nagain,{prompt} {prompt}\n", "utf-8")
    with pytest.raises(ValueError, match="A prompt has at most"):
        Styles(path).around("a cat", "", ["again"] * 64)
