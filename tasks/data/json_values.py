"""A table's values as JSON has them; pandas' own `to_json` cuts numbers off after 15 decimals."""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal
from typing import Any

import pandas as pd


def values(rows: pd.DataFrame) -> list[list[Any]]:
    """The rows: numbers in full, times in ISO 8601, null for what is missing or not finite."""
    found: list[list[Any]] = rows.astype(object).where(rows.notna(), None).to_numpy().tolist()
    return [[_plain(value) for value in row] for row in found]


def as_split(rows: pd.DataFrame) -> dict[str, Any]:
    """The rows as a `dataframe_split`."""
    return {"columns": list(rows.columns), "data": values(rows)}


def _plain(value: Any) -> Any:
    if isinstance(value, date):  # a time is one, too
        return value.isoformat()
    number = float(value) if isinstance(value, Decimal) else value
    return None if isinstance(number, float) and not math.isfinite(number) else number
