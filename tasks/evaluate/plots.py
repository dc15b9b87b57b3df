"""Plots of a fitted model on the test part, by task."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay

from tasks.pipeline.schema import Task


def plots(task: Task, truth: Any, predicted: Any, target: str) -> dict[str, Figure]:
    """File name -> figure. `truth` and `predicted` are `(rows,)`, in the target's unit."""
    if task == "regression":
        return {
            "predicted_actual.png": _predicted_actual(truth, predicted, target),
            "residuals.png": _residuals(truth, predicted, target),
        }
    return {"confusion_matrix.png": _confusion(truth, predicted)}


def _axes(title: str, x: str, y: str) -> tuple[Figure, Any]:
    chart = Figure(figsize=(6, 5), layout="constrained")
    axes = chart.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(title=title, xlabel=x, ylabel=y)
    return chart, axes


def _predicted_actual(truth: Any, predicted: Any, target: str) -> Figure:
    chart, axes = _axes("Predicted against actual, test part", f"actual {target}", "predicted")
    ends = [min(np.min(truth), np.min(predicted)), max(np.max(truth), np.max(predicted))]
    axes.plot(ends, ends, color="#999999", linewidth=1)
    axes.scatter(truth, predicted, s=18, alpha=0.7, color="#1f6fb2", edgecolors="none")
    return chart


def _residuals(truth: Any, predicted: Any, target: str) -> Figure:
    chart, axes = _axes("Residuals, test part", f"predicted {target}", "actual - predicted")
    axes.axhline(0, color="#999999", linewidth=1)
    residuals = np.asarray(truth) - np.asarray(predicted)
    axes.scatter(predicted, residuals, s=18, alpha=0.7, color="#1f6fb2", edgecolors="none")
    return chart


def _confusion(truth: Any, predicted: Any) -> Figure:
    chart, axes = _axes("Confusion matrix, test part", "", "")
    ConfusionMatrixDisplay.from_predictions(truth, predicted, ax=axes, colorbar=False, cmap="Blues")
    return chart
