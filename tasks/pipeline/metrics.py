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
    **dict.fromkeys(
        ("accuracy", "auc", "average_precision", "f1", "precision", "recall"), MAXIMIZE
    ),
    **dict.fromkeys(("log_loss", "brier"), MINIMIZE),
}
"""Metrics of one class are those of the greater one."""
OF_RANKS = frozenset({"auc", "average_precision"})
"""Metrics of the order of the rows by the probability of a class."""
WEIGHTED = {f"{name}_weighted": name for name in (*OF_RANKS, "f1", "precision", "recall")}
MULTICLASS = BINARY | dict.fromkeys(sorted(WEIGHTED), MAXIMIZE)
"""Metrics of one class are averaged over the classes, equally or weighted by their rows."""
DIRECTIONS = REGRESSION | MULTICLASS
CALIBRATION = "calibration_error"
"""Only for the gate's thresholds: a constant prediction can have the best value."""
PROBABILITIES = frozenset(
    {*OF_RANKS, *(f"{name}_weighted" for name in OF_RANKS), "log_loss", "brier", CALIBRATION}
)
"""Metrics of predicted probabilities; the others take predicted values or labels."""


def of_task(task: Task) -> dict[str, Direction]:
    """The metrics of a task, with their directions."""
    return {"regression": REGRESSION, "binary": BINARY, "multiclass": MULTICLASS}[task]


def of_thresholds(task: Task) -> dict[str, Direction]:
    """The metrics that the gate can limit, with their directions."""
    return of_task(task) | ({} if task == "regression" else {CALIBRATION: MINIMIZE})
