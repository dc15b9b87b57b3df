"""What one trial does: fit a point's model, score it on rows that it did not see."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from tasks import metrics, model
from tasks.errors import UserError
from tasks.pipeline.schema import Folds, Pipeline
from tasks.prepare.snapshot import UNIT, Manifest, read_manifest, read_part

LONGEST_ERROR = 5000
"""Characters; what a tag of MLflow should hold."""


@dataclass(frozen=True)
class Rows:
    """Features, `(rows, columns)`, and the truth, `(rows,)`."""

    features: pd.DataFrame
    truth: pd.Series[Any]


@dataclass(frozen=True)
class Objective:
    """The figures of a point, always the same for the same point and seed.

    `halves` are the rows to fit on and the rows to score, one pair a fold.
    """

    pipeline: Pipeline
    halves: tuple[tuple[Rows, Rows], ...]
    threads: int

    def __call__(self, params: dict[str, Any], seed: int) -> dict[str, float]:
        """`training_*` and `val_*` of every metric of the task: means over folds, with `_std`."""
        scored = [self._scores(fit, score, params, seed) for fit, score in self.halves]
        figures = {name: float(np.mean([one[name] for one in scored])) for name in scored[0]}
        if len(scored) > 1:
            figures |= {
                f"{name}_std": float(np.std([one[name] for one in scored]))
                for name in scored[0]
                if name.startswith("val_")
            }
        return figures

    def loss(self, figure: float) -> float:
        """What the search minimises."""
        return figure if self.pipeline.metric.direction == "minimize" else -figure

    def _scores(
        self, fit: Rows, score: Rows, params: dict[str, Any], seed: int
    ) -> dict[str, float]:
        fitted = model.build(self.pipeline, params, seed, self.threads)
        fitted.fit(fit.features, fit.truth)
        task = self.pipeline.data.task
        figures: dict[str, float] = {}
        for prefix, rows in (("training", fit), ("val", score)):
            scores = metrics.scores(task, fitted, rows.features, rows.truth)
            figures |= {f"{prefix}_{name}": value for name, value in scores.items()}
        return figures


def load(pipeline: Pipeline, snapshot: str, threads: int) -> Objective:
    """The objective on a snapshot, its parts read once.

    Raises:
        UserError: The snapshot cannot serve the pipeline's resampling.
    """
    manifest = read_manifest(snapshot)
    train = read_part(manifest, "train")
    resampling = pipeline.search.resampling
    if isinstance(resampling, Folds):
        halves = tuple(folds(train, resampling.folds, pipeline.search.seed))
    else:
        halves = ((train, _validation(manifest)),)
    rows = tuple((_rows(pipeline, fit), _rows(pipeline, score)) for fit, score in halves)
    return Objective(pipeline, rows, threads)


def folds(
    train: pd.DataFrame, count: int, seed: int
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Split the rows `count` times; a unit is always on one side as a whole.

    Raises:
        UserError: There are fewer units than folds.
    """
    units = train[UNIT].nunique()
    if units < count:
        raise UserError(
            f"The 'folds' of the search must be at most {units}, the units of the training part. "
            f"Got {count} instead."
        )
    splitter = GroupKFold(count, shuffle=True, random_state=seed)
    for fit, score in splitter.split(train, groups=train[UNIT]):
        yield train.iloc[fit], train.iloc[score]


def attempt(objective: Objective, params: dict[str, Any], seed: int) -> dict[str, Any]:
    """The outcome of one trial, as the table keeps it."""
    began = time.perf_counter()
    figures: dict[str, float] = {}
    figure = error = None
    try:
        figures = objective(params, seed)
    except Exception as err:  # noqa: BLE001 - whatever an estimator raises is the trial's outcome
        error = _told(err)
    else:
        name = f"val_{objective.pipeline.metric.name}"
        figure = figures[name]
        if not metrics.is_finite(figure):
            figure, error = None, f"The figure {name} is not finite: {figure}."
    figures["duration_s"] = time.perf_counter() - began
    return {
        "outcome": "finished" if figure is not None else "failed",
        "figure": figure,
        "loss": None if figure is None else objective.loss(figure),
        "metrics": {name: value for name, value in figures.items() if metrics.is_finite(value)},
        "error": error,
    }


def _validation(manifest: Manifest) -> pd.DataFrame:
    rows = read_part(manifest, "validation")
    if rows.empty:
        raise UserError(
            "The snapshot has no validation part, which resampling 'holdout' scores on.",
            fix="Set split.validation, or search.resampling to {folds: 5}.",
        )
    return rows


def _rows(pipeline: Pipeline, part: pd.DataFrame) -> Rows:
    return Rows(part[list(pipeline.feature_names)], part[pipeline.data.target])


def _told(err: Exception) -> str:
    """The error, then where it came from."""
    first = f"{type(err).__name__}: {err}"[: LONGEST_ERROR // 2]
    trace = "".join(traceback.format_tb(err.__traceback__))
    return f"{first}\n\n{trace[-(LONGEST_ERROR - len(first) - 2) :]}"
