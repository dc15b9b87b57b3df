"""Metrics of a fitted model's predictions, weighted by row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics as sk

from tasks.pipeline.metrics import CALIBRATION, Task, of_task

Weights = NDArray[np.float64] | None
CALIBRATION_BINS = 10


@dataclass(frozen=True)
class Outcome:
    """The truth and a model's predictions for the same rows."""

    truth: NDArray[Any]
    """`(rows,)`: numbers, or indices of classes."""
    predicted: NDArray[Any]
    """The same for the model; -1 for a label that is in neither the truth nor its classes."""
    probabilities: NDArray[np.float64]
    """`(rows, classes)`; without columns if they were not needed."""
    positives: tuple[int, ...] = ()
    """The classes over which the metrics of one class are averaged; of two, only the greater."""

    def take(self, rows: NDArray[np.intp]) -> Outcome:
        """The same for some of the rows."""
        return replace(
            self,
            truth=self.truth[rows],
            predicted=self.predicted[rows],
            probabilities=self.probabilities[rows],
        )


def predict(
    model: Any, features: Any, truth: ArrayLike, task: Task, *, probabilities: bool = True
) -> Outcome:
    """The model's predictions; `truth` is `(rows,)`.

    Raises:
        ValueError: The model does not return one prediction per row.
    """
    predicted, truth = np.asarray(model.predict(features)), np.asarray(truth)
    if predicted.size != len(truth):
        raise ValueError(f"one prediction per row is needed, not an array {predicted.shape}")
    predicted = predicted.ravel()  # some models return a column
    if task == "regression":
        return Outcome(truth, predicted, np.empty((len(truth), 0)))
    known = pd.Index(model.classes_)
    # A class that the model never saw counts too, with probability 0.
    classes = known.union(pd.Index(truth).unique()).sort_values()
    chances = np.zeros((len(truth), len(classes) if probabilities else 0))
    if probabilities:
        chances[:, classes.get_indexer(known)] = model.predict_proba(features)
    codes, predicted_codes = classes.get_indexer(truth), classes.get_indexer(predicted)
    positives = (len(classes) - 1,) if task == "binary" else (*range(len(classes)),)
    return Outcome(codes, predicted_codes, chances, positives)


def score(metric: str, outcome: Outcome, weights: Weights = None) -> float:
    """One metric; `weights` is `(rows,)`."""
    return float(_FUNCTIONS[metric](outcome, weights))


def scores(task: Task, model: Any, features: Any, truth: ArrayLike) -> dict[str, float]:
    """Every metric of the task for a fitted model."""
    return figures(task, predict(model, features, truth, task))


def figures(task: Task, outcome: Outcome) -> dict[str, float]:
    """Every metric of the task."""
    return {name: score(name, outcome) for name in of_task(task)}


def is_finite(value: float) -> bool:
    """Whether a figure is finite: MLflow stores +inf as 1.797e308, so 1e300 and more is not."""
    return bool(np.isfinite(value)) and abs(value) < 1e300


def averaged_classes(outcome: Outcome) -> list[int]:
    """The classes over which `f1`, `precision` and `recall` are averaged: those that occur."""
    occur = np.union1d(outcome.truth, outcome.predicted)
    return [label for label in outcome.positives if label in occur] or list(outcome.positives)


def ranked_classes(outcome: Outcome) -> list[int]:
    """The classes over which `auc` and `average_precision` are averaged: on some rows, not all."""
    rows = {label: np.count_nonzero(outcome.truth == label) for label in outcome.positives}
    return [label for label, count in rows.items() if 0 < count < len(outcome.truth)]


def _on_values(function: Callable[..., float]) -> Callable[[Outcome, Weights], float]:
    return lambda outcome, weights: function(
        outcome.truth, outcome.predicted, sample_weight=weights
    )


def _on_labels(
    function: Callable[..., float], average: str = "macro"
) -> Callable[[Outcome, Weights], float]:
    return lambda outcome, weights: function(
        outcome.truth,
        outcome.predicted,
        labels=averaged_classes(outcome),
        average=average,
        sample_weight=weights,
        zero_division=0,
    )


def _on_ranks(
    function: Callable[..., float], *, weighted: bool = False
) -> Callable[[Outcome, Weights], float]:
    def mean(outcome: Outcome, weights: Weights) -> float:
        rows = np.bincount(outcome.truth, weights)
        classes = [label for label in ranked_classes(outcome) if rows[label] or not weighted]
        if not classes:
            return float("nan")
        each = [
            function(outcome.truth == label, outcome.probabilities[:, label], sample_weight=weights)
            for label in classes
        ]
        return float(np.average(each, weights=rows[classes] if weighted else None))

    return mean


def _log_loss(outcome: Outcome, weights: Weights) -> float:
    classes = range(outcome.probabilities.shape[1])
    return float(
        sk.log_loss(outcome.truth, outcome.probabilities, labels=[*classes], sample_weight=weights)
    )


def _brier(outcome: Outcome, weights: Weights) -> float:
    return float(np.average(squared_errors(outcome), weights=weights))


def squared_errors(outcome: Outcome) -> NDArray[np.float64]:
    """The Brier score of each row: the error of the positive class, or the sum over several."""
    hit = outcome.truth[:, None] == np.array(outcome.positives)
    errors = (outcome.probabilities[:, list(outcome.positives)] - hit) ** 2
    return np.asarray(errors.sum(axis=1))


def _calibration_error(outcome: Outcome, weights: Weights) -> float:
    """The mean distance between predicted probabilities and observed shares.

    Expected calibration error (Naeini, Cooper, Hauskrecht 2015) over bins with equally many rows:
    for a rare class, most bins of equal width would hold few rows.
    """
    rows = np.ones(len(outcome.truth)) if weights is None else weights
    errors = []
    for label in outcome.positives:
        chances = outcome.probabilities[:, label]
        edges = np.quantile(chances, np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1])
        bins = np.searchsorted(edges, chances)  # equal probabilities share a bin
        excess = np.bincount(bins, weights=rows * (chances - (outcome.truth == label)))
        errors.append(np.abs(excess).sum() / rows.sum())
    return float(np.mean(errors))


_FUNCTIONS: dict[str, Callable[[Outcome, Weights], float]] = {
    "rmse": _on_values(sk.root_mean_squared_error),
    "mse": _on_values(sk.mean_squared_error),
    "mae": _on_values(sk.mean_absolute_error),
    "r2": _on_values(sk.r2_score),
    "accuracy": _on_values(sk.accuracy_score),
    "f1": _on_labels(sk.f1_score),
    "f1_weighted": _on_labels(sk.f1_score, "weighted"),
    "precision": _on_labels(sk.precision_score),
    "precision_weighted": _on_labels(sk.precision_score, "weighted"),
    "recall": _on_labels(sk.recall_score),
    "recall_weighted": _on_labels(sk.recall_score, "weighted"),
    "auc": _on_ranks(sk.roc_auc_score),
    "auc_weighted": _on_ranks(sk.roc_auc_score, weighted=True),
    "average_precision": _on_ranks(sk.average_precision_score),
    "average_precision_weighted": _on_ranks(sk.average_precision_score, weighted=True),
    "log_loss": _log_loss,
    "brier": _brier,
    CALIBRATION: _calibration_error,
}
