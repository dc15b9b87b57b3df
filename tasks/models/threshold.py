"""From which probability on a row is taken for the positive class: the greater of two labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import Pipeline as Model

from tasks.pipeline.schema import TunedMetric

Counts = NDArray[np.float64]
TRUSTED_TYPES = (
    "sklearn.frozen._frozen.FrozenEstimator",
    "sklearn.model_selection._classification_threshold.FixedThresholdClassifier",
)
"""Read: they hold an estimator and pass calls on to it."""


def best(metric: TunedMetric, fitted: Any, features: Any, truth: ArrayLike) -> float:
    """The threshold with the greatest metric for these rows; of equal ones the nearest to 0.5."""
    chances = fitted.predict_proba(features)[:, -1]
    hit = np.asarray(truth) == fitted.classes_[-1]
    order = np.argsort(-chances, kind="stable")
    ranked = chances[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    # Between two probabilities, and above them all: the first candidate takes no row.
    edges = np.concatenate([[1.0], ranked[last], [0.0]])
    between = (edges[:-1] + edges[1:]) / 2
    true = np.append(0.0, np.cumsum(hit[order])[last])
    taken = np.append(0.0, last + 1.0)
    found = _METRICS[metric](true, taken, float(hit.sum()), float(len(hit)))
    possible = between > np.append(ranked[last], -1.0)  # not where a probability is 1 or 0
    greatest = np.flatnonzero(possible & (found >= found[possible].max() - 1e-12))
    return float(between[greatest[np.argmin(np.abs(between[greatest] - 0.5))]])


def applied(fitted: Model, threshold: float) -> Model:
    """The fitted model whose `predict` goes by the threshold; its probabilities stay."""
    prepare, estimator = fitted["prepare"], fitted["model"]
    classes = estimator.classes_
    fixed = FixedThresholdClassifier(
        FrozenEstimator(estimator),
        threshold=threshold,
        pos_label=classes[-1].item() if hasattr(classes[-1], "item") else classes[-1],
        response_method="predict_proba",
    )
    # What `fit` would set, without a call that MLflow's autolog takes for a training.
    fixed.estimator_ = fixed.estimator
    return Model([("prepare", prepare), ("model", fixed)])


def inner(estimator: Any) -> Any:
    """The family's estimator in one that `applied` may have wrapped."""
    if isinstance(estimator, FixedThresholdClassifier):
        return estimator.estimator_.estimator
    return estimator


def of(estimator: Any) -> float | None:
    """The threshold that `applied` gave an estimator."""
    fixed = isinstance(estimator, FixedThresholdClassifier)
    return float(estimator.threshold) if fixed else None


def _accuracy(true: Counts, taken: Counts, positives: float, rows: float) -> Counts:
    return (rows - positives - taken + 2 * true) / rows


def _f1(true: Counts, taken: Counts, positives: float, rows: float) -> Counts:  # noqa: ARG001
    return 2 * true / np.maximum(taken + positives, 1)


_METRICS: dict[str, Callable[[Counts, Counts, float, float], Counts]] = {
    "accuracy": _accuracy,
    "f1": _f1,
}
