"""Metrics as functions of how often each unit is drawn.

Nearly every metric is a function of a few sums over rows, so that 2,000 resamples of 100,000 rows
are matrix products of seconds, where 2,000 calls of scikit-learn are minutes.
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
"""How often each unit was drawn, `(resamples, units)`, to the metric, `(resamples,)`."""


def statistic(metric: str, found: Outcome, unit_of: NDArray[np.intp]) -> Statistic:
    """The metric as a function of how often each unit is drawn.

    `unit_of` is the unit of each row, 0 to units - 1, `(rows,)`.
    """
    if (base := WEIGHTED.get(metric, metric)) in _RANKED:
        figure_of_ranks = _RANKED[base]
        ranks = [_Ranks.of(found, one, unit_of) for one in metrics.ranked_classes(found)]
        if not ranks:
            return lambda counts: np.full(len(counts), np.nan)
        weighted = metric in WEIGHTED

        def mean(draw: Floats) -> float:
            each = [one.drawn(draw) for one in ranks]
            if not weighted:
                return float(np.mean([figure_of_ranks(*one) for one in each]))
            counted = [(hits, others) for hits, others in each if hits.any()]
            rows = [hits.sum() for hits, _ in counted]
            return float(np.average([figure_of_ranks(*one) for one in counted], weights=rows))

        return lambda counts: np.array([mean(draw) for draw in counts])
    if metric not in _COLUMNS:
        return lambda counts: np.array(
            [metrics.score(metric, found, drawn[unit_of]) for drawn in counts]
        )
    columns, figure = _COLUMNS[metric]
    sums = np.stack([np.bincount(unit_of, weights=column) for column in columns(found)], axis=1)
    return lambda counts: figure(counts @ sums)


def score(metric: str, found: Outcome) -> float:
    """The metric of all rows, each counted once."""
    rows = np.arange(len(found.truth))
    return float(statistic(metric, found, rows)(np.ones((1, len(rows))))[0])


def _mean_of(loss: Callable[[Outcome], Any]) -> Callable[[Outcome], list[Floats]]:
    return lambda found: [
        np.ones(len(found.truth)),
        np.asarray(loss(found), dtype=np.float64),
    ]


def _mean(sums: Floats) -> Floats:
    return np.asarray(sums[:, 1] / sums[:, 0])


def _square(found: Outcome) -> Any:
    return (found.truth - found.predicted) ** 2


def _log_loss(found: Outcome) -> Any:
    given = found.probabilities[np.arange(len(found.truth)), found.truth]
    smallest = np.finfo(given.dtype).eps
    return -np.log(np.clip(given, smallest, 1 - smallest))


def _r2_columns(found: Outcome) -> list[Floats]:
    # Centred, or the difference of the squares would lose its digits.
    centred = found.truth - found.truth.mean()
    return [np.ones(len(centred)), _square(found), centred, centred**2]


def _r2(sums: Floats) -> Floats:
    rows, residual, first, second = sums.T
    total = second - first**2 / rows
    constant = total <= 0
    ratio = residual / np.where(constant, 1.0, total)
    return np.where(constant, np.where(residual == 0, 1.0, 0.0), 1 - ratio)


def _label_columns(found: Outcome) -> list[Floats]:
    """For each class: rows that are of it and were found, are of it, were found."""
    columns: list[Floats] = []
    for label in metrics.averaged_classes(found):
        true, said = found.truth == label, found.predicted == label
        columns += [(true & said) * 1.0, true * 1.0, said * 1.0]
    return columns


def _of_labels(
    figure: Callable[[Floats, Floats, Floats], Floats], *, weighted: bool = False
) -> Callable[[Floats], Floats]:
    def mean(sums: Floats) -> Floats:
        hits, true, said = sums[:, ::3], sums[:, 1::3], sums[:, 2::3]
        weights = true if weighted else np.ones_like(true)
        total = weights.sum(axis=1)
        return np.asarray((figure(hits, true, said) * weights).sum(axis=1) / np.maximum(total, 1))

    return mean


def _share(part: Floats, whole: Floats) -> Floats:
    return np.asarray(part / np.where(whole == 0, 1.0, whole))


def _f1(hits: Floats, true: Floats, said: Floats) -> Floats:
    return _share(2 * hits, true + said)


def _precision(hits: Floats, _true: Floats, said: Floats) -> Floats:
    return _share(hits, said)


def _recall(hits: Floats, true: Floats, _said: Floats) -> Floats:
    return _share(hits, true)


_COLUMNS: dict[str, tuple[Callable[[Outcome], list[Floats]], Callable[[Floats], Floats]]] = {
    "mse": (_mean_of(_square), _mean),
    "rmse": (_mean_of(_square), lambda sums: np.sqrt(_mean(sums))),
    "mae": (_mean_of(lambda found: np.abs(found.truth - found.predicted)), _mean),
    "r2": (_r2_columns, _r2),
    "accuracy": (_mean_of(lambda found: found.truth == found.predicted), _mean),
    "log_loss": (_mean_of(_log_loss), _mean),
    "brier": (_mean_of(metrics.squared_errors), _mean),
    "f1": (_label_columns, _of_labels(_f1)),
    "f1_weighted": (_label_columns, _of_labels(_f1, weighted=True)),
    "precision": (_label_columns, _of_labels(_precision)),
    "precision_weighted": (_label_columns, _of_labels(_precision, weighted=True)),
    "recall": (_label_columns, _of_labels(_recall)),
    "recall_weighted": (_label_columns, _of_labels(_recall, weighted=True)),
}


@dataclass(frozen=True)
class _Ranks:
    """Rows of one class against the others, the likeliest first: sorted once for all draws."""

    units: NDArray[np.intp]
    positive: NDArray[np.bool_]
    begins: NDArray[np.intp]
    """Where the rows of each probability begin: equal ones have no order among them."""

    @classmethod
    def of(cls, found: Outcome, label: int, unit_of: NDArray[np.intp]) -> _Ranks:
        chances = found.probabilities[:, label]
        order = np.argsort(-chances, kind="stable")
        begins = np.flatnonzero(np.diff(chances[order], prepend=np.inf))
        return cls(unit_of[order], (found.truth == label)[order], begins)

    def drawn(self, counts: Floats) -> tuple[Floats, Floats]:
        """Rows of the class and others, at each probability."""
        rows = counts[self.units]
        hits = np.add.reduceat(rows * self.positive, self.begins)
        return hits, np.add.reduceat(rows, self.begins) - hits


def _auc(hits: Floats, others: Floats) -> float:
    pairs = hits.sum() * others.sum()
    lower = others.sum() - np.cumsum(others)
    return float(np.sum(hits * (lower + others / 2)) / pairs) if pairs else float("nan")


def _average_precision(hits: Floats, others: Floats) -> float:
    found, total = np.cumsum(hits), hits.sum()
    figure = np.sum(hits * _share(found, found + np.cumsum(others)))
    return float(figure / total) if total else float("nan")


_RANKED = {"auc": _auc, "average_precision": _average_precision}
