"""The trials of a search as its report sees them, from the search's table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.clients import database
from tasks.pipeline import space
from tasks.pipeline.nodes import ESTIMATOR, Choice, Group, Parameter

ABSENT = object()
"""The value of a parameter that a trial's branch of the space does not have."""


@dataclass(frozen=True)
class Trial:
    """One recorded trial; `figure` is None for one that did not finish."""

    tid: int
    params: dict[str, Any]
    outcome: str
    figure: float | None
    loss: float | None
    metrics: dict[str, float]
    error: str | None
    warnings: str | None
    run_id: str | None
    curves: dict[str, list[float]]
    """Figures of each epoch, by name."""

    @property
    def family(self) -> str:
        """The model family."""
        return str(self.params[ESTIMATOR])

    @property
    def score(self) -> float:
        """The figure of a finished trial."""
        assert self.figure is not None
        return self.figure

    @property
    def own(self) -> dict[str, Any]:
        """The parameters without the family."""
        return {name: value for name, value in self.params.items() if name != ESTIMATOR}


@dataclass(frozen=True)
class Column:
    """A parameter over trials: its values in their order, `ABSENT` where there is none."""

    name: str
    log: bool
    values: tuple[Any, ...]

    @property
    def texts(self) -> list[str]:
        """The values that are no numbers, as text, `ABSENT` as a dash; sorted."""
        return sorted({shown(value) for value in self.values if not is_number(value)})

    def numbers(self) -> NDArray[np.float64]:
        """One number a trial, `(trials,)`: logarithms where the space has them, and below all
        numbers one for each text.
        """
        found = [value for value in self.values if is_number(value)]
        scaled = {value: np.log10(value) if self.log else float(value) for value in found}
        lowest = min(scaled.values(), default=0.0)
        below = {text: lowest - 1.0 - place for place, text in enumerate(self.texts)}
        return np.array(
            [scaled[v] if is_number(v) else below[shown(v)] for v in self.values], dtype=float
        )


def read(search: str) -> list[Trial]:
    """The recorded trials of the search whose parent run is `search`, by number."""
    with closing(database.connect(application="report")) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "select tid, params, outcome, figure, loss, metrics, error, warnings, run_id, curves"
            " from trial where search = %s and outcome is not null order by tid",
            (search,),
        )
        return [Trial(*row) for row in cursor.fetchall()]


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """The finished ones, best first; ties go to the shorter, then the earlier."""
    finished = [trial for trial in trials if trial.loss is not None]
    return sorted(finished, key=lambda one: (one.loss, one.metrics["duration_s"], one.tid))


def families(ranking: Sequence[Trial]) -> dict[str, list[Trial]]:
    """The finished trials of each family, the family with the best trial first."""
    found: dict[str, list[Trial]] = {}
    for trial in ranking:
        found.setdefault(trial.family, []).append(trial)
    return found


def varying(trials: Sequence[Trial], logs: set[tuple[str, str]]) -> list[Column]:
    """The parameters of trials of one family that do not have one value in all of them."""
    names = dict.fromkeys(name for trial in trials for name in trial.own)
    columns = []
    for name in names:
        values = tuple(trial.own.get(name, ABSENT) for trial in trials)
        if len({json.dumps(v) if v is not ABSENT else "" for v in values}) > 1:
            log = (trials[0].family, name) in logs and all(v > 0 for v in values if is_number(v))
            columns.append(Column(name, log, values))
    return columns


def log_scaled(node: space.Node) -> set[tuple[str, str]]:
    """Family and flat name of each parameter whose values the space spreads over a log scale."""
    return {
        (space.family(option), name) for option in space.options(node) for name in _logs(option, "")
    }


def _logs(node: space.Node, name: str) -> Iterator[str]:
    if isinstance(node, Parameter) and "log" in node.distribution.name:
        yield name
    elif isinstance(node, Choice):
        for option in node.options:
            yield from _logs(option, name)
    elif isinstance(node, Group) and node.keys is not None:
        for key, item in zip(node.keys, node.items, strict=True):
            yield from _logs(item, f"{name}.{key}" if name else key)


def is_number(value: object) -> bool:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(value: object) -> str:
    """A value as people read it."""
    if value is ABSENT:
        return "–"  # noqa: RUF001 - a dash
    if isinstance(value, str):
        return value
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)
