"""Rows of every kind of table, with what a cell leaves open left out."""

import pytest

from kerasdiffusion.batch.rows import read_rows


def test_a_csv_has_texts(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('name,prompt,seed\na,"a cat, red",1\n\nb,,\n', "utf-8-sig")
    rows = read_rows(path)
    assert rows.columns == ["name", "prompt", "seed"] and rows.count == 2
    assert list(rows) == [
        {"name": "a", "prompt": "a cat, red", "seed": "1"},
        {"name": "b"},
    ]
    assert list(rows.names()) == ["a", "b"] and rows.folder.path == tmp_path


def test_json_lines_have_values(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a cat", "seed": 1, "eta": null}\n\n{"prompt": 5}\n')
    rows = read_rows(path)
    assert rows.columns is None and rows.count == 2 and not rows.is_text
    assert list(rows) == [{"prompt": "a cat", "seed": 1}, {"prompt": 5}]


def test_parquet_is_read_from_a_file_and_from_a_folder(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table({"prompt": ["a", None], "seed": [1.0, float("nan")]})
    pq.write_table(table, tmp_path / "one.parquet")
    pq.write_table(table, tmp_path / "two.parquet")
    rows = read_rows(tmp_path / "one.parquet")
    assert rows.columns == ["prompt", "seed"] and rows.count == 2
    assert list(rows) == [{"prompt": "a", "seed": 1.0}, {}]
    assert read_rows(tmp_path).count == 4 and len(list(read_rows(tmp_path))) == 4


def test_dicts_and_generators():
    rows = read_rows([{"prompt": "a"}, {"prompt": "b", "eta": float("nan")}])
    assert rows.count == 2 and list(rows) == [{"prompt": "a"}, {"prompt": "b"}]
    once = read_rows({"prompt": each} for each in "ab")
    assert once.count is None and once.names() is None and len(list(once)) == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rows.txt", "a", "ends in .csv, .tsv, .jsonl"),
        ("none.csv", None, "There must be a file of rows"),
        ("rows.csv", "", "must name each column"),
        ("rows.csv", "a,a\n", "must name each column, once"),
        (
            "rows.csv",
            "a,b\n1\n",
            "must have 2 cells, as the header.* 1 in row 2",
        ),
        ("rows.csv", b"a\n\xff\n", "must be CSV in UTF-8"),
        (
            "rows.jsonl",
            '{"a": 1}\n[]\n',
            "must be a JSON object.* in line 2",
        ),
        ("rows.jsonl", '{"a": ', "must be JSON"),
        ("rows.parquet", "no", "must be a Parquet file that can be read"),
    ],
)
def test_what_is_no_table_is_one_error(tmp_path, name, text, message):
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        list(read_rows(path))
    assert "Received: " in str(caught.value)


@pytest.mark.parametrize("source", [5, {"prompt": "a"}, b"rows.csv"])
def test_other_things_are_no_rows(source):
    with pytest.raises(TypeError, match="Rows must be a file, a Ray Dataset, or dicts"):
        read_rows(source)


def test_a_row_that_is_no_dict_is_named():
    with pytest.raises(TypeError, match="as row 1"):
        list(read_rows([{"prompt": "a"}, "b"]))
