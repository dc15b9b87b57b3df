"""The probability from which a row counts as positive, which is the greater of two labels."""

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
"""Reviewed: they hold an estimator and delegate to it."""


def best(metric: TunedMetric, fitted: Any, features: Any, truth: ArrayLike) -> float:
    """The threshold with the highest metric on these rows; among equals the one nearest to 0.5."""
    chances = fitted.predict_proba(features)[:, -1]
    positive = np.asarray(truth) == fitted.classes_[-1]
    order = np.argsort(-chances, kind="stable")
    ranked = chances[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    # Candidates lie between two probabilities or above them all: the first one takes no row.
    edges = np.concatenate([[1.0], ranked[last], [0.0]])
    candidates = (edges[:-1] + edges[1:]) / 2
    true = np.append(0.0, np.cumsum(positive[order])[last])
    taken = np.append(0.0, last + 1.0)
    figures = _METRICS[metric](true, taken, float(positive.sum()), float(len(positive)))
    possible = candidates > np.append(ranked[last], -1.0)  # false at probabilities 1 and 0
    highest = candidates[possible & (figures >= figures[possible].max() - 1e-12)]
    return float(highest[np.argmin(np.abs(highest - 0.5))])


def apply(fitted: Model, threshold: float) -> Model:
    """The fitted model with `predict` deciding by the threshold; its probabilities are the same."""
    prepare, estimator = fitted["prepare"], fitted["model"]
    classes = estimator.classes_
    fixed = FixedThresholdClassifier(
        FrozenEstimator(estimator),
        threshold=threshold,
        pos_label=classes[-1].item() if hasattr(classes[-1], "item") else classes[-1],
        response_method="predict_proba",
    )
    # What `fit` would set, without a call that MLflow's autolog would record as a training.
    fixed.estimator_ = fixed.estimator
    return Model([("prepare", prepare), ("model", fixed)])


def inner(estimator: Any) -> Any:
    """The estimator without the wrapper of `apply` if it has one."""
    if isinstance(estimator, FixedThresholdClassifier):
        return estimator.estimator_.estimator
    return estimator


def fixed_threshold(estimator: Any) -> float | None:
    """The threshold that `apply` set, if any."""
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
