"""Rows to predict, read and typed as training rows are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.base.errors import UserError
from tasks.data import input_rows
from tasks.pipeline.schema import Data

COLUMNS = {
    "id": {"type": "category"},
    "yes": {"type": "boolean"},
    "day": {"type": "datetime"},
    "x": {"max": 1},
    "y": {},
}


def data(*sources: dict[str, Any]) -> Data:
    return Data.model_validate(
        {"sources": sources, "target": "y", "task": "regression", "columns": COLUMNS}
    )


CSV = {"uri": "file://day-*.csv", "options": {"sep": ";", "decimal": ","}, "constants": {"x": 1}}


def test_values_are_as_in_training(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id;yes;day;x;more\n007;t;2024-02-29;2,5;a\n;;;;\n")
    config = data({"uri": "s3://data/old.parquet"}, CSV)
    rows = input_rows.read_csv(tmp_path / "rows.csv", "rows.csv", config)
    assert rows is not None
    table = input_rows.typed(rows, ("id", "yes", "day", "x"), "rows.csv", config)
    first = table.iloc[0]
    assert (first["id"], first["yes"], first["x"]) == ("007", 1.0, 2.5)
    assert first["day"].isoformat() == "2024-02-29T00:00:00"
    assert table.iloc[1].isna().all()


def test_a_value_of_another_type_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("yes;x\nt;1\nmaybe;2\n")
    rows = input_rows.read_csv(tmp_path / "rows.csv", "mine.csv", data(CSV))
    assert rows is not None
    with pytest.raises(UserError, match=r"1 of 2 rows of mine\.csv") as raised:
        input_rows.typed(rows, ("yes", "x"), "mine.csv", data(CSV))
    assert "row 2: yes must be true or false" in raised.value.why


def test_without_a_csv_source_nothing_says_how_to_read_one(tmp_path: Path) -> None:
    database = {"uri": "postgresql://db/shop", "connection": "shop", "query": "select 1"}
    sources = data({"uri": "s3://data/old.parquet"}, database)
    assert input_rows.read_csv(tmp_path / "rows.csv", "rows.csv", sources) is None


def test_options_that_choose_rows_or_names_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("yes;x\nt;1\nf;2\nt;3\n")
    chosen = {"nrows": 1, "skiprows": 1, "skipfooter": 1, "header": None}
    source = CSV | {"options": CSV["options"] | chosen}
    rows = input_rows.read_csv(tmp_path / "rows.csv", "rows.csv", data(source))
    assert rows is not None
    assert list(rows.columns) == ["yes", "x"]
    assert len(rows) == 3
