"""Trials made up for tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tasks.records.trials.table import Trial

WHEN = datetime(2026, 1, 2, tzinfo=UTC)


def finished(
    tid: int,
    params: dict[str, Any],
    figure: float,
    metrics: dict[str, float],
    run_id: str | None = None,
) -> Trial:
    """A finished trial of a metric to minimize."""
    return Trial(
        tid=tid,
        vals={},
        outcome="finished",
        loss=figure,
        figure=figure,
        duration_s=metrics["duration_s"],
        deaths=0,
        params=params,
        metrics=metrics,
        error=None,
        warnings=None,
        began=WHEN,
        ended=WHEN,
        run_id=run_id,
    )
