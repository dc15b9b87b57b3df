"""What one trial does: fit a point's model and score it on rows that it did not see."""

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
"""Characters of an error, which must fit into an MLflow tag."""

NOISE = (
    DeprecationWarning,
    PendingDeprecationWarning,
    FutureWarning,
    ImportWarning,
    ResourceWarning,
)
"""Warnings for developers; the others are about this fit."""

Curves = dict[str, list[float]]
"""Figures of each epoch, by name."""


@dataclass(frozen=True)
class Scored:
    """The figures and curves of a point."""

    figures: dict[str, float]
    curves: Curves


@dataclass(frozen=True)
class Objective:
    """Gives the figures of a point: always the same for the same point and seed.

    `halves` are the rows to fit on and the rows to score, one pair per fold.
    """

    pipeline: Pipeline
    halves: tuple[tuple[Rows, Rows], ...]
    threads: int

    def __call__(self, params: dict[str, Any], seed: int) -> Scored:
        """`training_*` and `val_*` of every metric of the task: means over folds, with `_std`.

        What the validation rows decided is included, such as the threshold.
        """
        folds = [self._score(fit, score, params, seed) for fit, score in self.halves]
        values = {name: [fold.figures[name] for fold in folds] for name in folds[0].figures}
        figures = {name: float(np.mean(each)) for name, each in values.items()}
        if len(folds) > 1:
            figures |= {
                f"{name}_std": float(np.std(each))
                for name, each in values.items()
                if name.startswith("val_")
            }
        return Scored(figures, _mean_curves([fold.curves for fold in folds]))

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
    """The objective on a snapshot, whose parts are read once.

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
    """Split the rows `count` times; a unit is never divided between the two sides.

    Each fold has its share of each of the `classes`, as far as whole units allow.

    Raises:
        UserError: There are fewer units than folds, or too few of each class.
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
    """The outcome of one trial, as the table stores it."""
    began = time.perf_counter()
    scored, unfit = Scored({}, {}), "failed"
    figure = error = None
    with _recorded_warnings() as messages:
        try:
            scored = objective(params, seed)
        except MemoryError as err:
            unfit, error = "killed", f"It asked for more memory than there is.\n{_described(err)}"
        except Exception as err:  # noqa: BLE001 - whatever an estimator raises is the trial's outcome
            error = _described(err)
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
        "warnings": "\n".join(dict.fromkeys(map(_one_line, messages)))[:LONGEST_ERROR] or None,
    }


def _finite(curve: Sequence[float]) -> list[float]:
    """The curve up to its first value that is not finite: JSON and MLflow cannot hold that."""
    return [float(value) for value in takewhile(metrics.is_finite, curve)]


def _mean_curves(each: Sequence[Curves]) -> Curves:
    """Means over the folds, up to the length of the shortest."""
    return {
        name: [
            float(np.mean(epoch)) for epoch in zip(*(curves[name] for curves in each), strict=False)
        ]
        for name in each[0]
    }


@contextmanager
def _recorded_warnings() -> Iterator[list[str]]:
    """Collect what libraries warn of, through `warnings` or through `logging`."""
    messages: list[str] = []
    handler = _WarningCollector(messages)
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield messages
    finally:
        logging.getLogger().removeHandler(handler)
    messages[:0] = [
        f"{warning.category.__name__}: {warning.message}"
        for warning in caught
        if not issubclass(warning.category, NOISE)
    ]


class _WarningCollector(logging.Handler):
    """Collects warnings and errors of loggers that are not ours."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._messages = messages

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith("tasks."):
            self._messages.append(f"{record.name}: {record.getMessage()}")


def _validation(manifest: Manifest) -> pd.DataFrame:
    rows = read_part(manifest, "validation")
    if rows.empty:
        raise UserError(
            "The snapshot has no validation part, which resampling 'holdout' scores on.",
            fix="Set split.validation, or search.resampling to {folds: 5}.",
        )
    return rows


def _one_line(text: str) -> str:
    """A warning on one line: the tag has a line for each, and the report a row."""
    return " ".join(text.split())


def _described(err: Exception) -> str:
    """The error, followed by its traceback."""
    first = f"{type(err).__name__}: {err}"[: LONGEST_ERROR // 2]
    trace = "".join(traceback.format_tb(err.__traceback__))
    return f"{first}\n\n{trace[-(LONGEST_ERROR - len(first) - 2) :]}"
