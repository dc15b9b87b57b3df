"""Metrics of a fitted model's answers, weighted by row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    """Truth and a model's answers for the same rows."""

    truth: NDArray[Any]
    """`(rows,)`: numbers, or numbers of classes."""
    predicted: NDArray[Any]
    """The same of the model; -1 for a class that nobody else knows."""
    probabilities: NDArray[np.float64]
    """`(rows, classes)`; no columns where nothing asks for them."""
    positives: tuple[int, ...] = ()
    """The classes over which a figure of one class is averaged: of two, the greater alone."""


def outcome(
    model: Any, features: Any, truth: ArrayLike, task: Task, *, probabilities: bool = True
) -> Outcome:
    """The model's answers; `truth` is `(rows,)`.

    Raises:
        ValueError: The model does not give one answer a row.
    """
    answers, truth = np.asarray(model.predict(features)), np.asarray(truth)
    if answers.size != len(truth):
        raise ValueError(f"one answer a row is needed, not an array {answers.shape}")
    answers = answers.ravel()  # some give a column
    if task == "regression":
        return Outcome(truth, answers, np.empty((len(truth), 0)))
    known = pd.Index(model.classes_)
    # A class that the model never saw is one all the same; it gave it no chance.
    classes = known.union(pd.Index(truth).unique()).sort_values()
    chances = np.zeros((len(truth), len(classes) if probabilities else 0))
    if probabilities:
        chances[:, classes.get_indexer(known)] = model.predict_proba(features)
    coded, answered = classes.get_indexer(truth), classes.get_indexer(answers)
    last = len(classes) - 1
    return Outcome(coded, answered, chances, (last,) if task == "binary" else (*range(last + 1),))


def score(metric: str, found: Outcome, weights: Weights = None) -> float:
    """One metric; `weights` has one entry a row."""
    return float(_FUNCTIONS[metric](found, weights))


def scores(task: Task, model: Any, features: Any, truth: ArrayLike) -> dict[str, float]:
    """Every metric of the task for a fitted model."""
    return figures(task, outcome(model, features, truth, task))


def figures(task: Task, found: Outcome) -> dict[str, float]:
    """Every metric of the task."""
    return {name: score(name, found) for name in of_task(task)}


def is_finite(value: float) -> bool:
    """Whether a figure is one: MLflow stores +inf as 1.797e308, so 1e300 and more is not."""
    return bool(np.isfinite(value)) and abs(value) < 1e300


def labels(found: Outcome) -> list[int]:
    """The classes over which `f1`, `precision` and `recall` are averaged: those that occur."""
    occur = np.union1d(found.truth, found.predicted)
    return [one for one in found.positives if one in occur] or list(found.positives)


def ranked(found: Outcome) -> list[int]:
    """The classes over which `auc` and `average_precision` are averaged: of some rows, not all."""
    rows = {one: np.count_nonzero(found.truth == one) for one in found.positives}
    return [one for one, count in rows.items() if 0 < count < len(found.truth)]


def _of_values(function: Callable[..., float]) -> Callable[[Outcome, Weights], float]:
    return lambda found, weights: function(found.truth, found.predicted, sample_weight=weights)


def _of_labels(
    function: Callable[..., float], average: str = "macro"
) -> Callable[[Outcome, Weights], float]:
    return lambda found, weights: function(
        found.truth,
        found.predicted,
        labels=labels(found),
        average=average,
        sample_weight=weights,
        zero_division=0,
    )


def _of_ranks(
    function: Callable[..., float], *, weighted: bool = False
) -> Callable[[Outcome, Weights], float]:
    def mean(found: Outcome, weights: Weights) -> float:
        rows = np.bincount(found.truth, weights)
        classes = [one for one in ranked(found) if rows[one] or not weighted]
        if not classes:
            return float("nan")
        each = [
            function(found.truth == one, found.probabilities[:, one], sample_weight=weights)
            for one in classes
        ]
        return float(np.average(each, weights=rows[classes] if weighted else None))

    return mean


def _log_loss(found: Outcome, weights: Weights) -> float:
    classes = range(found.probabilities.shape[1])
    return float(
        sk.log_loss(found.truth, found.probabilities, labels=[*classes], sample_weight=weights)
    )


def _brier(found: Outcome, weights: Weights) -> float:
    return float(np.average(squares(found), weights=weights))


def squares(found: Outcome) -> NDArray[np.float64]:
    """Brier's score of each row: of two classes the positive one's error, of more the sum."""
    hit = found.truth[:, None] == np.array(found.positives)
    errors = (found.probabilities[:, list(found.positives)] - hit) ** 2
    return np.asarray(errors.sum(axis=1))


def _calibration_error(found: Outcome, weights: Weights) -> float:
    """How far the probabilities are from the shares of rows, on average over the rows.

    Expected calibration error (Naeini, Cooper, Hauskrecht 2015) over bins of equally many rows:
    equally wide ones would leave most of them to a few rows where a class is rare.
    """
    rows = np.ones(len(found.truth)) if weights is None else weights
    errors = []
    for one in found.positives:
        chances = found.probabilities[:, one]
        edges = np.quantile(chances, np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1])
        bins = np.searchsorted(edges, chances)  # equal probabilities are in one bin
        excess = np.bincount(bins, weights=rows * (chances - (found.truth == one)))
        errors.append(np.abs(excess).sum() / rows.sum())
    return float(np.mean(errors))


_FUNCTIONS: dict[str, Callable[[Outcome, Weights], float]] = {
    "rmse": _of_values(sk.root_mean_squared_error),
    "mse": _of_values(sk.mean_squared_error),
    "mae": _of_values(sk.mean_absolute_error),
    "r2": _of_values(sk.r2_score),
    "accuracy": _of_values(sk.accuracy_score),
    "f1": _of_labels(sk.f1_score),
    "f1_weighted": _of_labels(sk.f1_score, "weighted"),
    "precision": _of_labels(sk.precision_score),
    "precision_weighted": _of_labels(sk.precision_score, "weighted"),
    "recall": _of_labels(sk.recall_score),
    "recall_weighted": _of_labels(sk.recall_score, "weighted"),
    "auc": _of_ranks(sk.roc_auc_score),
    "auc_weighted": _of_ranks(sk.roc_auc_score, weighted=True),
    "average_precision": _of_ranks(sk.average_precision_score),
    "average_precision_weighted": _of_ranks(sk.average_precision_score, weighted=True),
    "log_loss": _log_loss,
    "brier": _brier,
    CALIBRATION: _calibration_error,
}
