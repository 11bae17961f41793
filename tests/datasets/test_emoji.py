import numpy as np
import pytest

from kerasdiffusion.datasets import STARTER, find_font
from kerasdiffusion.datasets.emoji import FONT_VARIABLE, find, glyph, table


@pytest.fixture(scope="module")
def font():
    """The small one beside these tests, or what the variable names."""
    return find_font()


def test_the_table_has_things_and_leaves_signs_out():
    assert 1100 < len(table()) < 1200
    assert find("red apple").emoji == "\N{RED APPLE}"
    assert "fruit" in find("red apple").keywords
    for name in ("no entry", "flag: France", "one o’clock", "man health worker"):
        assert name not in table()
    assert len({thing.emoji for thing in table().values()}) == len(table())


def test_an_unknown_object_is_told_with_near_matches():
    with pytest.raises(ValueError, match="red apple.*Received: 'red aple'"):
        find("red aple")


def test_starter_objects_are_visible_and_distinct(font):
    small = []
    for name in STARTER:
        picture = glyph(find(name).emoji, font)
        assert min(picture.shape[:2]) > 30
        assert picture[..., 3].mean() > 20
        small.append(np.resize(picture, (64, 64, 4)).astype(np.int16))
    for i, one in enumerate(small):
        for j in range(i):
            assert np.abs(one - small[j]).mean() > 4, (STARTER[i], STARTER[j])


def test_colour_is_premultiplied_and_cropped(font):
    picture = glyph(find("red apple").emoji, font)
    assert (picture[..., :3] <= picture[..., 3:]).all()
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert edge[..., 3].any()


def test_sequences_are_one_picture(font):
    assert glyph(find("black cat").emoji, font).shape[1] <= 136


def test_the_whole_font_has_a_picture_for_every_object(monkeypatch):
    monkeypatch.delenv(FONT_VARIABLE)
    try:
        whole = find_font()
    except FileNotFoundError:
        pytest.skip("the whole font, Noto Color Emoji, is not installed")
    for thing in table().values():
        assert glyph(thing.emoji, whole)[..., 3].any(), thing.name


def test_the_font_is_taken_from_the_variable(font, monkeypatch, tmp_path):
    monkeypatch.setenv(FONT_VARIABLE, str(font))
    assert find_font() == font
    monkeypatch.setenv(FONT_VARIABLE, str(tmp_path / "none.ttf"))
    with pytest.raises(FileNotFoundError, match="fonts-noto-color-emoji.*none.ttf"):
        find_font()
    assert find_font(font) == font


def test_a_file_that_is_no_such_font_is_refused(tmp_path):
    wrong = tmp_path / "wrong.ttf"
    wrong.write_bytes(b"no font")
    with pytest.raises(ValueError, match="Noto Color Emoji.*Received: .*wrong.ttf"):
        glyph("\N{RED APPLE}", wrong)
