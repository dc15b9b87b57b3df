"""Names of the metrics, without the libraries that compute them (`tasks.metrics` does)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tasks.pipeline.schema import Task

MetricName = Literal["rmse", "mse", "mae", "r2", "accuracy", "f1", "log_loss"]
Direction = Literal["minimize", "maximize"]
MINIMIZE: Literal["minimize"] = "minimize"
MAXIMIZE: Literal["maximize"] = "maximize"

REGRESSION: dict[str, Direction] = {
    "rmse": MINIMIZE,
    "mse": MINIMIZE,
    "mae": MINIMIZE,
    "r2": MAXIMIZE,
}
CLASSIFICATION: dict[str, Direction] = {
    "accuracy": MAXIMIZE,
    "f1": MAXIMIZE,
    "log_loss": MINIMIZE,
}
DIRECTIONS = REGRESSION | CLASSIFICATION


def of_task(task: Task) -> dict[str, Direction]:
    """The metrics of a task, each with its direction."""
    return REGRESSION if task == "regression" else CLASSIFICATION
