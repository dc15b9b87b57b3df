"""The trials of a search as PostgreSQL holds them, and their ranking. Imports no ML library."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from tasks.clients import database
from tasks.pipeline.nodes import ESTIMATOR

ROW = "tid, vals, outcome, loss, figure, coalesce((metrics->>'duration_s')::float8, 0), deaths"
"""What to select for a `Row`, in the order of its fields."""
COLUMNS = f"{ROW}, params, coalesce(metrics, '{{}}'), error, warnings, began_at, ended_at, run_id"
"""What to select for a `Trial`, in the order of its fields; `curves` can follow."""


@dataclass(frozen=True)
class Row:
    """What a search needs to know of a trial that was asked."""

    tid: int
    vals: dict[str, Any]
    """The point, by hyperopt's labels."""
    outcome: str | None
    """`finished`, `failed` or `killed`; None until it is recorded."""
    loss: float | None
    """Lower is better; only a finished trial has one."""
    figure: float | None
    """The metric that the search compares; only a finished trial has one."""
    duration_s: float
    """Seconds that the trial took; 0 until it is recorded."""
    deaths: int
    """How often it killed its process."""


@dataclass(frozen=True)
class Trial(Row):
    """All that is kept of a trial."""

    params: dict[str, Any]
    """The point, as flat parameters."""
    metrics: dict[str, float]
    error: str | None
    warnings: str | None
    began: datetime | None
    ended: datetime | None
    run_id: str | None
    """The child run, once published."""
    curves: dict[str, list[float]] = field(default_factory=dict)
    """Figures of each epoch, by name."""

    @property
    def family(self) -> str:
        """The model family."""
        return str(self.params[ESTIMATOR])

    @property
    def own(self) -> dict[str, Any]:
        """The parameters without the family."""
        return {name: value for name, value in self.params.items() if name != ESTIMATOR}

    @property
    def score(self) -> float:
        """The figure of a finished trial."""
        assert self.figure is not None
        return self.figure


R = TypeVar("R", bound=Row)


def read(search: str, *, curves: bool = False) -> list[Trial]:
    """The asked trials of the search whose parent run is `search`, by number.

    Args:
        search: Id of the parent run.
        curves: Whether to read the curves, which are long.
    """
    columns = f"{COLUMNS}, curves" if curves else COLUMNS
    sql = f"select {columns} from trial where search = %s order by tid"  # noqa: S608 - our own text
    with closing(database.connect(application="trials")) as connection:
        return [Trial(*row) for row in database.query(connection, sql, search)]


def ranked(trials: Iterable[R]) -> list[R]:
    """The finished trials, best first; ties go to the shorter, then the earlier trial."""
    finished = (trial for trial in trials if trial.loss is not None)
    return sorted(finished, key=lambda trial: (trial.loss, trial.duration_s, trial.tid))


def shown(value: object) -> str:
    """A parameter's value for people: floats with four digits, the rest as in the pipeline file."""
    if isinstance(value, str):
        return value
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)
