"""Plots of a fitted model on the test part, by task."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    average_precision_score,
    confusion_matrix,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from tasks.models import metrics
from tasks.models.metrics import Outcome
from tasks.pipeline.metrics import Task

BLUE, GREY = "#1f6fb2", "#999999"
BINS = 10
"""Bins of the calibration plot, each with the same number of rows."""


def plots(task: Task, outcome: Outcome, classes: list[str], target: str) -> dict[str, Figure]:
    """File name -> figure. `classes` are the labels behind the numbers of `outcome`."""
    if task == "regression":
        return {
            "predicted_actual.png": _predicted_actual(outcome.truth, outcome.predicted, target),
            "residuals.png": _residuals(outcome.truth, outcome.predicted, target),
        }
    names = {label: classes[label] for label in metrics.ranked_classes(outcome)}
    return {
        "confusion_matrix.png": _confusion(outcome, classes, target),
        "roc.png": _roc(outcome, names),
        "precision_recall.png": _precision_recall(outcome, names),
        "calibration.png": _calibration(outcome, names),
    }


def _axes(title: str, x: str, y: str) -> tuple[Figure, Any]:
    chart = Figure(figsize=(6, 5), layout="constrained")
    axes = chart.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set(title=title, xlabel=x, ylabel=y)
    return chart, axes


def _predicted_actual(truth: Any, predicted: Any, target: str) -> Figure:
    chart, axes = _axes("Predicted against actual, test part", f"actual {target}", "predicted")
    ends = [min(np.min(truth), np.min(predicted)), max(np.max(truth), np.max(predicted))]
    axes.plot(ends, ends, color=GREY, linewidth=1)
    axes.scatter(truth, predicted, s=18, alpha=0.7, color=BLUE, edgecolors="none")
    return chart


def _residuals(truth: Any, predicted: Any, target: str) -> Figure:
    chart, axes = _axes("Residuals, test part", f"predicted {target}", "actual - predicted")
    axes.axhline(0, color=GREY, linewidth=1)
    residuals = np.asarray(truth) - np.asarray(predicted)
    axes.scatter(predicted, residuals, s=18, alpha=0.7, color=BLUE, edgecolors="none")
    return chart


def _confusion(outcome: Outcome, classes: list[str], target: str) -> Figure:
    chart, axes = _axes("Confusion matrix, test part", "", "")
    counts = confusion_matrix(outcome.truth, outcome.predicted, labels=range(len(classes)))
    ConfusionMatrixDisplay(counts, display_labels=classes).plot(
        ax=axes, colorbar=False, cmap="Blues"
    )
    axes.set(xlabel=f"predicted {target}", ylabel=f"actual {target}")
    return chart


def _roc(outcome: Outcome, names: dict[int, str]) -> Figure:
    chart, axes = _axes("ROC, test part", "false positive rate", "true positive rate")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    for label, name in names.items():
        truth, chances = outcome.truth == label, outcome.probabilities[:, label]
        false, true, _ = roc_curve(truth, chances)
        axes.plot(false, true, label=f"{name}: area {roc_auc_score(truth, chances):.3f}")
    return _legend(chart, axes, "lower right")


def _precision_recall(outcome: Outcome, names: dict[int, str]) -> Figure:
    chart, axes = _axes("Precision and recall, test part", "recall", "precision")
    for label, name in names.items():
        truth, chances = outcome.truth == label, outcome.probabilities[:, label]
        precision, recall, _ = precision_recall_curve(truth, chances)
        average = average_precision_score(truth, chances)
        (line,) = axes.step(
            recall, precision, where="post", label=f"{name}: average precision {average:.3f}"
        )
        axes.axhline(truth.mean(), color=line.get_color(), linewidth=1, linestyle=":")
    axes.set_ylim(0, 1.02)
    return _legend(chart, axes, "lower left")


def _calibration(outcome: Outcome, names: dict[int, str]) -> Figure:
    chart, axes = _axes("Calibration, test part", "predicted probability", "share of the rows")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    for label, name in names.items():
        share, chance = calibration_curve(
            outcome.truth == label,
            np.clip(outcome.probabilities[:, label], 0, 1),
            n_bins=BINS,
            strategy="quantile",
        )
        axes.plot(chance, share, marker="o", markersize=4, label=name)
    return _legend(chart, axes, "upper left")


def _legend(chart: Figure, axes: Any, place: str) -> Figure:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc=place, frameon=False)
    return chart
