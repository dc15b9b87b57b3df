"""The gate's benchmark on a few cases: what it prints comes from the gate's own functions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks import gate
from tasks.base.settings import Settings
from tasks.models import parameters
from tasks.pipeline.load import load


def test_a_line_of_the_table(servers: Settings) -> None:
    pipeline = load("diabetes_progression")
    families = len(parameters.default_points(pipeline))
    with ThreadPoolExecutor(1) as pool:
        line = gate.measure(pipeline.name, 2 * families, cast("Any", pool))
    name, metric, shown, units, *shares = (cell.strip() for cell in line.strip("| ").split("|"))
    assert (name, metric, int(shown)) == (f"`{pipeline.name}`", "rmse", families)
    tested, trained = map(int, units.split(","))
    assert tested / (tested + 2 * trained) == pytest.approx(pipeline.split.test, abs=0.01)
    narrow, wide, detectable, power = (float(share.split()[0]) for share in shares)
    assert wide <= narrow < power
    assert detectable > 0


def test_what_is_detectable_is_the_mean_of_what_the_decisions_name() -> None:
    def case(standard: float) -> Any:
        def improvement(_pipeline: object, better: float, _resamples: int) -> Any:
            return SimpleNamespace(estimate=better * 10, detectable=standard)

        return SimpleNamespace(improvement=improvement)

    share = gate.detectable(cast("Any", None), [case(2.0), case(4.0)])
    assert share == pytest.approx(0.3, abs=1e-3)
