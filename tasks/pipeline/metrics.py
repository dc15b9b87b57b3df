"""Names of the metrics, without the libraries that compute them (`tasks.models.metrics` does)."""

from __future__ import annotations

from typing import Literal

Task = Literal["regression", "binary", "multiclass"]
MetricName = Literal[
    "rmse", "mse", "mae", "r2",
    "accuracy", "auc", "auc_weighted", "average_precision", "average_precision_weighted",
    "f1", "f1_weighted", "precision", "precision_weighted", "recall", "recall_weighted",
    "log_loss", "brier",
]  # fmt: skip
Direction = Literal["minimize", "maximize"]
MINIMIZE: Literal["minimize"] = "minimize"
MAXIMIZE: Literal["maximize"] = "maximize"

REGRESSION: dict[str, Direction] = {
    "rmse": MINIMIZE,
    "mse": MINIMIZE,
    "mae": MINIMIZE,
    "r2": MAXIMIZE,
}
BINARY: dict[str, Direction] = {
    "accuracy": MAXIMIZE,
    "auc": MAXIMIZE,
    "average_precision": MAXIMIZE,
    "f1": MAXIMIZE,
    "precision": MAXIMIZE,
    "recall": MAXIMIZE,
    "log_loss": MINIMIZE,
    "brier": MINIMIZE,
}
"""Of one class: of the two, the greater."""
OF_RANKS = frozenset({"auc", "average_precision"})
"""Metrics of the order in which a class's probabilities put the rows."""
WEIGHTED = {f"{name}_weighted": name for name in (*OF_RANKS, "f1", "precision", "recall")}
MULTICLASS = BINARY | dict.fromkeys(sorted(WEIGHTED), MAXIMIZE)
"""Of one class: averaged over the classes, each counting the same, or weighted by its rows."""
DIRECTIONS = REGRESSION | MULTICLASS
CALIBRATION = "calibration_error"
"""For the gate's thresholds alone: a constant can have the best."""
PROBABILITIES = frozenset(
    {*OF_RANKS, *(f"{name}_weighted" for name in OF_RANKS), "log_loss", "brier", CALIBRATION}
)
"""Metrics of predicted probabilities; the others take predicted values or labels."""


def of_task(task: Task) -> dict[str, Direction]:
    """The metrics of a task, each with its direction."""
    return {"regression": REGRESSION, "binary": BINARY, "multiclass": MULTICLASS}[task]


def of_thresholds(task: Task) -> dict[str, Direction]:
    """What the gate can set a limit to, each with its direction."""
    return of_task(task) | ({} if task == "regression" else {CALIBRATION: MINIMIZE})
