"""What one trial does: fit a point's model, score it on rows that it did not see."""

from __future__ import annotations

import logging
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold
from typing_extensions import override

from tasks.base.errors import UserError
from tasks.data import split
from tasks.models import fitting, metrics
from tasks.models.fitting import Rows
from tasks.pipeline.schema import Folds, Pipeline
from tasks.records.snapshots import UNIT, Manifest, read_manifest, read_part

LONGEST_ERROR = 5000
"""Characters; what a tag of MLflow should hold."""


NOISE = (
    DeprecationWarning,
    PendingDeprecationWarning,
    FutureWarning,
    ImportWarning,
    ResourceWarning,
)
"""Warnings for those who write code; the others are about this fit."""

Curves = dict[str, list[float]]
"""Figures of each epoch, by name."""


@dataclass(frozen=True)
class Scored:
    """What a point came to."""

    figures: dict[str, float]
    curves: Curves


@dataclass(frozen=True)
class Objective:
    """The figures of a point, always the same for the same point and seed.

    `halves` are the rows to fit on and the rows to score, one pair a fold.
    """

    pipeline: Pipeline
    halves: tuple[tuple[Rows, Rows], ...]
    threads: int

    def __call__(self, params: dict[str, Any], seed: int) -> Scored:
        """`training_*` and `val_*` of every metric of the task: means over folds, with `_std`.

        Beside them stands what the validation rows decided, such as the threshold.
        """
        each = [self._score(fit, score, params, seed) for fit, score in self.halves]
        figures = {
            name: float(np.mean([one.figures[name] for one in each])) for name in each[0].figures
        }
        if len(each) > 1:
            figures |= {
                f"{name}_std": float(np.std([one.figures[name] for one in each]))
                for name in each[0].figures
                if name.startswith("val_")
            }
        return Scored(figures, _mean_curves([one.curves for one in each]))

    def loss(self, figure: float) -> float:
        """What the search minimises."""
        return figure if self.pipeline.metric.direction == "minimize" else -figure

    def _score(self, fit: Rows, score: Rows, params: dict[str, Any], seed: int) -> Scored:
        fitted = fitting.fit(self.pipeline, params, fit, score, seed=seed, threads=self.threads)
        task = self.pipeline.data.task
        figures = dict(fitted.chosen)
        for prefix, rows in (("training", fit), ("val", score)):
            scores = metrics.scores(task, fitted.model, rows.features, rows.truth)
            figures |= {f"{prefix}_{name}": value for name, value in scores.items()}
        curves = getattr(fitting.inner(fitted.model), "curves_", {})
        return Scored(figures, {name: _finite(curve) for name, curve in curves.items()})


def load(pipeline: Pipeline, snapshot: str, threads: int) -> Objective:
    """The objective on a snapshot, its parts read once.

    Raises:
        UserError: The snapshot cannot serve the pipeline's resampling, or has other classes.
    """
    manifest = read_manifest(snapshot)
    train = read_part(manifest, "train")
    fitting.check_class_weights(pipeline, train[pipeline.data.target])
    resampling = pipeline.search.resampling
    if isinstance(resampling, Folds):
        classes = None if pipeline.data.task == "regression" else train[pipeline.data.target]
        halves = tuple(folds(train, resampling.folds, pipeline.search.seed, classes))
    else:
        halves = ((train, _validation(manifest)),)
    rows = tuple(
        (Rows.from_part(pipeline, fit), Rows.from_part(pipeline, score)) for fit, score in halves
    )
    return Objective(pipeline, rows, threads)


def folds(
    train: pd.DataFrame, count: int, seed: int, classes: pd.Series[Any] | None = None
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Split the rows `count` times; a unit is always on one side as a whole.

    Each fold has its share of each of the `classes`, as far as whole units allow.

    Raises:
        UserError: There are fewer units than folds, or fewer of each class.
    """
    units = train[UNIT].nunique()
    if units < count:
        raise UserError(
            f"The 'folds' of the search must be at most {units}, the units of the training part. "
            f"Got {count} instead."
        )
    if classes is None:
        pairs = GroupKFold(count, shuffle=True, random_state=seed).split(train, groups=train[UNIT])
    else:
        codes = pd.factorize(classes)[0]
        try:
            fold = split.stratified_folds(train[UNIT].to_numpy(), codes, count, seed)
        except ValueError as err:
            raise UserError(
                f"The training part cannot be split into {count} folds by class.",
                why=str(err),
                fix="Give more data, or fewer folds under search.resampling.",
            ) from err
        pairs = ((np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(count))
    for fit, score in pairs:
        yield train.iloc[fit], train.iloc[score]


def attempt(objective: Objective, params: dict[str, Any], seed: int) -> dict[str, Any]:
    """The outcome of one trial, as the table keeps it."""
    began = time.perf_counter()
    scored, unfit = Scored({}, {}), "failed"
    figure = error = None
    with _heard() as told:
        try:
            scored = objective(params, seed)
        except MemoryError as err:
            unfit, error = "killed", f"It asked for more memory than there is.\n{_told(err)}"
        except Exception as err:  # noqa: BLE001 - whatever an estimator raises is the trial's outcome
            error = _told(err)
    if error is None:
        name = f"val_{objective.pipeline.metric.name}"
        figure = scored.figures[name]
        if not metrics.is_finite(figure):
            figure, error = None, f"The figure {name} is not finite: {figure}."
    figures = scored.figures | {"duration_s": time.perf_counter() - began}
    return {
        "outcome": "finished" if figure is not None else unfit,
        "figure": figure,
        "loss": None if figure is None else objective.loss(figure),
        "metrics": {name: value for name, value in figures.items() if metrics.is_finite(value)},
        "error": error,
        "curves": scored.curves,
        "warnings": "\n".join(dict.fromkeys(map(_one_line, told)))[:LONGEST_ERROR] or None,
    }


def _finite(curve: Sequence[float]) -> list[float]:
    """As far as it is finite: what comes behind, neither JSON nor MLflow can hold."""
    return [float(value) for value in takewhile(metrics.is_finite, curve)]


def _mean_curves(each: Sequence[Curves]) -> Curves:
    """Means over the folds, as far as the shortest goes."""
    return {
        name: [float(np.mean(epoch)) for epoch in zip(*(one[name] for one in each), strict=False)]
        for name in each[0]
    }


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What libraries warn of meanwhile, through `warnings` or through `logging`."""
    told: list[str] = []
    ear = _Ear(told)
    logging.getLogger().addHandler(ear)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield told
    finally:
        logging.getLogger().removeHandler(ear)
    told[:0] = [
        f"{one.category.__name__}: {one.message}"
        for one in warned
        if not issubclass(one.category, NOISE)
    ]


class _Ear(logging.Handler):
    """Keeps warnings and errors of other loggers than ours."""

    def __init__(self, told: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._told = told

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith("tasks."):
            self._told.append(f"{record.name}: {record.getMessage()}")


def _validation(manifest: Manifest) -> pd.DataFrame:
    rows = read_part(manifest, "validation")
    if rows.empty:
        raise UserError(
            "The snapshot has no validation part, which resampling 'holdout' scores on.",
            fix="Set split.validation, or search.resampling to {folds: 5}.",
        )
    return rows


def _one_line(text: str) -> str:
    """A warning as the tag keeps it, where each has a line and the report a row."""
    return " ".join(text.split())


def _told(err: Exception) -> str:
    """The error, then where it came from."""
    first = f"{type(err).__name__}: {err}"[: LONGEST_ERROR // 2]
    trace = "".join(traceback.format_tb(err.__traceback__))
    return f"{first}\n\n{trace[-(LONGEST_ERROR - len(first) - 2) :]}"
