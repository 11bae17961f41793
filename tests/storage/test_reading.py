import json
import os
import socket

import pytest

from kerasdiffusion.storage.bounds import BOUNDS, Bound
from kerasdiffusion.storage.reading import (
    open_regular,
    parse_json,
    read_bounded,
    read_json,
    read_text,
)

FEW = Bound(10, "bytes", "A short file")
POSIX = pytest.mark.skipif(os.name == "nt", reason="made by POSIX calls")


def test_a_file_of_the_limit_is_read_and_one_of_more_is_not(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"0123456789")
    assert read_bounded(path, FEW) == b"0123456789"
    path.write_bytes(b"0123456789+")
    with pytest.raises(ValueError, match="A short file has at most 10 bytes.*: 11 in"):
        read_bounded(path, FEW)


@POSIX
def test_a_file_that_states_no_size_is_read_as_far_as_the_limit_goes():
    assert len(read_bounded("/proc/self/stat", "json")) > 20
    with pytest.raises(ValueError, match="at most 10 bytes"):
        read_bounded("/proc/self/stat", FEW)


def _pipe(path):
    os.mkfifo(path)


def _socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@POSIX
@pytest.mark.parametrize(
    "make",
    [
        _pipe,
        _socket,
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("/dev/stdin"),
    ],
    ids=["pipe", "socket", "folder", "device", "terminal"],
)
def test_only_regular_files_are_read(tmp_path, make):
    path = tmp_path / "a"
    make(path)
    with pytest.raises(ValueError, match="regular file. Received: .*/a "):
        read_bounded(path, "json")


@POSIX
def test_links_are_followed_to_a_file_but_not_in_circles(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "link").symlink_to("a.json")
    (tmp_path / "circle").symlink_to("circle")
    assert read_json(tmp_path / "link") == {}
    with pytest.raises(OSError, match="Received: .*circle"):
        read_json(tmp_path / "circle")


@pytest.mark.parametrize("name", ["none.json", "n" * 5000, "a/b/c"])
def test_an_absent_file_is_named(tmp_path, name):
    with pytest.raises(OSError, match="There must be a file.*Received: "):
        open_regular(tmp_path / name)
    with pytest.raises(ValueError, match="a name that a file can have.*Received"):
        open_regular("a\0b")


def test_text_is_utf8_with_or_without_a_mark(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffäpfel".encode())
    assert read_text(path, "json") == "äpfel"
    path.write_bytes(b"abc\xff")
    with pytest.raises(ValueError, match=r"UTF-8 \(invalid start byte at byte 3\)"):
        read_text(path, "json")


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_is_read_in_each_encoding_that_it_may_have(code):
    assert parse_json('{"a": ["ä", 1, -2.5e-3, null]}'.encode(code), "a") == {
        "a": ["ä", 1, -0.0025, None]
    }


def test_what_this_library_and_others_write_is_read():
    value = {"seed": 2**64 - 1, "scale": 1e300, "digits": 0.1, "nan": float("nan")}
    found = parse_json(json.dumps(value), "a")
    assert str(found) == str(value)
    sums = {"sha256": "3e450" * 13 + "0" * 500}  # no number, though it looks like one
    assert parse_json(json.dumps(sums), "a") == sums


@pytest.mark.parametrize(
    "text, rule",
    [
        ("", "must be JSON"),
        ("{", "must be JSON"),
        (b"\xff\xfe\xfa", "must be JSON"),
        ("[" * 10**6, "levels of nesting"),
        ('{"a":' * 500 + "1" + "}" * 500, "levels of nesting"),
        ("[" * 101 + "]" * 101, "levels of nesting"),
        ("[" + "[]," * 2**20 + "1]", "lists and objects"),
        ('{"a": 1, "b": 2, "a": 3}', "each name once, 'a' not twice"),
        ("1" * 301, "at most 300 digits"),
        ("1" * 10**6, "at most 300 digits"),
        ("0." + "1" * 301, "at most 300 digits"),
        ("[1e309]", "fit float64"),
        ("[-1e999]", "fit float64"),
        ("1" * (BOUNDS["json"].most + 1), "at most 16777216 bytes"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_other_json_is_refused_in_one_sentence(text, rule):
    with pytest.raises(ValueError, match=rule) as caught:
        parse_json(text, "config.json")
    assert "Received: " in str(caught.value) and "config.json" in str(caught.value)
    assert len(str(caught.value)) < 300
    assert type(caught.value) is ValueError or not isinstance(caught.value, OSError)


def test_a_hundred_levels_are_few_enough():
    assert parse_json("[" * 100 + "]" * 100, "a")
