"""A table's values for JSON; pandas' own `to_json` truncates numbers after 15 decimals."""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal
from typing import Any

import pandas as pd


def values(rows: pd.DataFrame) -> list[list[Any]]:
    """The rows: numbers in full, times in ISO 8601, null for what is missing or not finite."""
    cells: list[list[Any]] = rows.astype(object).where(rows.notna(), None).to_numpy().tolist()
    return [[_json_value(value) for value in row] for row in cells]


def as_split(rows: pd.DataFrame) -> dict[str, Any]:
    """The rows as a `dataframe_split`."""
    return {"columns": list(rows.columns), "data": values(rows)}


def _json_value(value: Any) -> Any:
    if isinstance(value, date):  # includes datetime
        return value.isoformat()
    number = float(value) if isinstance(value, Decimal) else value
    return None if isinstance(number, float) and not math.isfinite(number) else number
