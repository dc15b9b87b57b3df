"""The finished trials of a pipeline's newest run, best first, while its search runs and after."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tasks.base.commands import typed
from tasks.base.errors import UserError
from tasks.base.refs import RunRef
from tasks.clients import database, tracking
from tasks.pipeline.nodes import ESTIMATOR
from tasks.records import resolved


@dataclass(frozen=True)
class Place:
    """One finished trial."""

    trial: int
    estimator: str
    params: dict[str, Any]
    validation: float
    training: float | None
    duration_s: float
    run_id: str | None
    """The child run, once published."""


@dataclass(frozen=True)
class Leaderboard:
    """The ranking of one search."""

    metric: str
    run_id: str
    """The parent run."""
    places: tuple[Place, ...]


def newest(name: str) -> Leaderboard:
    """The leaderboard of the pipeline's newest run.

    Raises:
        UserError: The pipeline was never run.
    """
    run = tracking.find_run(name, tracking.NAME, name)
    if run is None:
        raise UserError(f"{name} was never trained.", fix=typed(f"run {name}"))
    return of_run(tracking.reference(run))


def of_run(run: RunRef) -> Leaderboard:
    """The leaderboard of one run; ties go to the shorter, then the earlier trial."""
    metric = resolved.read(run.pipeline).metric.name
    with closing(database.connect(application="leaderboard")) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "select tid, params, figure, metrics, run_id from trial"
            " where search = %s and outcome = 'finished'"
            " order by loss, (metrics->>'duration_s')::float8, tid",
            (run.run_id,),
        )
        places = tuple(
            Place(
                trial=tid,
                estimator=params.pop(ESTIMATOR),
                params=params,
                validation=figure,
                training=figures.get(f"training_{metric}"),
                duration_s=figures["duration_s"],
                run_id=child,
            )
            for tid, params, figure, figures, child in cursor.fetchall()
        )
    return Leaderboard(metric, run.run_id, places)
