"""What the training part's columns hold, for the manifest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.prepare.snapshot import Categories, Numbers, Statistics, Times

MOST_FREQUENT = 100
"""Values of a text column that are counted by name."""


def describe(table: pd.DataFrame, rows: NDArray[np.intp]) -> dict[str, Statistics]:
    """Statistics of each column in these rows, one column after the other to save memory."""
    return {str(name): _column(table[name].iloc[rows]) for name in table.columns}


def _column(column: pd.Series[Any]) -> Statistics:
    count = int(column.count())
    nulls = len(column) - count
    if pd.api.types.is_datetime64_dtype(column.dtype):
        return Times(count=count, nulls=nulls, min=_time(column.min()), max=_time(column.max()))
    if pd.api.types.is_numeric_dtype(column.dtype):
        quartiles = column.quantile([0.25, 0.5, 0.75])
        return Numbers(
            count=count,
            nulls=nulls,
            mean=_number(column.mean()),
            std=_number(column.std()),
            min=_number(column.min()),
            q25=_number(quartiles[0.25]),
            median=_number(quartiles[0.5]),
            q75=_number(quartiles[0.75]),
            max=_number(column.max()),
        )
    counts = column.value_counts()
    counts.index = counts.index.astype("str")
    counts = counts[counts > 0].sort_index().sort_values(ascending=False, kind="stable")
    top = {str(value): int(times) for value, times in counts.head(MOST_FREQUENT).items()}
    return Categories(count=count, nulls=nulls, distinct=len(counts), counts=top)


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def _time(value: Any) -> Any:
    return None if pd.isna(value) else value.to_pydatetime()
