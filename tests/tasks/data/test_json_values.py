from __future__ import annotations

import json
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd

from tasks.data import json_values


def test_numbers_keep_all_digits_and_missing_values_are_null() -> None:
    rows = pd.DataFrame(
        {
            "number": [1.23456789012345e-10, np.nan, np.inf],
            "whole": [1, 2, 3],
            "narrow": np.array([0.5, 1, 2], dtype="float32"),
            "text": pd.array(["a", None, "c"], dtype="str"),
            "time": pd.to_datetime(["2024-05-01T12:00:00Z", None, None]),
            "day": [date(2024, 5, 1), None, None],
            "price": [Decimal("1.5"), None, None],
        },
        index=[7, 9, 11],
    )

    content = json_values.as_split(rows)

    assert content == {
        "columns": ["number", "whole", "narrow", "text", "time", "day", "price"],
        "data": [
            [1.23456789012345e-10, 1, 0.5, "a", "2024-05-01T12:00:00+00:00", "2024-05-01", 1.5],
            [None, 2, 1.0, None, None, None, None],
            [None, 3, 2.0, "c", None, None, None],
        ],
    }
    assert json.loads(json.dumps(content, allow_nan=False)) == content
