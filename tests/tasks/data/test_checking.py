from __future__ import annotations

from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.base.errors import UserError
from tasks.data import checking
from tasks.pipeline.schema import Data


def data(columns: dict[str, Any], **rest: Any) -> Data:
    return Data.model_validate(
        {
            "sources": [{"uri": "file://x.csv"}],
            "target": "y",
            "task": "regression",
            "columns": columns,
            **rest,
        }
    )


def check_column(
    kind: Any, cells: list[Any], **rules: Any
) -> tuple[list[Any], list[tuple[int, str]]]:
    """A column after validation, and its failures as (row, rule)."""
    rules = {"type": kind, "nullable": True, **rules}
    raw = pd.DataFrame({"x": cells})
    checked = checking.validate(raw, data({"x": rules}))
    typed_cells = [None if pd.isna(value) else value for value in checked.table["x"]]
    failures = checked.broken
    if "x" in checked.wrong:
        rows = np.flatnonzero(checked.wrong["x"])
        failures = pd.concat([checking.wrong_type_failures(raw["x"], kind, rows), failures])
    return typed_cells, list(zip(failures["row"], failures["rule"], strict=True))


@pytest.mark.parametrize(
    ("kind", "values", "expected", "bad"),
    [
        ("double", [1, "2.5", None], [1.0, 2.5, None], []),
        ("double", [Decimal("1.5"), "", "x"], [1.5, None, None], [2, 3]),
        ("double", [np.inf, 1.0], [np.inf, 1.0], [1]),
        ("double", pd.to_datetime(["2020-01-01"]), [None], [1]),
        ("double", [True, False], [None, None], [1, 2]),
        ("double", [True, None, 2.5], [None, None, 2.5], [1]),
        ("double", pd.array([True, None], dtype="boolean"), [None, None], [1]),
        ("integer", [True, None, 2], [1.0, None, 2.0], []),
        ("integer", [1, 2.0, "3", None], [1.0, 2.0, 3.0, None], []),
        ("integer", [1.5, 2**53 + 1, -np.inf], [None, None, None], [1, 2, 3]),
        ("boolean", [True, False, None], [1.0, 0.0, None], []),
        ("boolean", ["TRUE", "false ", "1", 0, "t"], [1.0, 0.0, 1.0, 0.0, 1.0], []),
        ("boolean", ["yes", 2], [None, None], [1, 2]),
        ("category", ["007", None, ""], ["007", None, ""], []),
        ("category", [3.0, None, 1.5], ["3", None, "1.5"], []),
        ("category", pd.Categorical(["b", "a"]), ["b", "a"], []),
        ("string", [1, "x"], ["1", "x"], []),
        ("category", [True, None], ["True", None], []),
        ("category", pd.to_datetime(["2020-01-01", None]), [None, None], [1]),
        ("string", pd.to_datetime(["2020-01-01"], utc=True), [None], [1]),
        ("string", [date(2020, 1, 1), time(1), timedelta(1), "x"], [None] * 3 + ["x"], [1, 2, 3]),
        ("category", pd.to_timedelta(["1h"]), [None], [1]),
        ("string", [[1], {"a": 1}, np.ones(2), (), None, "x"], [None] * 5 + ["x"], [1, 2, 3, 4]),
        ("category", pd.Categorical(pd.to_datetime(["2020-01-01", None])), [None, None], [1]),
        (
            "datetime",
            ["2020-01-01", "2020-01-01T02:00:00+02:00", None],
            [pd.Timestamp("2020-01-01"), pd.Timestamp("2020-01-01"), None],
            [],
        ),
        ("datetime", [date(2020, 1, 1), None], [pd.Timestamp("2020-01-01"), None], []),
        ("datetime", ["01/02/2020", 1577836800], [None, None], [1, 2]),
        ("datetime", pd.to_datetime(["2020-01-01"], utc=True), [pd.Timestamp("2020-01-01")], []),
    ],
)
def test_a_value_becomes_its_columns_type_or_a_failure(
    kind: str, values: Any, expected: list[Any], bad: list[int]
) -> None:
    cells, failures = check_column(kind, values)
    assert cells == expected
    assert [row for row, _ in failures] == bad


def test_every_type_has_its_dtype() -> None:
    kinds = {"d": "double", "i": "integer", "b": "boolean", "c": "category", "t": "datetime"}
    raw = pd.DataFrame({"d": [1], "i": [1], "b": [True], "c": [1], "t": ["2020-01-01"]})
    rules = data({name: {"type": kind} for name, kind in kinds.items()})
    typed = checking.validate(raw, rules).table
    assert [str(kind) for kind in typed.dtypes] == [*["float64"] * 3, "str", "datetime64[us]"]


def test_a_missing_column_is_null() -> None:
    rules = data({"x": {"nullable": True}, "c": {"type": "category", "nullable": True}, "y": {}})
    checked = checking.validate(pd.DataFrame({"y": [1, 2]}), rules)
    assert checked.table[["x", "c"]].isna().all(axis=None)
    assert [str(kind) for kind in checked.table.dtypes] == ["float64", "str", "float64"]
    assert len(checked.broken) == 0


def test_allowed_values_match_in_any_spelling() -> None:
    assert check_column("category", [0, 1, 2], values=[0, 1])[1] == [(3, "must be one of [0, 1]")]
    assert check_column("integer", ["0", 1, 2], values=[0, 1])[1] == [(3, "must be one of [0, 1]")]


def test_targets_that_cannot_be_learned() -> None:
    rules = data({"y": {}})
    with pytest.raises(UserError, match="no rows"):
        checking.finish_table(pd.DataFrame({"y": []}), rules)
    with pytest.raises(UserError, match=r"only one value: 3\.0"):
        checking.finish_table(pd.DataFrame({"y": [3.0, 3.0]}), rules)
    binary = data({"y": {"type": "integer"}}, task="binary")
    with pytest.raises(UserError, match=r"must have two values\. Got 3 instead"):
        checking.finish_table(pd.DataFrame({"y": [0.0, 1.0, 2.0]}), binary)
    classes = data({"y": {}}, task="multiclass")
    with pytest.raises(UserError, match=r"Got 1.5 instead"):
        checking.finish_table(pd.DataFrame({"y": [1.0, 1.5]}), classes)


def test_classes_are_whole_numbers_or_texts() -> None:
    whole = checking.finish_table(pd.DataFrame({"y": [0.0, 1.0]}), data({"y": {}}, task="binary"))
    assert whole["y"].dtype == "int64"
    rules = data({"y": {"type": "category"}}, task="binary")
    texts = checking.finish_table(pd.DataFrame({"y": pd.Series(["no", "yes"], dtype="str")}), rules)
    assert texts["y"].tolist() == ["no", "yes"]
