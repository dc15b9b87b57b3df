"""Metrics as functions of truth, prediction and row weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn import metrics as sk

from tasks.pipeline.metrics import of_task
from tasks.pipeline.schema import Task

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "rmse": sk.root_mean_squared_error,
    "mse": sk.mean_squared_error,
    "mae": sk.mean_absolute_error,
    "r2": sk.r2_score,
    "accuracy": sk.accuracy_score,
    "f1": lambda y, p, sample_weight=None: sk.f1_score(
        y, p, average="macro", sample_weight=sample_weight
    ),
    "log_loss": sk.log_loss,
}
PROBABILITIES = frozenset({"log_loss"})
"""Metrics of predicted probabilities; the others take predicted values or labels."""


def predictions(model: Any, features: Any, metric: str) -> Any:
    """What `metric` compares with the truth: `(rows,)` values or labels, or `(rows, classes)`."""
    return model.predict_proba(features) if metric in PROBABILITIES else model.predict(features)


def score(
    metric: str, truth: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None
) -> float:
    """One metric; `weights` has one entry a row."""
    return float(FUNCTIONS[metric](truth, predicted, sample_weight=weights))


def scores(task: Task, model: Any, features: Any, truth: ArrayLike) -> dict[str, float]:
    """Every metric of the task for a fitted model."""
    cache: dict[bool, Any] = {}
    result: dict[str, float] = {}
    for name in of_task(task):
        kind = name in PROBABILITIES
        if kind not in cache:
            cache[kind] = predictions(model, features, name)
        result[name] = score(name, truth, cache[kind])
    return result


def is_finite(value: float) -> bool:
    """Whether a figure is one: MLflow stores +inf as 1.797e308, so 1e300 and more is not."""
    return bool(np.isfinite(value)) and abs(value) < 1e300
