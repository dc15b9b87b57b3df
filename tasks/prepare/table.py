"""The one table of a pipeline: its columns as the file says, its bad rows found with pandera."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa

from tasks.errors import UserError
from tasks.pipeline.schema import Column, Data

TEXT = frozenset({"category", "string"})
_EXACT = 2.0**53
"""From here on a double skips whole numbers."""

Failures = pd.DataFrame
"""One line a broken rule: `row` (its number, from 1), `column`, `rule`, `value`."""


def check_columns(found: Sequence[str], data: Data, where: str) -> None:
    """Whether a table has the columns of the pipeline, and no others.

    Raises:
        UserError: schema drift, all of it in one message.
    """
    wrong = []
    for name in data.columns:
        if name not in found:
            near = difflib.get_close_matches(name, [c for c in found if c not in data.columns], 1)
            wrong.append(f"column {name!r} is missing" + (f" (is it {near[0]!r}?)" if near else ""))
    wrong += [f"column {name!r} is unknown" for name in found if name not in data.columns]
    wrong += [
        f"column {name!r} is there twice" for name in dict.fromkeys(found) if found.count(name) > 1
    ]
    if wrong:
        raise UserError(
            f"{where} does not have the columns of the pipeline.",
            why="; ".join(wrong) + ".",
            fix="Correct the source, its read options, or data.columns in the pipeline file.",
        )


def validate(
    raw: pd.DataFrame, data: Data, required: Collection[str | None] = ()
) -> tuple[pd.DataFrame, Failures]:
    """The table with the file's columns in the file's types, and every broken rule.

    Numbers and booleans become float64, categories and strings str, times datetime64[us] in UTC.
    A value that cannot be its type is null in the table and a line in the failures.

    Args:
        raw: The table as it was read; its index is not looked at.
        data: The rules.
        required: Columns that may not hold nulls even where the file says nullable.
    """
    raw = raw.reset_index(drop=True)
    typed: dict[str, pd.Series[Any]] = {}
    failures = []
    for name, column in data.columns.items():
        typed[name], wrong = _COERCE[column.type](raw[name])
        wrong &= raw[name].notna()
        if wrong.any():
            failures.append(
                pd.DataFrame(
                    {
                        "row": np.flatnonzero(wrong) + 1,
                        "column": name,
                        "rule": f"must be {_TYPE_WORDS[column.type]}",
                        "value": [text(value) for value in raw.loc[wrong, name]],
                    }
                )
            )
    table = pd.DataFrame(typed, copy=False)  # nothing else holds the columns
    failures.append(_broken(table, data, required))
    # A value of the wrong type is null by now: the first line says why, so no second one.
    found = pd.concat(failures, ignore_index=True).drop_duplicates(["row", "column"])
    return table, found.sort_values("row", kind="stable", ignore_index=True)


def finished(table: pd.DataFrame, data: Data) -> pd.DataFrame:
    """The valid table with its target in its final type: whole-number classes are int64.

    Raises:
        UserError: no rows, or a target that its task cannot use.
    """
    if table.empty:
        raise UserError("The table has no rows.", fix="Look at the sources and at data.bad_rows.")
    target = table[data.target]
    classes = target.nunique()
    if classes < 2:
        raise UserError(
            f"The target {data.target!r} has one value only: {target.iloc[0]}.",
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


def _broken(table: pd.DataFrame, data: Data, required: Collection[str | None]) -> Failures:
    schema = pa.DataFrameSchema(
        {
            name: pa.Column(
                str(table[name].dtype),
                _checks(column),
                nullable=column.nullable and name not in required,
            )
            for name, column in data.columns.items()
        },
        strict=True,
    )
    try:
        schema.validate(table, lazy=True, inplace=True)
    except pa.errors.SchemaErrors as err:
        cases = err.failure_cases
        return pd.DataFrame(
            {
                "row": cases["index"].astype("int64") + 1,
                "column": cases["column"],
                "rule": cases["check"].replace("not_nullable", "must not be null"),
                "value": [_shown(value) for value in cases["failure_case"]],
            }
        )
    return pd.DataFrame({"row": [], "column": [], "rule": [], "value": []}).astype({"row": "int64"})


def _shown(value: Any) -> str:
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
        kind: Callable[[Any], Any] = text if column.type in TEXT else float
        allowed = [kind(value) for value in column.values]
        checks.append(pa.Check.isin(allowed, error=f"must be one of {list(column.values)}"))
    return checks


Coerced = tuple["pd.Series[Any]", "pd.Series[bool]"]
"""The typed column, and which of its values have no such type (nulls are sorted out later)."""


def _double(raw: pd.Series[Any]) -> Coerced:
    if pd.api.types.is_datetime64_any_dtype(raw.dtype):
        return pd.Series(np.nan, index=raw.index), pd.Series(True, index=raw.index)
    numbers = pd.to_numeric(raw, errors="coerce").astype("float64")
    return numbers, numbers.isna()


def _integer(raw: pd.Series[Any]) -> Coerced:
    numbers, wrong = _double(raw)
    wrong |= (numbers % 1 != 0) | (numbers.abs() >= _EXACT)
    return numbers.mask(wrong), wrong


def _boolean(raw: pd.Series[Any]) -> Coerced:
    words = raw if pd.api.types.is_numeric_dtype(raw.dtype) else raw.map(_truth, "ignore")
    numbers, wrong = _double(words)
    wrong |= ~numbers.isin([0.0, 1.0])
    return numbers.mask(wrong), wrong


def _truth(value: Any) -> Any:
    return {"true": 1, "false": 0}.get(str(value).strip().lower(), value)


def _text(raw: pd.Series[Any]) -> Coerced:
    texts = raw if raw.dtype == "str" else raw.map(text, "ignore").astype("str")
    return texts, pd.Series(False, index=raw.index)


def text(value: Any) -> str:
    """A category's name; 3.0 is "3", as whole numbers beside a null are read as doubles."""
    if isinstance(value, (float, np.floating)) and value.is_integer():
        return str(int(value))
    return str(value)


def _datetime(raw: pd.Series[Any]) -> Coerced:
    values = raw if pd.api.types.is_datetime64_any_dtype(raw.dtype) else _text(raw)[0]
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
_TYPE_WORDS = {
    "double": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "datetime": "a date or time in ISO 8601",
}
