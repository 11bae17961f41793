"""The page about requests has every field as it is declared."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_is_current():
    spec = importlib.util.spec_from_file_location("fields", DOCS / "fields.py")
    fields = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fields)
    assert fields.PAGE.read_text("utf-8") == fields.page(), "run python docs/fields.py"
