"""How far a search is, from its table alone: no ML library is imported."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tasks.base.errors import UserError
from tasks.clients.database import connect
from tasks.pipeline import space
from tasks.pipeline.schema import Pipeline


@dataclass(frozen=True)
class Summary:
    """Counts of a search's trials, and the best of them."""

    asked: int
    finished: int
    failed: int
    killed: int
    best: float | None
    """The best figure, in the metric's unit."""
    best_trial: int | None
    best_params: Mapping[str, Any]
    errors: tuple[str, ...]
    """The first lines of the last few errors."""


def total(pipeline: Pipeline) -> int:
    """How many trials a search has when its time is not cut: a grid may have fewer than asked."""
    trials = pipeline.search.trials
    if pipeline.search.algorithm != "grid":
        return trials
    grid = space.grid(space.parse(pipeline.search.space))
    return min(trials, grid.size)


def untried(pipeline: Pipeline) -> str:
    """In words, what of a grid `trials` leaves out; empty when it is nothing."""
    if pipeline.search.algorithm != "grid":
        return ""
    trials, size = pipeline.search.trials, space.grid(space.parse(pipeline.search.space)).size
    return "" if trials >= size else f"{trials} trials leave out {size - trials} points of the grid"


def summary(search: str) -> Summary:
    """The state of the search whose parent run is `search`."""
    with closing(connect(application="progress")) as connection, connection.cursor() as cursor:
        cursor.execute(
            "select count(*), count(*) filter (where outcome = 'finished'),"
            " count(*) filter (where outcome = 'failed'),"
            " count(*) filter (where outcome = 'killed') from trial where search = %s",
            (search,),
        )
        asked, finished, failed, killed = cursor.fetchall()[0]
        cursor.execute(
            "select figure, tid, params from trial where search = %s and loss is not null"
            " order by loss, (metrics->>'duration_s')::float8, tid limit 1",
            (search,),
        )
        best, best_trial, best_params = next(iter(cursor.fetchall()), (None, None, {}))
        cursor.execute(
            "select tid, split_part(error, e'\\n', 1) from trial"
            " where search = %s and error is not null order by ended_at desc limit 3",
            (search,),
        )
        errors = tuple(f"trial {tid}: {error}" for tid, error in cursor.fetchall())
    return Summary(asked, finished, failed, killed, best, best_trial, best_params, errors)


def trial_params(search: str, tid: int, node: space.Node) -> dict[str, Any]:
    """The nested parameters of a trial."""
    with closing(connect(application="progress")) as connection, connection.cursor() as cursor:
        cursor.execute("select vals from trial where search = %s and tid = %s", (search, tid))
        found = cursor.fetchall()
    if not found:
        raise UserError(f"The 'trial' of search {search} must be one that was asked. Got {tid}.")
    return space.evaluate(node, found[0][0])
