"""Metrics as functions of how often each unit is drawn.

Nearly every metric is a function of a few sums over rows. Then 2,000 resamples of 100,000 rows are
matrix products that take seconds, while 2,000 calls of scikit-learn take minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.models import metrics
from tasks.models.metrics import Outcome
from tasks.pipeline.metrics import WEIGHTED

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""From how often each unit was drawn, `(resamples, units)`, to the metric, `(resamples,)`."""


def statistic(metric: str, outcome: Outcome, unit_of_row: NDArray[np.intp]) -> Statistic:
    """The metric as a function of how often each unit is drawn.

    `unit_of_row` holds the unit of each row, 0 to units - 1, `(rows,)`.
    """
    base = WEIGHTED.get(metric, metric)
    if base in _RANKED:
        return _ranked_statistic(_RANKED[base], outcome, unit_of_row, weighted=metric in WEIGHTED)
    if metric not in _COLUMNS:
        return lambda counts: np.array(
            [metrics.score(metric, outcome, draw[unit_of_row]) for draw in counts]
        )
    columns, figure = _COLUMNS[metric]
    sums = np.stack(
        [np.bincount(unit_of_row, weights=column) for column in columns(outcome)], axis=1
    )
    return lambda counts: figure(counts @ sums)


def score(metric: str, outcome: Outcome) -> float:
    """The metric of all rows, each counted once."""
    rows = np.arange(len(outcome.truth))
    return float(statistic(metric, outcome, rows)(np.ones((1, len(rows))))[0])


def _mean_columns(loss: Callable[[Outcome], Any]) -> Callable[[Outcome], list[Floats]]:
    return lambda outcome: [
        np.ones(len(outcome.truth)),
        np.asarray(loss(outcome), dtype=np.float64),
    ]


def _mean(sums: Floats) -> Floats:
    return np.asarray(sums[:, 1] / sums[:, 0])


def _square(outcome: Outcome) -> Any:
    return (outcome.truth - outcome.predicted) ** 2


def _log_loss(outcome: Outcome) -> Any:
    chances = outcome.probabilities[np.arange(len(outcome.truth)), outcome.truth]
    smallest = np.finfo(chances.dtype).eps
    return -np.log(np.clip(chances, smallest, 1 - smallest))


def _r2_columns(outcome: Outcome) -> list[Floats]:
    # Centred, because the difference of large squares would lose digits.
    centred = outcome.truth - outcome.truth.mean()
    return [np.ones(len(centred)), _square(outcome), centred, centred**2]


def _r2(sums: Floats) -> Floats:
    rows, residual, first, second = sums.T
    total = second - first**2 / rows
    constant = total <= 0
    ratio = residual / np.where(constant, 1.0, total)
    return np.where(constant, np.where(residual == 0, 1.0, 0.0), 1 - ratio)


def _label_columns(outcome: Outcome) -> list[Floats]:
    """For each class: true positives, rows of the class, and rows predicted as the class."""
    columns: list[Floats] = []
    for label in metrics.averaged_classes(outcome):
        true, predicted = outcome.truth == label, outcome.predicted == label
        columns += [(true & predicted) * 1.0, true * 1.0, predicted * 1.0]
    return columns


def _share(part: Floats, whole: Floats) -> Floats:
    return np.asarray(part / np.where(whole == 0, 1.0, whole))


_LABELS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "f1": lambda hits, true, predicted: _share(2 * hits, true + predicted),
    "precision": lambda hits, _true, predicted: _share(hits, predicted),
    "recall": lambda hits, true, _predicted: _share(hits, true),
}


def _label_statistic(metric: str, *, weighted: bool) -> Callable[[Floats], Floats]:
    """The mean over the classes, or the mean weighted by their rows, from `_label_columns`."""

    def mean(sums: Floats) -> Floats:
        hits, true, predicted = sums[:, ::3], sums[:, 1::3], sums[:, 2::3]
        weights = true if weighted else np.ones_like(true)
        total = (_LABELS[metric](hits, true, predicted) * weights).sum(axis=1)
        return np.asarray(total / np.maximum(weights.sum(axis=1), 1))

    return mean


_COLUMNS: dict[str, tuple[Callable[[Outcome], list[Floats]], Callable[[Floats], Floats]]] = {
    "mse": (_mean_columns(_square), _mean),
    "rmse": (_mean_columns(_square), lambda sums: np.sqrt(_mean(sums))),
    "mae": (_mean_columns(lambda outcome: np.abs(outcome.truth - outcome.predicted)), _mean),
    "r2": (_r2_columns, _r2),
    "accuracy": (_mean_columns(lambda outcome: outcome.truth == outcome.predicted), _mean),
    "log_loss": (_mean_columns(_log_loss), _mean),
    "brier": (_mean_columns(metrics.squared_errors), _mean),
    **{
        name: (_label_columns, _label_statistic(base, weighted=name in WEIGHTED))
        for name, base in [*((base, base) for base in _LABELS), *WEIGHTED.items()]
        if base in _LABELS
    },
}


@dataclass(frozen=True)
class _Ranks:
    """Rows of one class and of the others, the likeliest first; sorted once for all draws."""

    units: NDArray[np.intp]
    positive: NDArray[np.bool_]
    begins: NDArray[np.intp]
    """Where the rows of each probability begin; rows with equal ones are not ordered."""

    @classmethod
    def sort(cls, outcome: Outcome, label: int, unit_of_row: NDArray[np.intp]) -> _Ranks:
        chances = outcome.probabilities[:, label]
        order = np.argsort(-chances, kind="stable")
        begins = np.flatnonzero(np.diff(chances[order], prepend=np.inf))
        return cls(unit_of_row[order], (outcome.truth == label)[order], begins)

    def count(self, counts: Floats) -> tuple[Floats, Floats]:
        """How many rows of the class, and of the others, have each probability."""
        rows = counts[self.units]
        hits = np.add.reduceat(rows * self.positive, self.begins)
        return hits, np.add.reduceat(rows, self.begins) - hits


def _ranked_statistic(
    figure: Callable[[Floats, Floats], float],
    outcome: Outcome,
    unit_of_row: NDArray[np.intp],
    *,
    weighted: bool,
) -> Statistic:
    """The mean of a metric of ranks over the classes, or the mean weighted by their rows."""
    labels = metrics.ranked_classes(outcome)
    classes = [_Ranks.sort(outcome, label, unit_of_row) for label in labels]
    if not classes:
        return lambda counts: np.full(len(counts), np.nan)

    def mean(draw: Floats) -> float:
        drawn = [ranks.count(draw) for ranks in classes]
        if not weighted:
            return float(np.mean([figure(hits, others) for hits, others in drawn]))
        drawn = [(hits, others) for hits, others in drawn if hits.any()]
        figures = [figure(hits, others) for hits, others in drawn]
        return float(np.average(figures, weights=[hits.sum() for hits, _ in drawn]))

    return lambda counts: np.array([mean(draw) for draw in counts])


def _auc(hits: Floats, others: Floats) -> float:
    pairs = hits.sum() * others.sum()
    lower = others.sum() - np.cumsum(others)
    return float(np.sum(hits * (lower + others / 2)) / pairs) if pairs else float("nan")


def _average_precision(hits: Floats, others: Floats) -> float:
    above, total = np.cumsum(hits), hits.sum()
    figure = np.sum(hits * _share(above, above + np.cumsum(others)))
    return float(figure / total) if total else float("nan")


_RANKED = {"auc": _auc, "average_precision": _average_precision}
