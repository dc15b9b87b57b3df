"""Checks a pipeline's table: converts columns to the file's types and finds bad rows."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date, time, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
from numpy.typing import NDArray

from tasks.base.errors import UserError
from tasks.pipeline import schema
from tasks.pipeline.schema import Column, ColumnType, Data

TEXT = frozenset({"category", "string"})
_EXACT = 2.0**53
"""From here on, doubles skip whole numbers."""

Failures = pd.DataFrame
"""One line per broken rule: `row` (its number, from 1), `column`, `rule`, `value`."""


@dataclass(frozen=True)
class Validated:
    """Rows with the file's columns, in the file's types."""

    table: pd.DataFrame
    """A value that cannot be converted is null."""
    wrong: dict[str, NDArray[np.bool_]]
    """For each column with such values, which rows have them, `(rows,)`."""
    broken: Failures
    """The other broken rules."""


def validate(raw: pd.DataFrame, data: Data, required: Collection[str | None] = ()) -> Validated:
    """Check rows as they were read.

    Numbers and booleans become float64, categories and strings str, times datetime64[us] in UTC.

    Args:
        raw: The rows; their index is ignored, a missing column is all null.
        data: The rules.
        required: Columns that may not contain nulls even if the file says nullable.
    """
    raw = raw.reset_index(drop=True)
    typed: dict[str, pd.Series[Any]] = {}
    wrong, all_wrong = {}, set()
    for name, column in data.columns.items():
        values = raw[name] if name in raw.columns else pd.Series(None, raw.index, dtype=object)
        typed[name], mask = _COERCE[column.type](values)
        mask &= values.notna()
        if mask.any():
            wrong[name] = mask.to_numpy(dtype=bool)
            if mask.all():
                all_wrong.add(name)
    table = pd.DataFrame(typed, copy=False)  # nothing else holds the columns
    broken = _broken(table, data, {*required}, all_wrong)
    if len(broken):
        # A value of the wrong type is null by now, and needs no second failure.
        reported = np.zeros(len(broken), dtype=bool)
        for name, rows in wrong.items():
            reported |= (broken["column"] == name).to_numpy() & rows[broken["row"].to_numpy() - 1]
        broken = broken[~reported].drop_duplicates(["row", "column"])
    return Validated(table, wrong, broken)


def wrong_type_failures(raw: pd.Series[Any], kind: ColumnType, rows: NDArray[np.int64]) -> Failures:
    """The failures of a column's values in these rows, which have the wrong type."""
    return pd.DataFrame(
        {
            "row": rows + 1,
            "column": str(raw.name),
            "rule": f"must be {TYPE_WORDS[kind]}",
            "value": [text(value) for value in raw.iloc[rows]],
        }
    )


def finish_table(table: pd.DataFrame, data: Data) -> pd.DataFrame:
    """The valid table with its target in its final type: classes that are numbers become int64.

    Raises:
        UserError: There are no rows, or the task cannot use the target.
    """
    if table.empty:
        raise UserError("The table has no rows.", fix="Check the sources and data.bad_rows.")
    target = table[data.target]
    classes = target.nunique()
    if classes < 2:
        raise UserError(
            f"The target {data.target!r} has only one value: {target.iloc[0]}.",
            why="There is nothing to learn.",
            fix="Correct the source, or data.target.",
        )
    if data.task == "binary" and classes > 2:
        raise UserError(
            f"The target {data.target!r} of a binary task must have two values. "
            f"Got {classes} instead.",
            fix="Set data.task to multiclass, or correct the source.",
        )
    if data.task == "regression" or data.columns[data.target].type in TEXT:
        return table
    if (target % 1 != 0).any():
        raise UserError(
            f"The target {data.target!r} of a {data.task} task must be whole numbers or a "
            f"category. Got {target[target % 1 != 0].iloc[0]} instead.",
            fix="Set its type to category, or data.task to regression.",
        )
    return table.assign(**{data.target: target.astype("int64")})


def _broken(
    table: pd.DataFrame, data: Data, required: Collection[str | None], all_wrong: Collection[str]
) -> Failures:
    rules = pa.DataFrameSchema(
        {
            name: pa.Column(
                str(table[name].dtype),
                _checks(column),
                nullable=name in all_wrong or (column.nullable and name not in required),
            )
            for name, column in data.columns.items()
        },
        strict=True,
    )
    try:
        rules.validate(table, lazy=True, inplace=True)
    except pa.errors.SchemaErrors as err:
        cases = err.failure_cases
        return pd.DataFrame(
            {
                "row": cases["index"].astype("int64") + 1,
                "column": cases["column"],
                "rule": cases["check"].replace("not_nullable", "must not be null"),
                "value": [_null_or_text(value) for value in cases["failure_case"]],
            }
        )
    return pd.DataFrame({"row": [], "column": [], "rule": [], "value": []}).astype({"row": "int64"})


def _null_or_text(value: Any) -> str:
    return "null" if pd.isna(value) else text(value)


def _checks(column: Column) -> list[pa.Check]:
    checks = []
    if column.type in ("double", "integer"):
        checks.append(pa.Check(np.isfinite, error="must be finite"))
    if column.min is not None:
        checks.append(pa.Check.ge(column.min, error=f"must be at least {column.min:g}"))
    if column.max is not None:
        checks.append(pa.Check.le(column.max, error=f"must be at most {column.max:g}"))
    if column.values is not None:
        allowed = (
            column.categories if column.type in TEXT else [float(value) for value in column.values]
        )
        checks.append(pa.Check.isin(allowed, error=f"must be one of {list(column.values)}"))
    return checks


Coerced = tuple["pd.Series[Any]", "pd.Series[bool]"]
"""The typed column, and which values could not be converted (still including nulls)."""


def _double(raw: pd.Series[Any]) -> Coerced:
    numbers, wrong = _number(raw)
    if raw.dtype != object and not pd.api.types.is_bool_dtype(raw.dtype):
        return numbers, wrong
    # As numbers they would be zeros and ones that nobody measured. Next to nulls they are objects.
    booleans = _is_instance(raw, (bool, np.bool_))
    return numbers.mask(booleans), wrong | booleans


def _number(raw: pd.Series[Any]) -> Coerced:
    if raw.dtype.kind in "mM":  # times and durations
        return pd.Series(np.nan, index=raw.index), pd.Series(True, index=raw.index)
    numbers = pd.to_numeric(raw, errors="coerce").astype("float64")
    return numbers, numbers.isna()


def _is_instance(raw: pd.Series[Any], kinds: tuple[type, ...]) -> pd.Series[bool]:
    """Which values are instances of these classes."""
    return pd.Series([isinstance(value, kinds) for value in raw], raw.index, dtype=bool)


def _integer(raw: pd.Series[Any]) -> Coerced:
    numbers, wrong = _number(raw)
    wrong |= (numbers % 1 != 0) | (numbers.abs() >= _EXACT)
    return numbers.mask(wrong), wrong


def _boolean(raw: pd.Series[Any]) -> Coerced:
    numeric = raw if pd.api.types.is_numeric_dtype(raw.dtype) else raw.map(_truth, "ignore")
    numbers, wrong = _number(numeric)
    wrong |= ~numbers.isin([0.0, 1.0])
    return numbers.mask(wrong), wrong


def _truth(value: Any) -> Any:
    return _TRUTH.get(str(value).strip().lower(), value)


_TRUTH = {"true": 1, "false": 0, "t": 1, "f": 0}
"""PostgreSQL writes t and f."""


def _text(raw: pd.Series[Any]) -> Coerced:
    if raw.dtype == "str" or pd.api.types.is_numeric_dtype(raw.dtype):
        return _as_text(raw)
    wrong = _is_instance(raw, _NO_TEXT)
    return _as_text(raw.mask(wrong))[0], wrong


def _as_text(raw: pd.Series[Any]) -> Coerced:
    if raw.dtype == "str":
        return raw, pd.Series(False, index=raw.index)
    texts = raw.map(text, "ignore").astype("str")
    if not pd.api.types.is_float_dtype(raw.dtype):
        return texts, pd.Series(False, index=raw.index)
    # Such a large whole number may have been rounded when it became a double.
    wrong = raw.abs() >= _EXACT
    return texts.mask(wrong), wrong


_NO_TEXT = (date, time, timedelta, np.datetime64, list, tuple, dict, set, np.ndarray)
"""Times and nested values have no unique spelling; `date` includes `datetime` and `Timestamp`."""


def text(value: Any) -> str:
    """A category's name, also for NumPy's smaller floats."""
    if isinstance(value, np.floating) and value.is_integer():
        return str(int(value))
    return schema.text(value)


def _datetime(raw: pd.Series[Any]) -> Coerced:
    values = raw if pd.api.types.is_datetime64_any_dtype(raw.dtype) else _as_text(raw)[0]
    times = pd.to_datetime(values, errors="coerce", utc=True, format="ISO8601")
    naive = times.dt.tz_localize(None).astype("datetime64[us]")
    return naive, naive.isna()


_COERCE: dict[str, Callable[[pd.Series[Any]], Coerced]] = {
    "double": _double,
    "integer": _integer,
    "boolean": _boolean,
    "category": _text,
    "string": _text,
    "datetime": _datetime,
}
_TEXT = "text, or a number that has lost no digits (larger ones need quotes at the source)"
TYPE_WORDS = {
    "double": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "datetime": "a date or time in ISO 8601",
    "category": _TEXT,
    "string": _TEXT,
}
"""What a value must be, for messages."""
