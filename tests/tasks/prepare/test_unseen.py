from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.pipeline.schema import Pipeline
from tasks.prepare import unseen

SIDE = np.array([0, 0, 1, 1, 2, 2], dtype=np.int8)


def counted(make: Callable[..., Pipeline], cells: list[Any], **rules: Any) -> dict[str, Any]:
    columns = {"b": {"type": "category", "nullable": True, **rules}, "y": {}}
    table = pd.DataFrame({"b": pd.Series(cells, dtype="str"), "y": 1.0})
    return unseen.count(make({"columns": columns}), table, SIDE)


def test_rows_with_a_category_missing_from_train_are_counted(
    make_pipeline: Callable[..., Pipeline],
) -> None:
    assert counted(make_pipeline, ["r", "w", "r", "new", "new", "other"]) == {
        "validation": {"b": 1},
        "test": {"b": 2},
    }
    assert counted(make_pipeline, ["r", "w", "r", "w", "new", "r"]) == {"test": {"b": 1}}


def test_nulls_and_declared_categories_are_not_unseen(
    make_pipeline: Callable[..., Pipeline],
) -> None:
    assert counted(make_pipeline, ["r", "w", None, "w", None, "r"]) == {}
    assert counted(make_pipeline, ["r", "r", "w", "w", "w", "r"], values=["r", "w"]) == {}


def test_the_log_and_the_tag_say_so(caplog: pytest.LogCaptureFixture) -> None:
    manifest: Any = SimpleNamespace(
        unseen={"test": {f"c{number}": number for number in range(1, 100)}},
        files={"test": SimpleNamespace(rows=500)},
    )
    with caplog.at_level(logging.WARNING):
        unseen.warn(manifest)
    assert "7 of 500 rows of the test part have a category in 'c7'" in caplog.text
    assert unseen.tag(manifest).startswith('{"test": {"c99": 99, "c98": 98, ')
    assert len(unseen.tag(manifest)) < 1000
